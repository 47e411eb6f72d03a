"""What does it cost to keep the sample? Remedies against memorization, each read along all of its training.

A sweep: a plain run, and one with each remedy, for each of several grammars. A remedy is judged where its exact excess
loss first falls to a level: does it give away less there than the plain run at the same loss? Stopping rules are steps
of the plain run.
"""

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.special import ndtri, stdtrit

from hierdiff.questions.answers import leave
from hierdiff.questions.configs import Both
from hierdiff.questions.laws import MEMORIZATION
from hierdiff.questions.stopping import COSTS, EXCESS, costs_of, minima_of, read
from hierdiff.questions.sweep import make
from hierdiff.runs import record
from hierdiff.runs.sweep import Point, typed
from hierdiff.statistics.laws import Reading, power_law
from hierdiff.statistics.words import NOT_ESTIMATED, aligned

PLAIN = "plain"
# What a network gives away, and the digits that are shown.
GIVEN = {cost: digits for cost, (*_, digits) in COSTS.items() if cost != EXCESS}
# Of the time to memorize that a law predicts, the share after which a rule stops.
SHARE = 0.5
# The probability with which the smallest difference that is named would have been told.
POWER = 0.8
LESS, MORE = "less", "more"


class Trained(NamedTuple):
    """A run: its config, its curves, and `COSTS` along its training."""

    config: Any
    curves: xr.Dataset
    costs: dict[str, xr.DataArray]

    def at(self, step: float) -> list[float]:
        """The costs at a step; nan at none."""
        return [read(curve, step) if np.isfinite(step) else np.nan for curve in self.costs.values()]


def answer(config: Both, options: argparse.Namespace) -> None:
    """Make the runs and compare them; the tables, and `remedies.json` in the folder of all runs."""
    if points := make(config, options):
        runs: dict[str, list[Trained]] = {}
        attack = strongest([point for point in points if remedy(point) == PLAIN], options.out)
        for point in points:
            runs.setdefault(remedy(point), []).append(Trained(point.config, *costs_of(point, options.out, attack)))
        rows = [row for level in config.own.excess for row in compare(level, runs)]
        stops = stopped(runs[PLAIN], config.own.law)
        curves = [{"remedy": name, **curve(of_remedy)} for name, of_remedy in runs.items()]
        file, words = options.out / "remedies.json", (table(rows, stops, attack), sentence(rows))
        leave(file, config, *words, rows=rows, stops=stops, curves=curves, attack=attack)


def remedy(point: Point) -> str:
    """What a run is called: by the options that make it no plain one."""
    return " ".join(f"{name} {text}" for name, text in typed(point.values).items() if name != "size") or PLAIN


def strongest(plain: Sequence[Point], folder: Path) -> str:
    """The attack with the largest area at the end of the plain runs: it judges all runs, at all steps."""
    curves = [record.read_results(folder / point.name / "membership.curves.nc").area for point in plain]
    return str(xr.concat([area.isel(step=-1) for area in curves], "run").mean("run").idxmax("attack").item())


def curve(runs: Sequence[Trained]) -> dict[str, Any]:
    """The costs along training, at each snapshot; means over the grammars."""
    steps = runs[0].costs["membership AUC"].step.values.astype(float).tolist()
    means = np.mean([[run.at(step) for step in steps] for run in runs], 0)
    return {"step": steps, **dict(zip(COSTS, means.T.tolist(), strict=True))}


def compare(level: float, runs: dict[str, list[Trained]]) -> Iterator[dict[str, Any]]:
    """What is given away where the excess loss first falls to a level, and how that differs from the plain run.

    Differences are paired by grammar.
    """
    found = {name: first_at(level, each) for name, each in runs.items()}
    for name, (steps, costs) in found.items():
        differences = costs - found[PLAIN][1]
        yield {
            "excess": level,
            "remedy": name,
            "grammars": len(steps),
            "reached": int(np.isfinite(steps).sum()),
            "step": spread(steps),
            **{cost: spread(x) for cost, x in zip(COSTS, costs.T, strict=True)},
            "differences": {cost: spread(x) for cost, x in zip(COSTS, differences.T, strict=True) if name != PLAIN},
        }


def first_at(level: float, runs: Sequence[Trained]) -> tuple[Float[np.ndarray, " grammars"], np.ndarray]:
    """The first step of each run at which its excess loss is a level, and all costs there; nan where it never is."""
    steps = np.array([passes(run.curves.step.values, level - run.curves.excess.values) for run in runs])
    return steps, np.array([run.at(step) for run, step in zip(runs, steps, strict=True)])


def passes(steps: np.ndarray, curve: np.ndarray) -> float:
    """The first step at which a curve, by straight lines in log(step), is not below zero; nan where there is none."""
    above = np.flatnonzero(curve >= 0)
    if len(above) == 0:
        return np.nan
    around = slice(max(above[0] - 1, 0), above[0] + 1)
    return float(np.exp(np.interp(0, curve[around], np.log(steps[around]))))


def spread(values: Float[np.ndarray, " grammars"]) -> dict[str, float]:
    """The mean over those grammars that have a value, half of its 95% interval (Student's), and what would have shown.

    The last is the size of a mean that, with this spread, is told from zero with probability `POWER`.
    """
    there = values[np.isfinite(values)]
    if len(there) < 2:
        return {"mean": float(there.mean()) if len(there) else np.nan, "half_width": np.nan, "shows": np.nan}
    error, tail = there.std(ddof=1) / np.sqrt(len(there)), stdtrit(len(there) - 1, 0.975)
    found = {"mean": there.mean(), "half_width": tail * error, "shows": (tail + ndtri(POWER)) * error}
    return {name: float(x) for name, x in found.items()}


