"""What a run on images says: its curves with standard errors, its minima with intervals, a table and one sentence."""

from typing import Any

import numpy as np
import xarray as xr

from hierdiff.measures.probe import in_groups
from hierdiff.onset import first_significant, last_significant_minimum, locate_minimum
from hierdiff.replicates import Statistics, replicate
from hierdiff.summary import (
    Reading,
    from_onset_to_best,
    how_to_read,
    interval,
    locate,
    onset_of,
    plain,
    stopping,
    two_minima,
    with_interval,
)


def sets_of(results: xr.Dataset) -> dict[str, np.ndarray]:
    """The training sets of each network and of each pair; network i is trained on set i."""
    pairs = np.stack([results["first"].values, results["second"].values], axis=1)
    return {"network": np.arange(results.sizes["network"])[:, None], "pair": pairs}


def statistics(results: xr.Dataset) -> Statistics:
    """Means over networks or pairs and images, with replicates that leave one network out.

    `slope` and `scale_distance` are ratios of means. The last, `|z_A - z_B|^2 / (|z_A|^2 + |z_B|^2)` at one scale, is 1
    minus the cosine where the two are equally large.
    """

    def derive(x: xr.Dataset) -> xr.Dataset:
        return x.assign(slope=x.slope / x.empirical, scale_distance=0.5 * x.scale_split / x.scale_power)

    return replicate(results.data_vars, sets_of(results)).derive(derive)


def sample_statistics(samples: xr.Dataset) -> Statistics:
    """The same of the images generated at each snapshot.

    `apart` is 1 minus the inner product of two standardised samples from the same noise; `nearer` by how much samples
    lie nearer to the own training set than to another.
    """
    apart = xr.DataArray(in_groups(1 - samples.alike.values), dims=("step", "pair", "group"))
    means = {name: samples[name] for name in ("own_nearest", "other_nearest", "copied")}
    found = replicate({**means, "apart": apart.assign_coords(step=samples.step)}, sets_of(samples))
    return found.derive(lambda x: x.assign(nearer=x.other_nearest - x.own_nearest))


def median_apart(samples: xr.Dataset) -> xr.DataArray:
    """1 minus the median inner product over all pairs and starts (arXiv 2603.03469, figure 1a)."""
    return 1 - samples.alike.median(("pair", "start"))


def summarise(
    found: Statistics, of_samples: Statistics | None, *, onset_noise: float, epoch: float, attributes: dict[str, Any]
) -> dict[str, Any]:
    """The minima of a run (steps) with their intervals, the values there with their errors, and the verdict.

    `epoch` is in steps. `of_samples` is None where no snapshots were kept.
    """
    distance = found.curve("distance", noise=onset_noise)
    read = Reading(found, locate(found, "distance", noise=onset_noise), locate(found, "test_loss", locate_minimum))
    summary = {
        **read.minima("distance", onset_noise, epoch),
        "last_significant_minimum": last_significant_minimum(distance, found.resampling, read.until),
        "test_loss": read.values("test_loss"),
        "train_loss": read.values("train_loss"),
        "noise": [
            {
                "noise": float(t),
                **read.minimum("distance", noise=t),
                **{name: read.values(name, noise=t) for name in ("distance", "member_distance", "slope")},
            }
            for t in found.mean.noise.values
        ],
        "scales": [
            {
                "scale": int(scale),
                **read.minimum("scale_distance", noise=onset_noise, scale=scale),
                "distance": read.values("scale_distance", noise=onset_noise, scale=scale),
                "growth": read.growth("scale_distance", noise=onset_noise, scale=scale),
            }
            for scale in found.mean.scale.values
        ],
        **attributes,
    }
    if of_samples:
        last = of_samples.curves().isel(step=-1)
        summary["samples"] = {
            "apart": plain(locate(of_samples, "apart")),
            "nearer_since": first_significant(of_samples.curve("nearer"), of_samples.resampling),
            "nearer_at_the_end": with_interval(last, "nearer", 3),
            "copied_at_the_end": with_interval(last, "copied", 3),
        }
    return {**summary, "verdict": verdict(summary)}


def verdict(summary: dict[str, Any]) -> str:
    """One sentence: where networks begin to part, when the test loss would have stopped, and what samples show."""
    onset, noise = summary["onset"], summary["onset_noise"]
    if onset["reached"]:
        epochs = f"{onset['step'] / summary['epoch']:,.0f} epochs"
        start = (
            f"At t/T = {noise} the networks start to lean towards their own images at step {interval(onset)}, {epochs}"
        )
    elif onset["from_start"]:
        start = f"At t/T = {noise} the networks part from the first checkpoint on"
    else:
        start = f"No onset within {summary['steps']:,} steps: at t/T = {noise} the networks do not part"
    parts = [start]
    if two_minima(summary):
        parts.append(f"they part from another minimum too, at step {summary['last_significant_minimum']:,.0f}")
    parts.append(stopping(summary))
    told = [row for row in summary["scales"] if row["growth"]["significant"]]
    if told and summary["read_at"]["best"] > onset["step"]:
        until = "then" if summary["best"]["reached"] else "the end"
        grown = ", ".join(f"{row['scale']} ({from_onset_to_best(row['distance'], 3)})" for row in told)
        parts.append(f"from the onset to {until} they part at the scales, in pixels, {grown}")
    if "samples" in summary and summary["samples"]["apart"]["reached"]:
        parts.append(f"their samples from the same noise agree best at step {interval(summary['samples']['apart'])}")
    if summary["sets"] == 2:
        parts.append("with two sets, none of this counts the choice of the images")
    return f"{'; '.join(parts)}."


def table(summary: dict[str, Any]) -> str:
    """A row for each noise level and each scale, and what the samples show."""
    lines = [
        how_to_read("held-out images; 1 - cosine of the noises that two networks predict", summary),
        "",
        f"{'t/T':>7} {'onset, step (95%)':>26}  P(< best) {'held-out':>21} {'training images':>21} {'slope':>24}",
    ]
    for row in summary["noise"]:
        cells = [f"{from_onset_to_best(row[name]):>21}" for name in ("distance", "member_distance")]
        slope = from_onset_to_best(row["slope"], 4)
        lines.append(f"{row['noise']:7g} {onset_of(row):<37} {' '.join(cells)} {slope:>24}")
    lines += ["", f"{'pixels':>7} {'onset, step (95%)':>26}  P(< best) {'at this scale':>21}"]
    for row in summary["scales"]:
        lines.append(f"{row['scale']:7} {onset_of(row):<37} {from_onset_to_best(row['distance']):>21}")
    loss, train_loss = (from_onset_to_best(summary[name], 4) for name in ("test_loss", "train_loss"))
    lines += ["", f"test loss {loss}, training loss {train_loss}, squared error of the noise per pixel"]
    if "samples" in summary:
        found = summary["samples"]
        since = f"since step {found['nearer_since']:,.0f}" if found["nearer_since"] else "at no step for good"
        lines.append(
            f"samples: nearer to the own set than to another {since}, at the end by {found['nearer_at_the_end']}; "
            f"share of copies at the end {found['copied_at_the_end']}"
        )
    return "\n".join(lines)
