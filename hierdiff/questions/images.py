"""At which training step do diffusion networks on real images start to lean towards their own training images?

Trains U-Nets on disjoint sets of images, compares the noises they predict and the images they make of the same noise,
and writes a run's folder. Without --data-dir the images are those of Fashion-MNIST.
"""

import argparse
import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from tqdm import tqdm

from hierdiff.errors import require
from hierdiff.learning.devices import failing_together, of_first_process
from hierdiff.pictures.image_training import draw_run
from hierdiff.questions.onset import say
from hierdiff.runs import record
from hierdiff.runs.plan import say_plan
from hierdiff.runs.run import carry_out, in_folder, read_snapshot, reporting
from hierdiff.statistics.groups import in_groups
from hierdiff.statistics.landmarks import (
    Growth,
    Landmark,
    Landmarks,
    Ratio,
    Reading,
    Values,
    first_significant,
    locate,
)
from hierdiff.statistics.minima import locate_minimum
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import (
    from_onset_to_best,
    how_to_read,
    interval,
    onset_of,
    stopping,
    two_minima,
    with_interval,
)
from hierdiff.worlds.image_files import ImageSets
from hierdiff.worlds.images import (
    ImageSetting,
    experiment,
    label,
    label_samples,
    make_generator,
    make_inputs,
    measure_samples,
    set_up,
)
from hierdiff.worlds.run_config import ImagesConfig


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


@dataclasses.dataclass(frozen=True)
class NoiseRow:
    """The onset at one noise level."""

    noise: float
    onset: Landmark
    ratio: Ratio
    distance: Values
    member_distance: Values
    slope: Values


@dataclasses.dataclass(frozen=True)
class ScaleRow:
    """The onset at one scale, in pixels."""

    scale: int
    onset: Landmark
    ratio: Ratio
    distance: Values
    growth: Growth


@dataclasses.dataclass(frozen=True)
class Samples:
    """Where samples agree best, since when they lie nearer to the own set, and by how much at the end, in words."""

    apart: Landmark
    nearer_since: float
    nearer_at_the_end: str
    copied_at_the_end: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary(Landmarks):
    """What was found in a run, as `summary.json` has it; of samples only where snapshots were kept."""

    test_loss: Values
    train_loss: Values
    noise: tuple[NoiseRow, ...]
    scales: tuple[ScaleRow, ...]
    sha256: str
    duplicates: int
    unreadable: int
    seconds_training: float
    seconds_measuring: float
    samples: Samples | None = None
    verdict: str = ""


def summarise(
    found: Statistics, of_samples: Statistics | None, *, onset_noise: float, epoch: float, attributes: dict[str, Any]
) -> Summary:
    """The minima of a run (steps) with their intervals, the values there with their errors, and the verdict.

    `epoch` is in steps. `of_samples` is None where no snapshots were kept.
    """
    read = Reading(found, locate(found, "distance", noise=onset_noise), locate(found, "test_loss", locate_minimum))
    summary = Summary(
        **vars(read.landmarks("distance", onset_noise, epoch)),
        test_loss=read.values("test_loss"),
        train_loss=read.values("train_loss"),
        noise=tuple(
            NoiseRow(
                float(t),
                *read.minimum("distance", noise=t),
                *(read.values(name, noise=t) for name in ("distance", "member_distance", "slope")),
            )
            for t in found.mean.noise.values
        ),
        scales=tuple(
            ScaleRow(
                int(scale),
                *read.minimum("scale_distance", noise=onset_noise, scale=scale),
                distance=read.values("scale_distance", noise=onset_noise, scale=scale),
                growth=read.growth("scale_distance", noise=onset_noise, scale=scale),
            )
            for scale in found.mean.scale.values
        ),
        samples=summarise_samples(of_samples) if of_samples else None,
        **attributes,
    )
    return dataclasses.replace(summary, verdict=verdict(summary))