def verdict(difference: dict[str, float]) -> str:
    """Whether a remedy gives away less than the plain run, more, or what is not told."""
    if abs(difference["mean"]) > difference["half_width"]:
        return LESS if difference["mean"] < 0 else MORE
    return ""


def predicted(file: str, config: Any) -> float:
    """The step at which a run memorizes, by the law of a sweep's record over sizes, of other grammars than its own."""
    law = next(each["numbers"]["landmarks"][MEMORIZATION] for each in record.read_json(Path(file))["laws"])
    readings = [Reading(**record.numbers(each)) for each in law["readings"]]
    found = power_law([reading for reading in readings if reading.grammar != config.seed])
    value, step, *_ = found.line[0] if found.line else (np.nan, np.nan)
    return step * (config.size / value) ** found.exponent


def stopped(runs: Sequence[Trained], law: str) -> list[dict[str, Any]]:
    """The costs where each rule stops the plain runs; `law` is the file of a record, if any."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for rule, step in rules(run, law):
            found.setdefault(rule, []).append(step)
    rows = []
    for rule, steps in found.items():
        costs = np.array([run.at(step) for run, step in zip(runs, steps, strict=True)])
        of_costs = {cost: spread(x) for cost, x in zip(COSTS, costs.T, strict=True)}
        reached = int(np.isfinite(steps).sum())
        rows.append(
            {"rule": rule, "grammars": len(runs), "reached": reached, "step": spread(np.array(steps)), **of_costs}
        )
    return rows


def rules(run: Trained, law: str) -> Iterator[tuple[str, float]]:
    """The step at which each rule stops a run; nan where it does not, or is not known."""
    curves, steps = run.curves, run.curves.step.values
    (of_split, split), (of_loss, loss) = minima_of(run.config, curves).items()
    yield of_split, float(split.step) if split.reached else np.nan
    # From then on the network is more certain than it is right: one network and a test set tell it.
    surer = (curves.test_loss - curves.entropy).values
    calm = int(surer.argmin())
    yield "test loss above entropy", passes(steps[calm:], surer[calm:])
    if law:
        yield f"{SHARE:g} of the predicted time to memorize", SHARE * predicted(law, run.config)
    yield of_loss, float(loss.step) if loss.reached else np.nan


def table(rows: Sequence[dict[str, Any]], stops: Sequence[dict[str, Any]], attack: str) -> list[str]:
    """At each excess loss what the remedies give away, beside the plain run; then the stopping rules."""
    grammars = rows[0]["grammars"]
    lines = [f"means over {grammars} grammars, with the half-width of their 95% intervals; the attack is {attack}"]
    for level, each in itertools.groupby(rows, lambda row: row["excess"]):
        lines += ["", f"where the excess loss first is {level:g} nats; of remedies, the difference from the plain run"]
        lines += aligned(cells(row) for row in each)
    lines += ["", "stopping rules, in the plain run"]
    lines += aligned(
        {
            "rule": row["rule"],
            "reached": f"{row['reached']}/{row['grammars']}",
            "step": shown(row["step"], 0),
            EXCESS: shown(row[EXCESS], 3),
            **{cost: shown(row[cost], digits) for cost, digits in GIVEN.items()},
        }
        for row in stops
    )
    return lines


def cells(row: dict[str, Any]) -> dict[str, str]:
    differences = row["differences"]
    of_costs = {cost: (differences or row)[cost] for cost in GIVEN}
    told = {
        cost: f"{shown(x, GIVEN[cost], '+' if differences else '')} {verdict(x) if differences else '':4}"
        for cost, x in of_costs.items()
    }
    return {
        "remedy": row["remedy"],
        "reached": f"{row['reached']}/{row['grammars']}",
        "step": shown(row["step"], 0),
        **told,
    }


def shown(x: dict[str, float], digits: int, sign: str = "") -> str:
    if not np.isfinite(x["mean"]):
        return "-"
    half = f" +- {x['half_width']:,.{digits}f}" if np.isfinite(x["half_width"]) else ""
    return f"{x['mean']:{sign},.{digits}f}{half}"


def sentence(rows: Sequence[dict[str, Any]]) -> str:
    """At each excess loss: what gives away least, what less than the plain run or more, and what would have shown."""
    parts = []
    for level, of_level in itertools.groupby(rows, lambda row: row["excess"]):
        each = list(of_level)
        there = [row for row in each if row["reached"] == row["grammars"]]
        least: dict[str, list[str]] = {}
        for cost in GIVEN if there else ():
            least.setdefault(min(there, key=lambda row: row[cost]["mean"])["remedy"], []).append(cost)
        beside = [row for row in each if row["remedy"] != PLAIN]
        told = {
            word: {
                row["remedy"]: [cost for cost in GIVEN if verdict(row["differences"][cost]) == word] for row in beside
            }
            for word in (LESS, MORE)
        }
        said = "; ".join(f"{word} than the plain run: {named(costs)}" for word, costs in told.items())
        never = [row["remedy"] for row in beside if not row["reached"]]
        shows = [
            f"{np.median(x):.{digits}f} of {cost}"
            for cost, digits in GIVEN.items()
            if len(x := [y for row in beside if np.isfinite(y := row["differences"][cost]["shows"])])
        ]
        parts.append(
            f"At {level:g} nats of excess loss, least is given away by {named(least)}; {said}"
            + (f"; not reached by {', '.join(never)}" if never else "")
            + f"; half of the remedies would have shown differences of {', '.join(shows) or NOT_ESTIMATED}"
        )
    return ". ".join(parts) + "."


def named(costs: Mapping[str, Sequence[str]]) -> str:
    """Remedies, with what is given away that they are named for."""
    return ", ".join(f"{name} ({', '.join(each)})" for name, each in costs.items() if each) or "none"
