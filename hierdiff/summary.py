"""What a run says: its curves with standard errors, its minima with intervals, a table and one sentence."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from hierdiff.onset import Estimate, estimate, last_significant_minimum, locate_minimum, locate_onset, ratio
from hierdiff.replicates import Statistics, replicate


def spectrum_parts(results: xr.Dataset) -> xr.Dataset:
    """The level spectrum as error of each network, and the common and data-dependent parts of each pair."""
    every = xr.DataArray(np.arange(results.sizes["network"]), dims="network")
    first, second = (xr.DataArray(results[end].values, dims="pair") for end in ("first", "second"))
    spectrum = results.spectrum.drop_vars(("network", "other", "data_set"), errors="ignore")
    error = spectrum.isel(network=every, other=every)
    common = spectrum.isel(network=first, other=second)
    own = 0.5 * (error.isel(network=first) + error.isel(network=second)) - common
    return xr.Dataset({"error": error, "common": common, "data_dependent": own})


def statistics(results: xr.Dataset) -> Statistics:
    """All that is reported of a run, from the measurements of each network, pair and group of test sequences.

    `learned`, `slope` and the shares are ratios of means. With several networks on one data set, `seed_split` and
    `seed_dependent` are the split and the spectrum's second part of pairs on the same set, and `data_split` and
    `of_the_data` what pairs across sets have above that.
    """
    variables = {**results.drop_vars("spectrum").data_vars, **spectrum_parts(results).data_vars}
    for name in ("increment", "scale"):
        variables[name] = variables[name].expand_dims(network=results.network)
    sets = set_pairs(results)
    same = sets[:, 0] == sets[:, 1]
    of_seeds = {"seed_split": variables["split"], "seed_dependent": variables["data_dependent"]}
    variables = {name: x.isel(pair=~same) if "pair" in x.dims else x for name, x in variables.items()}
    if same.any():
        variables |= {name: x.isel(pair=same).rename(pair="seed_pair") for name, x in of_seeds.items()}
    sets_of = {"network": results.data_set.values[:, None], "pair": sets[~same], "seed_pair": sets[same]}
    return replicate(variables, sets_of).derive(_with_ratios)


def set_pairs(results: xr.Dataset) -> np.ndarray:
    """The data sets of each pair of networks, `(pairs, 2)`."""
    return results.data_set.values[np.stack([results["first"].values, results["second"].values], axis=1)]


def _with_ratios(x: xr.Dataset) -> xr.Dataset:
    ratios = {
        "learned": x.learned / x.increment,
        "slope": x.slope / x.empirical,
        "share": x.data_dependent / x.error,
        "total_share": x.data_dependent.sum("height") / x.error.sum("height"),
    }
    if "seed_split" in x:
        ratios["data_split"] = x.split - x.seed_split
        ratios["of_the_data"] = x.data_dependent - x.seed_dependent
    return x.assign(ratios)


class Reading(NamedTuple):
    """A run read at its onset and at best; where best is not reached, at the last step instead."""

    found: Statistics
    onset: Estimate
    best: Estimate

    @property
    def until(self) -> float:
        return self.best.step if self.best.reached else float(self.found.mean.step[-1])

    def values(self, name: str, **where: Any) -> dict[str, float]:
        """A curve at the onset and at best; the errors do not count the uncertainty of the step."""
        read = {}
        for when, step in (("at_onset", self.onset.step), ("at_best", self.until)):
            at = self.found.curve(name, **where).at(step)
            read[when], read[f"{when}_error"] = float(at.mean[0]), float(self.found.resampling.error(at.replicates)[0])
        return read

    def growth(self, name: str, **where: Any) -> dict[str, Any]:
        """From the onset to best."""
        resample, curve = self.found.resampling, self.found.curve(name, **where)
        early, late = curve.at(self.onset.step), curve.at(self.until)
        value, replicates = late.mean - early.mean, late.replicates - early.replicates
        told = self.onset.reached and bool(resample.significant(value, replicates)[0])
        return {"value": float(value[0]), "error": float(resample.error(replicates)[0]), "significant": told}

    def minimum(self, name: str, **where: Any) -> dict[str, Any]:
        """Where a curve begins to rise, and how much later the test loss would have stopped."""
        start = locate(self.found, name, **where)
        return {"onset": plain(start), "ratio": ratio(start, self.best, self.found.resampling)._asdict()}

    def minima(self, name: str, onset_noise: float, epoch: float) -> dict[str, Any]:
        """What every summary begins with; the curve `name` at `onset_noise` has its minimum at the onset."""
        return {
            **self.minimum(name, noise=onset_noise),
            "best": plain(self.best),
            "onset_noise": onset_noise,
            "read_at": {"onset": self.onset.step, "best": self.until},
            "steps": int(self.found.mean.step[-1]),
            "sets": self.found.resampling.sets,
            "epoch": epoch,
        }


def locate(found: Statistics, name: str, how=locate_onset, **where: Any) -> Estimate:
    """The minimum of a curve after its transient, or as `how` finds it."""
    return estimate(found.curve(name, **where), found.resampling, how)


def summarise(found: Statistics, *, onset_noise: float, epoch: float, attributes: dict[str, Any]) -> dict[str, Any]:
    """The minima of a run (steps) with their intervals, the values there with their errors, and the verdict.

    `epoch` is in steps.
    """
    mean, split = found.mean, found.curve("split", noise=onset_noise)
    read = Reading(found, locate(found, "split", noise=onset_noise), locate(found, "excess", locate_minimum))
    values, minimum, growth = read.values, read.minimum, read.growth
    spectrum = ["learned", "error", "data_dependent", "share"]
    spectrum += [name for name in ("seed_dependent", "of_the_data") if name in mean]
    splits = [name for name in ("split", "seed_split", "data_split") if name in mean]
    summary = {
        **read.minima("split", onset_noise, epoch),
        "last_significant_minimum": last_significant_minimum(split, found.resampling, read.until),
        **{name: values(name, noise=onset_noise) for name in (*splits, "slope")},
        "excess": values("excess"),
        "heights": [
            {
                "height": int(h),
                **minimum("data_dependent", noise=onset_noise, height=h),
                "growth": growth("data_dependent", noise=onset_noise, height=h),
                "increment": float(mean.increment.sel(noise=onset_noise, height=h)),
                **{name: values(name, noise=onset_noise, height=h) for name in spectrum},
            }
            for h in mean.height.values
        ],
        "noise": [
            {
                "noise": float(t),
                **minimum("split", noise=t),
                "share": values("total_share", noise=t),
                "slope": values("slope", noise=t),
            }
            for t in mean.noise.values
        ],
        "divergences": [
            {
                "filtered": int(k),
                "minimum": plain(locate(found, "divergence", locate_minimum, noise=onset_noise, filtered=k)),
                "divergence": values("divergence", noise=onset_noise, filtered=k),
                "scale": float(mean.scale.sel(noise=onset_noise, filtered=k)),
            }
            for k in mean.filtered.values
        ],
        **({"data_onset": plain(locate(found, "data_split", noise=onset_noise))} if "data_split" in mean else {}),
        **attributes,
    }
    return {**summary, "verdict": verdict(summary)}


def plain(found: Estimate) -> dict[str, Any]:
    """An estimate without its replicates."""
    return {name: value for name, value in found._asdict().items() if name != "log_steps"}


def interval(found: dict[str, Any]) -> str:
    """A step and its 95% interval in words; an end beyond the run is open."""
    if not found["reached"]:
        return "from the start" if found["from_start"] else "not reached"
    low = f"{found['low']:,.0f}" if found["low"] > 0 else "open"
    high = f"{found['high']:,.0f}" if _known(found["high"]) else "open"
    return f"{found['step']:,.0f} ({low} to {high})"


def with_error(x: float, error: float, digits: int) -> str:
    """A value with its standard error in units of the last digit."""
    return f"{x:.{digits}f}({10**digits * error:.0f})"


def cell(curves: xr.Dataset, name: str, digits: int) -> str:
    """One value of a record with its standard error."""
    return with_error(float(curves[name]), float(curves[f"{name}_error"]), digits)


def with_interval(curves: xr.Dataset, name: str, digits: int) -> str:
    """One value of a record with its 95% interval."""
    x, half = float(curves[name]), float(curves[f"{name}_half"])
    return f"{x:.{digits}f} ({x - half:.{digits}f} to {x + half:.{digits}f})"


def lines_over(dim: str, curves: xr.Dataset, columns: dict[str, Callable[[xr.Dataset], str]], width: int) -> list[str]:
    """A line of headings, and one for each value along `dim`: in each column, what it makes of the record there."""
    lines = [f"{dim:>8} " + " ".join(f"{name:>{width}}" for name in columns)]
    for value in curves[dim].values:
        at = curves.sel({dim: value})
        lines.append(f"{value:8,} " + " ".join(f"{column(at):>{width}}" for column in columns.values()))
    return lines


def agreement(summary: dict[str, Any]) -> str:
    """Onsets by other measures, where they have been measured, beside the onset by the sample split: do they agree?"""
    found, since = [f"sample split {interval(summary['onset'])}"], {}
    if "neighbours" in summary:
        of_samples = summary["neighbours"]
        found.append(f"difference of paired samples {interval(of_samples['paired'])}")
        since = {"samples nearer to the own set": of_samples["nearer_since"]}
        since |= {f"copies of blocks of height {row['height']}": row["step"] for row in of_samples["copies_since"][1:]}
    if "membership" in summary:
        since["membership"] = summary["membership"]["since"]
    shown = "; ".join(f"{name} {_step(step)}" for name, step in since.items())
    found.append(f"test loss {interval(summary['best'])}")
    return f"Minima, by measure: {'; '.join(found)}." + (f" Significant since step: {shown}." if since else "")


def _known(x: float | None) -> bool:
    """Whether a number of a summary is one; what is not finite is null once it has been on disk."""
    return x is not None and bool(np.isfinite(x))


def _step(step: float | None) -> str:
    return f"{step:,.0f}" if _known(step) else "none"


def two_minima(summary: dict[str, Any]) -> bool:
    """Whether the split turns up, before the best step, from another minimum than that in the onset's interval."""
    last, onset = summary["last_significant_minimum"], summary["onset"]
    return last is not None and not (onset["reached"] and onset["low"] <= last <= (onset["high"] or np.inf))


