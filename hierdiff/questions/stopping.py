"""What does it cost to stop late? Rules that need no oracle, compared where each of them stops.

Trains an onset run for each grammar and training-set size, measures its samples and the attack on its members, and
reads them where the sample split is smallest, where the test loss is smallest, and after a fixed number of epochs. Runs
that are there already are used.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import stdtrit

from hierdiff.errors import require
from hierdiff.questions import membership, neighbours, onset, snapshots
from hierdiff.questions.configs import PRESETS, Both
from hierdiff.runs import record
from hierdiff.runs.options import flat, options_of
from hierdiff.statistics.groups import GROUPS
from hierdiff.statistics.minima import locate_minimum, locate_onset
from hierdiff.worlds.finished import open_run
from hierdiff.worlds.run_config import OnsetConfig

RULES = ("smallest sample split", "smallest test loss", "fixed epochs")
LATE = "test loss minus split"
EXCESS, AUC = "excess loss", "membership AUC"
# What is read where a rule stops: the name in the table, the file, the variable in it and the digits that are shown.
COSTS = {
    EXCESS: ("curves", "excess", 3),
    "memorization slope": ("curves", "slope", 4),
    AUC: ("membership.curves", "area", 3),
    "copies, height 2": ("neighbours.curves", "more_copies", 4),
}


@dataclasses.dataclass(frozen=True)
class Stop:
    """Where a rule stops a run, and each of `COSTS` there."""

    seed: int
    size: int
    rule: str
    reached: bool
    step: float
    costs: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean over grammars, and half the width of its 95% interval."""

    mean: float
    half_width: float


@dataclasses.dataclass(frozen=True)
class Row:
    """Where a rule stops runs of one size, and each of `COSTS` there."""

    size: int
    rule: str
    grammars: int
    reached: int
    step: Mean
    costs: dict[str, Mean]


def written(row: Stop | Row) -> dict[str, Any]:
    """A row as `stopping.json` has it, the costs beside the rest."""
    return {name: value for name, value in vars(row).items() if name != "costs"} | row.costs


def answer(config: Both, options: argparse.Namespace) -> None:
    """Make the runs and compare where the rules stop; the table, and `stopping.json` in the folder of all runs."""
    given, preset = (flat(options_of(each)) for each in (config.onset, PRESETS["onset"][options.preset]))
    for name, instead in (("seed", "seeds"), ("size", "sizes"), ("steps", "train-epochs")):
        require(given[name] == preset[name], name, given[name], f"to be left out: --{instead} gives them all")
    # All configurations are checked before the first one is trained.
    each = [
        run_of(config.onset, seed, size, config.own.train_epochs)
        for size in config.own.sizes
        for seed in config.own.seeds
    ]
    stops = [stop for run in each for stop in compare(run, options.out, options.preset, config.own.epochs)]
    rows = summarise(stops)
    content = {"stops": [written(stop) for stop in stops], "table": [written(row) for row in rows]}
    record.write_json(options.out / "stopping.json", content | record.provenance())
    print(f"\n{table(rows)}\n\n{sentence(rows)}\n\n{options.out / 'stopping.json'}")


def run_of(config: OnsetConfig, seed: int, size: int, epochs: int) -> OnsetConfig:
    """The run for one grammar and training-set size."""
    steps = round(epochs * size / config.train.batch)
    return dataclasses.replace(config, seed=seed, size=size, train=dataclasses.replace(config.train, steps=steps))


