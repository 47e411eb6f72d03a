"""At which training step does a diffusion network start to lean towards its own training samples?

Trains networks on disjoint data sets of one random hierarchical grammar, compares them with each other and with
the exact scores, and writes a run's folder.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hierdiff.measures.divergence import pairs
from hierdiff.pictures.onset import draw
from hierdiff.runs import record
from hierdiff.runs.plan import say_plan
from hierdiff.runs.run import carry_out, in_folder, reporting
from hierdiff.statistics.landmarks import Growth, Landmark, Landmarks, Ratio, Reading, Values, locate
from hierdiff.statistics.minima import locate_minimum
from hierdiff.statistics.replicates import Statistics
from hierdiff.statistics.words import from_onset_to_best, how_to_read, interval, onset_of, stopping, two_minima
from hierdiff.worlds.run_config import OnsetConfig
from hierdiff.worlds.sequences import experiment, label, make_inputs, set_up, statistics


@dataclasses.dataclass(frozen=True)
class HeightRow:
    """The level spectrum at one height (-1: the prior level); the last two with two seeds on each data set only."""

    height: int
    onset: Landmark
    ratio: Ratio
    growth: Growth
    increment: float
    learned: Values
    error: Values
    data_dependent: Values
    share: Values
    seed_dependent: Values | None = None
    of_the_data: Values | None = None


@dataclasses.dataclass(frozen=True)
class NoiseRow:
    """The onset at one noise level."""

    noise: float
    onset: Landmark
    ratio: Ratio
    share: Values
    slope: Values


@dataclasses.dataclass(frozen=True)
class DivergenceRow:
    """The divergence from one filtered posterior, and that of the exact one from it (`scale`)."""

    filtered: int
    minimum: Landmark
    divergence: Values
    scale: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary(Landmarks):
    """What was found in a run, as `summary.json` has it; some of it with two seeds on each data set only."""

    split: Values
    seed_split: Values | None = None
    data_split: Values | None = None
    slope: Values
    excess: Values
    heights: tuple[HeightRow, ...]
    noise: tuple[NoiseRow, ...]
    divergences: tuple[DivergenceRow, ...]
    data_onset: Landmark | None = None
    coincidences: int
    seconds_training: float
    seconds_measuring: float
    verdict: str = ""


def summarise(found: Statistics, *, onset_noise: float, epoch: float, attributes: dict[str, Any]) -> Summary:
    """The minima of a run (steps) with their intervals, the values there with their errors, and the verdict.

    `epoch` is in steps.
    """
    mean = found.mean
    read = Reading(found, locate(found, "split", noise=onset_noise), locate(found, "excess", locate_minimum))
    values, minimum, growth = read.values, read.minimum, read.growth
    spectrum = ["learned", "error", "data_dependent", "share"]
    spectrum += [name for name in ("seed_dependent", "of_the_data") if name in mean]
    splits = [name for name in ("split", "seed_split", "data_split") if name in mean]
    of_splits: dict[str, Any] = {name: values(name, noise=onset_noise) for name in splits}
    summary = Summary(
        **vars(read.landmarks("split", onset_noise, epoch)),
        **of_splits,
        slope=values("slope", noise=onset_noise),
        excess=values("excess"),
        heights=tuple(
            HeightRow(
                int(h),
                *minimum("data_dependent", noise=onset_noise, height=h),
                growth("data_dependent", noise=onset_noise, height=h),
                float(mean.increment.sel(noise=onset_noise, height=h)),
                **{name: values(name, noise=onset_noise, height=h) for name in spectrum},
            )
            for h in mean.height.values
        ),
        noise=tuple(
            NoiseRow(
                float(t),
                *minimum("split", noise=t),
                share=values("total_share", noise=t),
                slope=values("slope", noise=t),
            )
            for t in mean.noise.values
        ),
        divergences=tuple(
            DivergenceRow(
                int(k),
                minimum=locate(found, "divergence", locate_minimum, noise=onset_noise, filtered=k).landmark,
                divergence=values("divergence", noise=onset_noise, filtered=k),
                scale=float(mean.scale.sel(noise=onset_noise, filtered=k)),
            )
            for k in mean.filtered.values
        ),
        data_onset=locate(found, "data_split", noise=onset_noise).landmark if "data_split" in mean else None,
        **attributes,
    )
    return dataclasses.replace(summary, verdict=verdict(summary))


def verdict(summary: Summary) -> str:
    """One sentence: step, height and noise level of the onset, and when the test loss would have stopped."""
    onset, best, noise = summary.onset, summary.best, summary.onset_noise
    steps = f"{summary.steps:,} steps"
    parts = []
    if onset.reached:
        parts.append(
            f"At t/T = {noise} the networks start to lean towards their own samples at step {interval(onset)}, "
            f"{onset.step / summary.epoch:,.0f} epochs, where the split is smallest"
        )
    elif onset.from_start:
        parts.append(f"At t/T = {noise} the networks part from the first checkpoint on")
    else:
        parts.append(
            f"No onset within {steps}: at t/T = {noise} the sample split does not rise significantly from its smallest "
            "value after the transient"
        )
    if two_minima(summary):
        parts.append(f"it turns up from another minimum too, at step {summary.last_significant_minimum:,.0f}")
    if two_minima(summary) or not onset.reached:
        heights = [f"{row.onset.step:,.0f} ({_height(row)})" for row in summary.heights if row.onset.reached]
        if heights:
            parts.append(f"by height, the data-dependent part turns up at step {', '.join(heights)}")
    parts.append(stopping(summary))
    if onset.reached:
        parts.append(f"from the onset to {'then' if best.reached else 'the end'}, {_grown(summary)}")
    if summary.sets == 2:
        parts.append("with two data sets, none of this counts the choice of the data")
    return f"{'; '.join(parts)}."


def _grown(summary: Summary) -> str:
    """Where the data-dependent part grows most between the onset and best, and where its share is largest."""
    told = [row for row in summary.heights if row.growth.significant]
    widest = max(summary.noise, key=lambda row: row.share.at_best)
    share = f"its share of the error is largest at t/T = {widest.noise:g} ({widest.share.at_best:.0%})"
    if not told:
        return f"the data-dependent part grows significantly at no height; {share}"
    most = max(told, key=lambda row: row.growth.value)
    own = most.data_dependent
    grows = f"the data-dependent part grows most at {_height(most)} ({own.at_onset:.3f} to {own.at_best:.3f})"
    return f"{grows}, and {share}"


def _height(row: HeightRow) -> str:
    return "the prior level" if row.height < 0 else f"height {row.height}"


def table(summary: Summary) -> str:
    """A row for each height (the level spectrum), each k (the filtered posteriors) and each noise level."""
    lines = [
        how_to_read(f"held-out sequences at t/T = {summary.onset_noise}", summary),
        "",
        f"{'height':>7} {'learned':>21} {'error':>21} {'data-dependent':>21} {'share':>7} {'its onset, step (95%)':>26}"
        "  P(< best)",
    ]
    for row in reversed(summary.heights):
        name = "prior" if row.height < 0 else row.height
        cells = " ".join(f"{from_onset_to_best(x):>21}" for x in (row.learned, row.error, row.data_dependent))
        # Of an error that is not told from zero there is no share.
        told = row.error.at_best > 2 * row.error.at_best_error
        share = f"{row.share.at_best:.0%}" if told else "-"
        lines.append(f"{name:>7} {cells} {share:>7} {onset_of(row.onset, row.ratio)}")
    lines += ["", f"{'k':>7} {'KL(BP_k || f)':>21} {'KL(BP_0||BP_k)':>15} {'smallest at step (95%)':>26}"]
    for row in summary.divergences:
        divergence = f"{from_onset_to_best(row.divergence):>21} {row.scale:15.3f}"
        lines.append(f"{row.filtered:>7} {divergence} {interval(row.minimum):>26}")
    lines += [
        "",
        f"{'t/T':>7} {'onset, step (95%)':>26}  P(< best) {'data-dependent share':>21} {'memorization slope':>24}",
    ]
    for row in summary.noise:
        share, slope = from_onset_to_best(row.share), from_onset_to_best(row.slope, 4)
        lines.append(f"{row.noise:7g} {onset_of(row.onset, row.ratio):<37} {share:>21} {slope:>24}")
    lines += ["", f"sample split {from_onset_to_best(summary.split)} nats"]
    if summary.data_onset:
        lines.append(f"what the data make of it turns up at step {interval(summary.data_onset)}")
        seed, data = from_onset_to_best(summary.seed_split), from_onset_to_best(summary.data_split)
        lines.append(f"of it, two seeds on one data set make {seed} and the data {data}; by height, in squared units:")
        for row in reversed(summary.heights):
            seed, data = from_onset_to_best(row.seed_dependent), from_onset_to_best(row.of_the_data)
            lines.append(f"  {_height(row):>15}: seed {seed:>19}, data {data:>19}")
    if two_minima(summary):
        last = summary.last_significant_minimum
        lines.append(f"the last significant minimum of the split before best is another: step {last:,.0f}")
    return "\n".join(lines)


def answer(config: OnsetConfig, options: argparse.Namespace) -> None:
    """Carry the experiment out, or say what it will cost."""
    if options.plan:
        setting = set_up(config)
        inputs = jax.eval_shape(lambda: make_inputs(setting, config.measure))
        say_plan(experiment(config, setting, inputs), options.out)
    else:
        train(config, options.out, resume=options.resume)


def train(config: OnsetConfig, folder: Path, *, resume: str = "auto") -> None:
    """Do the experiment of `config` in `folder`, or what is left of it."""
    in_folder(folder, config, resume, lambda: run(config, folder), lambda: show(folder))


def run(config: OnsetConfig, folder: Path) -> None:
    """Train and measure, and leave the record in `folder`; the summary is written last."""
    setting = set_up(config)
    if jax.process_index() == 0:
        print(
            f"{len(setting.set_of)} networks on {config.sets} disjoint sets of {config.size} sequences of "
            f"{setting.grammar.leaves} symbols; {setting.data.coincidences} of them are in two sets by chance"
        )
    focus = config.measure.noise.index(config.measure.onset_noise)
    across = [setting.set_of[a] != setting.set_of[b] for a, b in pairs(len(setting.set_of))]

    def row(measured: dict[str, np.ndarray]) -> dict[str, float]:
        means = {name: float(np.mean(measured[name])) for name in ("excess", "test_loss", "train_loss")}
        return {**means, "split": float(np.mean(measured["split"][focus][across]))}

    with reporting(folder, config.train.steps, row, ("excess", "split")) as report:
        inputs = make_inputs(setting, config.measure)
        measured, seconds = carry_out(experiment(config, setting, inputs), folder, report)
    results = label(config.train.checkpoint_steps(), config.measure.noise, setting, inputs, measured)
    origin = record.origin(config)
    record.write_results(folder / "results.nc", results.assign_attrs(origin | seconds))
    found = statistics(results)
    record.write_results(folder / "curves.nc", found.curves().assign_attrs(origin))
    summary = summarise(
        found,
        onset_noise=config.measure.onset_noise,
        epoch=config.size / config.train.batch,
        attributes={"coincidences": setting.data.coincidences, **seconds},
    )
    record.write_json(folder / "summary.json", summary)


def show(folder: Path) -> None:
    """Draw the picture of a finished run and print what was found."""
    draw(folder)
    summary = record.from_json(Summary, record.read_json(folder / "summary.json"))
    say(table(summary), summary.verdict, summary.seconds_training, summary.seconds_measuring)


def say(table: str, verdict: str, training: float, measuring: float) -> None:
    """Print the table and the verdict of a run, and the time that it took."""
    print(f"\n{table}\n\n{verdict}\n")
    print(f"training {training:.0f} s, measuring {measuring:.0f} s")
