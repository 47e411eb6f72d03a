"""What does it cost to stop late? Rules that need no oracle, compared where each of them stops.

A sweep over training-set sizes and grammars: the samples of each run and the attack on its members are read where the
sample split is smallest, where the test loss is smallest, and after a fixed number of epochs.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import stdtrit

from hierdiff.questions.answers import leave
from hierdiff.questions.configs import Both
from hierdiff.questions.sweep import make
from hierdiff.runs import record
from hierdiff.runs.sweep import Point
from hierdiff.statistics.minima import Minima, locate_minimum, locate_onset
from hierdiff.statistics.words import aligned

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
    if points := make(config, options):
        stops = [stop for point in points for stop in compare(point, options.out, config.own.epochs)]
        rows = summarise(stops)
        leave(options.out / "stopping.json", config, table(rows), sentence(rows), stops=stops, rows=rows)


def compare(point: Point, folder: Path, epochs: int) -> list[dict[str, Any]]:
    """The step and `COSTS` where each rule stops a run."""
    config, curves, costs = point.config, *costs_of(point, folder)
    train = config.train
    fixed = epochs * config.size / train.batch
    within = float(np.clip(fixed, train.first_checkpoint, train.steps))
    minima = minima_of(config, curves).values()
    steps = [*((float(found.step), bool(found.reached)) for found in minima), (within, within == fixed)]
    return [
        {"seed": config.seed, "size": config.size, "rule": rule, "reached": reached, "step": step}
        | {cost: read(curve, step) for cost, curve in costs.items()}
        for rule, (step, reached) in zip(RULES, steps, strict=True)
    ]


def minima_of(config: Any, curves: xr.Dataset) -> dict[str, Minima]:
    """Where the first two rules stop a run."""
    found = (
        locate_onset(curves.step, curves.split.sel(noise=config.measure.onset_noise)),
        locate_minimum(curves.step, curves.test_loss),
    )
    return dict(zip(RULES, found, strict=False))


def costs_of(point: Point, folder: Path, attack: str = "calibrated") -> tuple[xr.Dataset, dict[str, xr.DataArray]]:
    """The curves of a run, and `COSTS` along its training, with the membership that an attack tells."""
    config = point.config
    files = {name: record.read_results(folder / point.name / f"{name}.nc") for name, *_ in COSTS.values()}
    at = {"noise": config.measure.onset_noise, "height": min(2, config.grammar.depth), "attack": attack}
    costs = {cost: files[name][variable] for cost, (name, variable, _) in COSTS.items()}
    return files["curves"], {
        cost: curve.sel({dim: value for dim, value in at.items() if dim in curve.dims}) for cost, curve in costs.items()
    }


def read(curve: xr.DataArray, step: float) -> float:
    """The value of a curve at a step, between checkpoints by a straight line in log(step)."""
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