def verdict(summary: dict[str, Any]) -> str:
    """One sentence: step, height and noise level of the onset, and when the test loss would have stopped."""
    onset, best, noise = (summary[name] for name in ("onset", "best", "onset_noise"))
    steps = f"{summary['steps']:,} steps"
    parts = []
    if onset["reached"]:
        parts.append(
            f"At t/T = {noise} the networks start to lean towards their own samples at step {interval(onset)}, "
            f"{onset['step'] / summary['epoch']:,.0f} epochs, where the split is smallest"
        )
    elif onset["from_start"]:
        parts.append(f"At t/T = {noise} the networks part from the first checkpoint on")
    else:
        parts.append(
            f"No onset within {steps}: at t/T = {noise} the sample split does not rise significantly from its smallest "
            "value after the transient"
        )
    if two_minima(summary):
        step = summary["last_significant_minimum"]
        parts.append(f"it turns up from another minimum too, at step {step:,.0f}")
    if two_minima(summary) or not onset["reached"]:
        heights = [
            f"{row['onset']['step']:,.0f} ({_height(row)})" for row in summary["heights"] if row["onset"]["reached"]
        ]
        if heights:
            parts.append(f"by height, the data-dependent part turns up at step {', '.join(heights)}")
    parts.append(stopping(summary))
    if onset["reached"]:
        parts.append(f"from the onset to {'then' if best['reached'] else 'the end'}, {_grown(summary)}")
    if summary["sets"] == 2:
        parts.append("with two data sets, none of this counts the choice of the data")
    return f"{'; '.join(parts)}."