def summarise_samples(found: Statistics) -> Samples:
    """Where the samples of two networks agree best, and how they lean to the own set."""
    last = found.curves().isel(step=-1)
    return Samples(
        locate(found, "apart").landmark,
        nearer_since=first_significant(found.curve("nearer"), found.resampling),
        nearer_at_the_end=with_interval(last, "nearer", 3),
        copied_at_the_end=with_interval(last, "copied", 3),
    )


def verdict(summary: Summary) -> str:
    """One sentence: where networks begin to part, when the test loss would have stopped, and what samples show."""
    onset, noise = summary.onset, summary.onset_noise
    if onset.reached:
        epochs = f"{onset.step / summary.epoch:,.0f} epochs"
        start = (
            f"At t/T = {noise} the networks start to lean towards their own images at step {interval(onset)}, {epochs}"
        )
    elif onset.from_start:
        start = f"At t/T = {noise} the networks part from the first checkpoint on"
    else:
        start = f"No onset within {summary.steps:,} steps: at t/T = {noise} the networks do not part"
    parts = [start]
    if two_minima(summary):
        parts.append(f"they part from another minimum too, at step {summary.last_significant_minimum:,.0f}")
    parts.append(stopping(summary))
    told = [row for row in summary.scales if row.growth.significant]
    if told and summary.read_at.best > onset.step:
        until = "then" if summary.best.reached else "the end"
        grown = ", ".join(f"{row.scale} ({from_onset_to_best(row.distance, 3)})" for row in told)
        parts.append(f"from the onset to {until} they part at the scales, in pixels, {grown}")
    if summary.samples and summary.samples.apart.reached:
        parts.append(f"their samples from the same noise agree best at step {interval(summary.samples.apart)}")
    if summary.sets == 2:
        parts.append("with two sets, none of this counts the choice of the images")
    return f"{'; '.join(parts)}."


def table(summary: Summary) -> str:
    """A row for each noise level and each scale, and what the samples show."""
    lines = [
        how_to_read("held-out images; 1 - cosine of the noises that two networks predict", summary),
        "",
        f"{'t/T':>7} {'onset, step (95%)':>26}  P(< best) {'held-out':>21} {'training images':>21} {'slope':>24}",
    ]
    for row in summary.noise:
        cells = [f"{from_onset_to_best(x):>21}" for x in (row.distance, row.member_distance)]
        slope = from_onset_to_best(row.slope, 4)
        lines.append(f"{row.noise:7g} {onset_of(row.onset, row.ratio):<37} {' '.join(cells)} {slope:>24}")
    lines += ["", f"{'pixels':>7} {'onset, step (95%)':>26}  P(< best) {'at this scale':>21}"]
    for row in summary.scales:
        lines.append(f"{row.scale:7} {onset_of(row.onset, row.ratio):<37} {from_onset_to_best(row.distance):>21}")
    loss, train_loss = (from_onset_to_best(x, 4) for x in (summary.test_loss, summary.train_loss))
    lines += ["", f"test loss {loss}, training loss {train_loss}, squared error of the noise per pixel"]
    if summary.samples:
        found = summary.samples
        since = f"since step {found.nearer_since:,.0f}" if np.isfinite(found.nearer_since) else "at no step for good"
        lines.append(
            f"samples: nearer to the own set than to another {since}, at the end by {found.nearer_at_the_end}; "
            f"share of copies at the end {found.copied_at_the_end}"
        )
    return "\n".join(lines)


def answer(config: ImagesConfig, options: argparse.Namespace) -> None:
    """Carry the experiment out, or say what it will cost."""
    # The images are read first: where they are not as they should be, no run is begun.
    setting, folder = set_up(config), options.out
    if options.plan:
        inputs = jax.eval_shape(lambda: make_inputs(setting, config.measure))
        say_plan(experiment(config, setting, inputs), folder, "what the networks generate in the end is not counted")
    else:
        in_folder(folder, config, options.resume, lambda: run(config, setting, folder), lambda: show(folder))


