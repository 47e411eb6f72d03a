"""How do landmarks grow with the size of the training sets, or with another option? The laws, from runs of a sweep."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from hierdiff.runs import record
from hierdiff.statistics.landmarks import Landmark, crossing_of_record
from hierdiff.statistics.laws import Law, Reading, ends_of_phases, means, power_law
from hierdiff.statistics.minima import Minima, locate_minimum, locate_onset
from hierdiff.statistics.words import NOT_ESTIMATED, aligned, interval

# Nats a sequence of own against other from which networks count as biased.
BIASED = 0.2
# The share of what the tree says of a sequence below which the error that networks have in common counts as learned.
MISSED = 0.5
# The share of blocks that is valid where a height counts as learned, and of which, beyond what is copied from other
# sets, is copied from the own set where it counts as memorized.
VALID, COPIED = 0.5, 0.02
TURNING, BEST, MEMORIZATION = "turning point", "best", "memorization"
LEARNED, LEANING = "learned", "biased"
# The landmarks at which the phases end.
PHASES = {"not learned": LEARNED, "generalizing": LEANING, "biased": MEMORIZATION, "memorizing": None}
# How the time to memorize, and that to generate well, grow with P, and who says so: arXiv numbers.
MEMORIZING, GENERATING = (1.0, ("2505.16959", "2505.17638")), (0.0, ("2505.17638",))


class Swept(NamedTuple):
    """A run of a sweep: the values of the options that are swept, its seed, and its folder."""

    values: dict[str, Any]
    seed: int
    folder: Path


class Found(NamedTuple):
    """What the runs say: lines of a table, a sentence, and, for JSON, the numbers that the figures draw."""

    lines: list[str]
    sentence: str
    numbers: dict[str, Any]


def found(runs: list[Swept], of: str = "size") -> Found:
    """The power laws of all landmarks over the values of one option, the windows of the heights, and the phases.

    The runs of one seed are of one grammar. Where they differ in other options, these are to go with this one.
    """
    if not all(isinstance(run.values[of], int | float) and run.values[of] > 0 for run in runs):
        why = f"a law needs values of {of} that are numbers above zero"
        return Found([], f"No law over {of}: {why}.", {"of": of, "why": why})
    readings: dict[str, list[Reading]] = {}
    for run in runs:
        for name, where in landmarks(run.folder).items():
            readings.setdefault(name, []).append(Reading(value=float(run.values[of]), grammar=run.seed, **where))
    laws = {name: power_law(each) for name, each in readings.items()}
    by_value = {name: means(each) for name, each in readings.items()}
    values = sorted({float(run.values[of]) for run in runs})
    numbers = {
        "of": of,
        "values": values,
        "grammars": len({run.seed for run in runs}),
        "levels": {"own against other": BIASED, "missed": MISSED, "valid": VALID, "copied": COPIED},
        "landmarks": {name: _content(readings[name], by_value[name], laws[name]) for name in readings},
        "phases": [
            {
                "value": value,
                "ends": ends_of_phases([_begins(by_value[name][value]) for name in PHASES.values() if name]),
            }
            for value in values
            if LEARNED in readings
        ],
        "windows": [
            {
                "height": height,
                "opens": _valid(height),
                "closes": _copied(height),
                "sample_size": size if of == "size" else None,
            }
            for height, size in sample_sizes(runs[0].folder)
            if _valid(height) in readings
        ],
    }
    return Found(_table(of, values, readings, by_value, laws), _sentence(of, numbers, laws), numbers)


def landmarks(folder: Path) -> dict[str, dict[str, Any]]:
    """Where each landmark of a run lies: `step`, `low`, `high` and `state` of its reading.

    Turning point, best and the onset of memorization are those of its summary; the others are made of its curves.
    """
    summary, curves = record.read_json(folder / "summary.json"), record.read_results(folder / "curves.nc")
    at = curves.sel(noise=summary["onset_noise"])
    of_slope = curves.sel(noise=summary["slope_noise"])
    memorization = _landmark(summary["memorization"])
    if not memorization.located:
        memorization = _crossing(of_slope, "slope", summary["slope_level"])
    return {
        TURNING: _minimum(_landmark(summary["onset"]), at, locate_onset(at.step, at.split)),
        BEST: _minimum(_landmark(summary["best"]), at, locate_minimum(at.step, at.excess)),
        MEMORIZATION: placed(memorization, of_slope),
        **dict(_of_phases(at)),
        **dict(_of_heights(folder / "neighbours.curves.nc")),
    }


def _of_phases(at: xr.Dataset) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is learned: the error that two networks have in common, against what the tree says of a sequence.

    The latter are the increments of the heights from 1 on, the former all of the error but the data-dependent part.
    """
    yield LEANING, placed(_crossing(at, "own_against_other", BIASED), at)
    if "total_share" in at:
        tree = float(at.increment.sel(height=slice(1, None)).sum("height"))
        common = at.total_error * (1 - at.total_share) / tree
        half = np.hypot(at.total_error_half * (1 - at.total_share), at.total_error * at.total_share_half) / tree
        steps = at.step.values.astype(float)
        yield LEARNED, placed(crossing_of_record(steps, -common.values, half.values, -MISSED), at)