def stopping(summary: dict[str, Any]) -> str:
    """When the test loss would have stopped."""
    onset, best, later = (summary[name] for name in ("onset", "best", "ratio"))
    if not best["reached"]:
        return f"the test loss has no clear minimum within {summary['steps']:,} steps"
    if not onset["reached"]:
        return f"the test loss is smallest at step {interval(best)}"
    low, high = (f"{later[end]:.1f}" if _known(later[end]) and later[end] > 0 else "open" for end in ("low", "high"))
    when = "would have stopped" if best["step"] > onset["step"] else "is smallest before that,"
    return (
        f"the test loss {when} at step {interval(best)}, {later['ratio']:.1f} ({low} to {high}) times the onset, "
        f"with P(onset < best) = {later['before']:.2f}"
    )


def _grown(summary: dict[str, Any]) -> str:
    """Where the data-dependent part grows most between the onset and best, and where its share is largest."""
    told = [row for row in summary["heights"] if row["growth"]["significant"]]
    widest = max(summary["noise"], key=lambda row: row["share"]["at_best"])
    share = f"its share of the error is largest at t/T = {widest['noise']:g} ({widest['share']['at_best']:.0%})"
    if not told:
        return f"the data-dependent part grows significantly at no height; {share}"
    most = max(told, key=lambda row: row["growth"]["value"])
    own = most["data_dependent"]
    grows = f"the data-dependent part grows most at {_height(most)} ({own['at_onset']:.3f} to {own['at_best']:.3f})"
    return f"{grows}, and {share}"