def run(config: ImagesConfig, setting: ImageSetting, folder: Path) -> None:
    """Train, measure and generate, and leave the record in `folder`; the summary is written last."""
    with failing_together():
        about = keep_to_the_same_images(setting.data, folder)
    if jax.process_index() == 0:
        print(
            f"{config.sets} disjoint sets of {config.size} images, {config.images.side} pixels a side; of the images "
            f"seen, {setting.data.duplicates} repeat others and {setting.data.unreadable} cannot be read"
        )
    focus = config.measure.noise.index(config.measure.onset_noise)

    def row(measured: dict[str, np.ndarray]) -> dict[str, float]:
        means = {name: float(np.mean(measured[name])) for name in ("test_loss", "train_loss")}
        return {**means, "distance": float(np.mean(measured["distance"][focus]))}

    inputs = make_inputs(setting, config.measure)
    whole = experiment(config, setting, inputs)
    weights = jax.eval_shape(lambda: whole.training.state.average)
    with reporting(folder, config.train.steps, row, ("test_loss", "distance")) as report:
        measured, seconds = carry_out(whole, folder, report)
    results = label(config.train.checkpoint_steps(), config.measure.noise, setting, inputs, measured)
    found, origin = statistics(results), record.origin(config) | about
    with failing_together():
        record.write_results(folder / "results.nc", results.assign_attrs(origin | seconds))
        record.write_results(folder / "curves.nc", found.curves().assign_attrs(origin))
    of_samples = None
    if config.train.snapshots:
        samples = generate(config, setting, folder, weights)
        of_samples = sample_statistics(samples)
        curves = of_samples.curves().assign(median_apart=median_apart(samples))
        record.write_results(folder / "samples.results.nc", samples.assign_attrs(origin))
        record.write_results(folder / "samples.curves.nc", curves.assign_attrs(origin))
    summary = summarise(
        found,
        of_samples,
        onset_noise=config.measure.onset_noise,
        epoch=config.size / config.train.batch,
        attributes=about | seconds,
    )
    record.write_json(folder / "summary.json", summary)


def keep_to_the_same_images(data: ImageSets, folder: Path) -> dict[str, Any]:
    """Write down which images a run is begun with, or see that it goes on with the same."""
    pixels = hashlib.sha256(data.train.tobytes() + data.held_out.tobytes()).hexdigest()
    about = {"sha256": pixels, "duplicates": data.duplicates, "unreadable": data.unreadable}
    path = folder / "images.json"
    if path.exists():
        good = record.read_json(path) == about
        require(good, "data_dir", str(path), "the images that this run was begun with; they have changed since")
    else:
        record.write_json(path, about)
    return about


def generate(config: ImagesConfig, setting: ImageSetting, folder: Path, weights: Any) -> xr.Dataset:
    """Let the networks of each snapshot generate, and compare what they make with each other and with the images.

    What is measured of a snapshot is kept until the run has ended, and not measured again if it is left before.
    """
    steps, generator, place = config.train.snapshot_steps(), make_generator(setting, config.measure), folder / "samples"
    place.mkdir(exist_ok=True)
    files = {step: place / f"{step:08d}.nc" for step in steps}
    done = steps[: of_first_process(sum(file.exists() for file in files.values()))]
    found: list[xr.Dataset] = []
    with tqdm(total=len(steps), desc="samples", disable=jax.process_index() > 0 or None, dynamic_ncols=True) as bar:
        for step, file in files.items():
            if step in done:
                found.append(record.read_results(file))
            else:
                images = generator(read_snapshot(folder, step, weights, setting.mesh))
                found.append(label_samples(step, measure_samples(images, setting.data.train)))
                with failing_together():
                    record.write_results(file, found[-1])
            bar.update()
    return xr.concat(found, "step", data_vars="minimal", coords="minimal", compat="override", join="override")


def show(folder: Path) -> None:
    """Draw the picture of a finished run and print what was found."""
    shutil.rmtree(folder / "samples", ignore_errors=True)
    draw_run(folder)
    summary = record.from_json(Summary, record.read_json(folder / "summary.json"))
    say(table(summary), summary.verdict, summary.seconds_training, summary.seconds_measuring)
