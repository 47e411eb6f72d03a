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
import pandas as pd
import xarray as xr
from scipy.special import stdtrit

from hierdiff.questions import QUESTIONS, snapshots, training
from hierdiff.questions.answers import leave
from hierdiff.questions.configs import Both
from hierdiff.questions.membership import MEMBERSHIP
from hierdiff.questions.samples import NEIGHBOURS
from hierdiff.runs import record
from hierdiff.statistics.minima import locate_minimum, locate_onset
from hierdiff.statistics.words import aligned
from hierdiff.worlds.finished import open_run
from hierdiff.worlds.run_config import OnsetConfig
from hierdiff.worlds.sequences import Sequences

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
DIGITS = {"step": 0, **{cost: digits for cost, (*_, digits) in COSTS.items()}}


def answer(config: Both, options: argparse.Namespace) -> None:
    """Make the runs and compare where the rules stop; the table, and `stopping.json` in the folder of all runs."""
    own, configs = config.own, config.own.trainings(config.training)
    stops = [stop for each in configs for stop in compare(each, options.out, options.preset, own.epochs)]
    rows = summarise(stops)
    leave(options.out / "stopping.json", config, table(rows), sentence(rows), stops=stops, rows=rows)


def compare(config: OnsetConfig, folder: Path, preset: str, epochs: int) -> list[dict[str, Any]]:
    """Train and measure one run, unless it is there; the step and `COSTS` where each rule stops."""
    place = folder / f"seed-{config.seed}-size-{config.size}"
    training.train(config, Sequences.set_up(config), place)
    run, attack = open_run(place, Sequences), QUESTIONS["membership"].presets[preset]
    snapshots.extend(NEIGHBOURS, run, QUESTIONS["neighbours"].presets[preset])
    targets = min(attack.targets, config.size)
    snapshots.extend(MEMBERSHIP, run, dataclasses.replace(attack, targets=targets))
    files = {name: record.read_results(place / f"{name}.nc") for name, *_ in COSTS.values()}
    at = {"noise": config.measure.onset_noise, "height": min(2, config.grammar.depth), "attack": "calibrated"}
    curves, train = files["curves"], config.train
    fixed = epochs * config.size / train.batch
    within = float(np.clip(fixed, train.first_checkpoint, train.steps))
    minima = (
        locate_onset(curves.step, curves.split.sel(noise=at["noise"])),
        locate_minimum(curves.step, curves.test_loss),
    )
    steps = [*((float(found.step), bool(found.reached)) for found in minima), (within, within == fixed)]
    return [
        {"seed": config.seed, "size": config.size, "rule": rule, "reached": reached, "step": step}
        | {cost: read(files[name][variable], at, step) for cost, (name, variable, _) in COSTS.items()}
        for rule, (step, reached) in zip(RULES, steps, strict=True)
    ]


def read(curve: xr.DataArray, at: dict[str, Any], step: float) -> float:
    """The value of a curve at a step, between checkpoints by a straight line in log(step)."""
    curve = curve.sel({dim: value for dim, value in at.items() if dim in curve.dims})
    return float(np.interp(np.log(step), np.log(curve.step), curve))


def summarise(stops: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the grammars with 95% intervals (Student's), for each size and rule; last, the cost of stopping late.

    That is the difference between the smallest test loss and the smallest split, grammar by grammar.
    """
    each: Any = pd.DataFrame(stops).set_index(["size", "rule", "seed"])
    late = each.xs(RULES[1], level="rule")[[*DIGITS]] - each.xs(RULES[0], level="rule")[[*DIGITS]]
    late = pd.concat({LATE: late.assign(reached=False)}, names=["rule"]).reorder_levels(each.index.names)
    # The differences beside the rules that they are taken of.
    grouped = pd.concat([each, late]).sort_values("size", kind="stable").groupby(["size", "rule"], sort=False)
    counts = grouped.reached.agg(grammars="size", reached="sum").reset_index()
    means, errors = grouped[[*DIGITS]].mean(), grouped[[*DIGITS]].sem()
    halves = errors.mul(stdtrit(counts.grammars.to_numpy() - 1, 0.975), axis=0)
    of_rules = zip(*(pd.DataFrame(x).to_dict("records") for x in (counts, means, halves)), strict=True)
    return [
        row | {name: {"mean": mean[name], "half_width": half[name]} for name in DIGITS} for row, mean, half in of_rules
    ]


def table(rows: list[dict[str, Any]]) -> list[str]:
    cells = [
        {
            "P": f"{row['size']:,}",
            "rule": row["rule"],
            "reached": "-" if row["rule"] == LATE else f"{row['reached']}/{row['grammars']}",
            **{name: shown(row[name], digits) for name, digits in DIGITS.items()},
        }
        for row in rows
    ]
    return [f"mean over {rows[0]['grammars']} grammars, with the half-width of its 95% interval", *aligned(cells)]


def shown(x: dict[str, float], digits: int, sign: str = "") -> str:
    return f"{x['mean']:{sign},.{digits}f} +- {x['half_width']:,.{digits}f}"


def sentence(rows: list[dict[str, Any]]) -> str:
    """What the smallest test loss changes against the smallest split, at each size."""
    parts = [
        f"with {row['size']:,} sequences the excess loss changes by {shown(row[EXCESS], 3, '+')} nats, the membership "
        f"AUC by {shown(row[AUC], 3, '+')}"
        for row in rows
        if row["rule"] == LATE
    ]
    return f"From the smallest sample split to the smallest test loss: {'; '.join(parts)}."