def _height(row: dict[str, Any]) -> str:
    return "the prior level" if row["height"] < 0 else f"height {row['height']}"


def from_onset_to_best(values: dict[str, Any], digits: int = 3) -> str:
    """`a > b`, each with its standard error in units of its last digit."""
    shown = [(values[when], values[f"{when}_error"]) for when in ("at_onset", "at_best")]
    return " > ".join(with_error(x, error, digits) if _known(x) else "-" for x, error in shown)


def onset_of(row: dict[str, Any]) -> str:
    """The onset of a row of a table, and the probability that it comes before best."""
    if not row["onset"]["reached"]:
        return f"{interval(row['onset']):>26}"
    return f"{interval(row['onset']):>26}  {row['ratio']['before']:.2f}"


def how_to_read(what: str, summary: dict[str, Any]) -> str:
    """The line above a table of values from onset to best."""
    at_best = "best" if summary["best"]["reached"] else f"the last step, {summary['steps']:,} (best is not reached)"
    brackets = "standard errors in brackets, in units of the last digit"
    return f"{what}; 'a > b': at onset > at {at_best}; {brackets}"


def table(summary: dict[str, Any]) -> str:
    """A row for each height (the level spectrum), each k (the filtered posteriors) and each noise level."""
    lines = [
        how_to_read(f"held-out sequences at t/T = {summary['onset_noise']}", summary),
        "",
        f"{'height':>7} {'learned':>21} {'error':>21} {'data-dependent':>21} {'share':>7} {'its onset, step (95%)':>26}"
        "  P(< best)",
    ]
    for row in reversed(summary["heights"]):
        name = "prior" if row["height"] < 0 else row["height"]
        cells = " ".join(f"{from_onset_to_best(row[key]):>21}" for key in ("learned", "error", "data_dependent"))
        # Of an error that is not told from zero there is no share.
        told = row["error"]["at_best"] > 2 * row["error"]["at_best_error"]
        share = f"{row['share']['at_best']:.0%}" if told else "-"
        lines.append(f"{name:>7} {cells} {share:>7} {onset_of(row)}")
    lines += ["", f"{'k':>7} {'KL(BP_k || f)':>21} {'KL(BP_0||BP_k)':>15} {'smallest at step (95%)':>26}"]
    for row in summary["divergences"]:
        divergence = f"{from_onset_to_best(row['divergence']):>21} {row['scale']:15.3f}"
        lines.append(f"{row['filtered']:>7} {divergence} {interval(row['minimum']):>26}")
    lines += [
        "",
        f"{'t/T':>7} {'onset, step (95%)':>26}  P(< best) {'data-dependent share':>21} {'memorization slope':>24}",
    ]
    for row in summary["noise"]:
        share, slope = from_onset_to_best(row["share"]), from_onset_to_best(row["slope"], 4)
        lines.append(f"{row['noise']:7g} {onset_of(row):<37} {share:>21} {slope:>24}")
    lines += ["", f"sample split {from_onset_to_best(summary['split'])} nats"]
    if "data_onset" in summary:
        lines.append(f"what the data make of it turns up at step {interval(summary['data_onset'])}")
        seed, data = from_onset_to_best(summary["seed_split"]), from_onset_to_best(summary["data_split"])
        lines.append(f"of it, two seeds on one data set make {seed} and the data {data}; by height, in squared units:")
        for row in reversed(summary["heights"]):
            seed, data = from_onset_to_best(row["seed_dependent"]), from_onset_to_best(row["of_the_data"])
            lines.append(f"  {_height(row):>15}: seed {seed:>19}, data {data:>19}")
    if two_minima(summary):
        last = summary["last_significant_minimum"]
        lines.append(f"the last significant minimum of the split before best is another: step {last:,.0f}")
    return "\n".join(lines)