def _of_heights(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """From when on blocks of each height are valid, and more of them copies of the own set, in what networks generate.

    Nothing of a run whose samples were not measured.
    """
    if file.exists():
        curves = record.read_results(file)
        for height in curves.height.values[1:].tolist():
            here = curves.sel(height=height)
            yield _valid(height), placed(_crossing(here, "validity", VALID), curves)
            yield _copied(height), placed(_crossing(here, "more_copies", COPIED), curves)


def _valid(height: int) -> str:
    return f"valid, height {height}"


def _copied(height: int) -> str:
    return f"copies, height {height}"


def _landmark(known: Mapping[str, Any]) -> Landmark:
    """A landmark of a summary; in JSON an end that is open has no number."""
    found = Landmark(**record.numbers(known))
    open_end = found.reached and math.isnan(found.high)
    return dataclasses.replace(found, high=math.inf) if open_end else found


def _crossing(curves: xr.Dataset, name: str, level: float) -> Landmark:
    steps = curves.step.values.astype(float)
    return crossing_of_record(steps, curves[name].values, curves[f"{name}_half"].values, level)


def _minimum(known: Landmark, curves: xr.Dataset, lowest: Minima) -> dict[str, Any]:
    """A minimum that is not told lies beyond where the curve is lowest so far."""
    where = placed(known, curves)
    return where | {"step": float(lowest.step)} if where.get("state") == "later" else where


def placed(known: Landmark, curves: xr.Dataset) -> dict[str, Any]:
    """A landmark as a `Reading` has it: where it is not told, it lies before the first step, or after the last one."""
    if known.located:
        return {"step": known.step, "low": known.low, "high": known.high}
    if known.from_start:
        return {"step": float(curves.step[0]), "state": "earlier"}
    return {"step": float(curves.step[-1]), "state": "later"}


def _begins(mean: Landmark) -> float:
    if mean.located:
        return mean.step
    return 0.0 if mean.from_start else math.inf


def sample_sizes(folder: Path) -> list[tuple[int, float]]:
    """The sizes of training sets from which the rules of each height are learned: v m^(h + 1).

    That is the sample complexity of clustering tuples by their context (arXiv 2502.12089), for v symbols and m equally
    likely rules a symbol, up to a factor of order one.
    """
    grammar = record.read_json(folder / "config.json")["options"]["grammar"]
    v, m = grammar["vocab"], grammar["rules"]
    return [(height, float(v * m ** (height + 1))) for height in range(1, grammar["depth"] + 1)]


def published(name: str, heights: int) -> tuple[float, tuple[str, ...]] | None:
    """The published exponent in P of a landmark that has one, and where."""
    if name == MEMORIZATION or name.startswith("copies"):
        return MEMORIZING
    return GENERATING if name == _valid(heights) else None


def _content(readings: list[Reading], by_value: dict[float, Landmark], law: Law) -> dict[str, Any]:
    """What the figures draw of one landmark: of each run, of each value, and the law.

    A point of its line is a value, the step there, and the ends of the band.
    """
    return {
        "readings": readings,
        "means": [{**vars(mean), "value": value} for value, mean in by_value.items()],
        "law": law,
    }


def _table(
    of: str,
    values: list[float],
    readings: dict[str, list[Reading]],
    by_value: dict[str, dict[float, Landmark]],
    laws: dict[str, Law],
) -> list[str]:
    """Two tables with a row for each landmark: its steps, and the exponents beside those that are published."""
    heights = max((int(name.split()[-1]) for name in laws if name.startswith("valid")), default=0)
    steps = [
        {"landmark": name, **{f"{value:,g}": interval(by_value[name][value]) for value in values}} for name in laws
    ]
    rows, as_size = [], of == "size"
    for name, law in laws.items():
        states = [reading.state for reading in readings[name]]
        known = published(name, heights) if as_size else None
        rows.append(
            {
                "landmark": name,
                "reached": f"{states.count('reached')} of {len(states)}",
                "before": states.count("earlier"),
                "after": states.count("later"),
                "exponent (95%)": f"{NOT_ESTIMATED}: {law.why}" if law.why else exponent(law),
                "published": f"{known[0]:g}" if known else "-",
                "compatible": _verdict(law, known),
            }
        )
    return [
        f"mean step (95%), by {of}; learned: networks have less than {MISSED:g} of what the tree says wrong in common; "
        f"biased: own against other passes {BIASED:g} nats; valid, copies: of blocks that networks generate, more than "
        f"{VALID:g} are valid, and {COPIED:g} more are copies of the own set than of another",
        *aligned(steps),
        "",
        f"step = c {of}^exponent; before, after: runs in which it lies before the first checkpoint, or after the end"
        + (
            f"; published: {sources(MEMORIZING)} for memorizing, {sources(GENERATING)} for generating well"
            if as_size
            else ""
        ),
        *aligned(rows),
    ]


def sources(known: tuple[float, tuple[str, ...]]) -> str:
    return f"{known[0]:g} (arXiv {', '.join(known[1])})"


def exponent(law: Law) -> str:
    low, high = (f"{end:.2f}" if math.isfinite(end) else "open" for end in (law.low, law.high))
    return f"{law.exponent:.2f} ({low} to {high})"


def _verdict(law: Law, known: tuple[float, tuple[str, ...]] | None) -> str:
    if known is None or law.why:
        return "-"
    return "yes" if law.compatible(known[0]) else "no"


def _sentence(of: str, numbers: dict[str, Any], laws: dict[str, Law]) -> str:
    """The exponents of the three landmarks that every run reports."""
    told = [
        f"{words} as {of}^{exponent(laws[name])}"
        if not laws[name].why
        else f"{words} {NOT_ESTIMATED} ({laws[name].why})"
        for name, words in ((TURNING, "the turning point"), (BEST, "best"), (MEMORIZATION, "the onset of memorization"))
    ]
    if of == "size" and not laws[MEMORIZATION].why:
        holds = "is" if laws[MEMORIZATION].compatible(MEMORIZING[0]) else "is not"
        told.append(f"this {holds} compatible with the published {sources(MEMORIZING)}")
    values = numbers["values"]
    return (
        f"Over {len(values)} values of {of}, {values[0]:,g} to {values[-1]:,g}, and {numbers['grammars']} grammars, "
        f"training steps grow: {'; '.join(told)}."
    )