def compare(config: OnsetConfig, folder: Path, preset: str, epochs: int) -> list[Stop]:
    """Train and measure one run, unless it is there; the step and the costs where each rule stops."""
    place = folder / f"seed-{config.seed}-size-{config.size}"
    onset.train(config, place)
    run = open_run(place)
    for question in (neighbours.QUESTION, membership.QUESTION):
        own = PRESETS[question.name][preset]
        if question is membership.QUESTION:
            most = config.size // GROUPS * GROUPS
            own = dataclasses.replace(own, targets=min(own.targets, most))
        snapshots.extend(question, run, own)
    files = {name: record.read_results(place / f"{name}.nc") for name, *_ in COSTS.values()}
    at = {"noise": config.measure.onset_noise, "height": min(2, config.grammar.depth)}
    curves = files["curves"]
    split, loss = curves.split.sel(noise=at["noise"]), curves.test_loss
    stops = {
        "smallest sample split": locate_onset(curves.step, split),
        "smallest test loss": locate_minimum(curves.step, loss),
    }
    fixed, first, last = epochs * config.size / config.train.batch, config.train.first_checkpoint, config.train.steps
    steps = {rule: (float(found.step), bool(found.reached)) for rule, found in stops.items()}
    steps["fixed epochs"] = float(min(max(fixed, first), last)), first <= fixed <= last
    return [
        Stop(
            seed=config.seed,
            size=config.size,
            rule=rule,
            reached=reached,
            step=step,
            costs={cost: read(files[name][variable], at, step) for cost, (name, variable, _) in COSTS.items()},
        )
        for rule, (step, reached) in steps.items()
    ]


def read(curve: xr.DataArray, at: dict[str, Any], step: float) -> float:
    """The value of a curve at a step, between checkpoints by a straight line in log(step)."""
    if "attack" in curve.dims:
        curve = curve.sel(attack="calibrated")
    curve = curve.sel({dim: value for dim, value in at.items() if dim in curve.dims})
    return float(np.interp(np.log(step), np.log(curve.step), curve))


def summarise(stops: list[Stop]) -> list[Row]:
    """Means over the grammars with 95% intervals (Student's), for each size and rule; last, the cost of stopping late.

    That is the difference between the smallest test loss and the smallest split, grammar by grammar.
    """
    rows = []
    for size in dict.fromkeys(stop.size for stop in stops):
        by_rule = {rule: [stop for stop in stops if (stop.size, stop.rule) == (size, rule)] for rule in RULES}
        # Of each grammar, the step and the costs.
        values = {
            rule: np.array([[stop.step, *(stop.costs[cost] for cost in COSTS)] for stop in these])
            for rule, these in by_rule.items()
        }
        values[LATE] = values[RULES[1]] - values[RULES[0]]
        for rule, x in values.items():
            reached = sum(stop.reached for stop in by_rule.get(rule, []))
            step, *costs = (mean_and_half_width(column) for column in x.T)
            rows.append(Row(size, rule, len(x), reached, step, dict(zip(COSTS, costs, strict=True))))
    return rows


def mean_and_half_width(values: np.ndarray) -> Mean:
    """Mean, and half the width of its 95% interval; nan for a single value."""
    n = len(values)
    half = stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n) if n > 1 else float("nan")
    return Mean(float(values.mean()), float(half))


def table(rows: list[Row]) -> str:
    """A row for each size and rule."""
    lines = [
        f"mean over {rows[0].grammars} grammars, with the half-width of its 95% interval",
        f"{'P':>8} {'rule':>22} {'reached':>8} " + " ".join(f"{name:>22}" for name in ("step", *COSTS)),
    ]
    for row in rows:
        shown = [(row.step, 0), *((row.costs[cost], digits) for cost, (*_, digits) in COSTS.items())]
        cells = [f"{x.mean:,.{digits}f} +- {x.half_width:,.{digits}f}" for x, digits in shown]
        reached = "" if row.rule == LATE else f"{row.reached}/{row.grammars}"
        lines.append(f"{row.size:8,} {row.rule:>22} {reached:>8} " + " ".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)


def sentence(rows: list[Row]) -> str:
    """What the smallest test loss changes against the smallest split, at each size."""
    parts = []
    for row in rows:
        if row.rule == LATE:
            excess, auc = row.costs[EXCESS], row.costs[AUC]
            parts.append(
                f"with {row.size:,} sequences the excess loss changes by {excess.mean:+.3f} +- "
                f"{excess.half_width:.3f} nats, the membership AUC by {auc.mean:+.3f} +- {auc.half_width:.3f}"
            )
    return f"From the smallest sample split to the smallest test loss: {'; '.join(parts)}."
