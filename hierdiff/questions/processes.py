"""Do networks copy more of their training sets under masking or uniform noise than under Gaussian noise?

A sweep over processes, on the same data; each run is asked what it copies. What is the same under all noises is how far
the bound on -log p lies above that of the exact posterior: copies are compared where training first brings that down to
one value.
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hierdiff.questions.answers import leave
from hierdiff.questions.configs import Both
from hierdiff.questions.copying import COPYING, HEIGHT
from hierdiff.questions.sweep import make
from hierdiff.runs import record
from hierdiff.runs.sweep import Point
from hierdiff.statistics.minima import locate_minimum
from hierdiff.statistics.replicates import Curve, Statistics
from hierdiff.statistics.words import NOT_ESTIMATED, aligned
from hierdiff.worlds.finished import open_run
from hierdiff.worlds.sequences import Sequences

# Values of the bound's excess at which copies are compared.
VALUES = 3


def answer(config: Both, options: argparse.Namespace) -> None:
    """Make the runs and compare them; tables, and `processes.json` in the folder of all runs."""
    if points := make(config, options):
        landmarks = [row(point, record.read_json(options.out / point.name / "summary.json")) for point in points]
        copied = compare({point.config.process: copies(options.out / point.name) for point in points})
        file, words = options.out / "processes.json", sentence(copied, config.own.processes[0])
        leave(file, config, table(landmarks, copied), words, landmarks=landmarks, copies=copied)


def copies(folder: Path) -> Statistics:
    """What a run copies."""
    results = record.read_results(folder / f"{COPYING.name}.results.nc")
    return COPYING.statistics(open_run(folder, Sequences), results)


def row(point: Point, summary: dict[str, Any]) -> dict[str, Any]:
    """The landmarks of a run, as its summary has them, and how much is known at the noise level of its onset."""
    level = next(each for each in summary["noise"] if each["noise"] == summary["onset_noise"])
    names = ("sets", "onset", "memorization", "best", "ratio", "excess_bound_minimum")
    return {
        "process": point.config.process,
        "folder": point.name,
        "noise": level["noise"],
        "bits": level["information"],
        **{name: summary[name] for name in names},
        "copies_since": summary["copying"]["copies_since"],
    }


def compare(found: dict[str, Statistics]) -> list[dict[str, Any]]:
    """Copies of blocks above chance, and how many more than under the first process, at equal excess of the bound.

    That is where training first brings it down to one of some values; and where it is smallest, which is not equal.
    """
    bounds = {name: each.curve("excess_bound") for name, each in found.items()}
    low, high = max(each.mean.min() for each in bounds.values()), min(each.mean[0] for each in bounds.values())
    # The smallest value is one that each run reaches clearly, the largest one that none has from the start.
    values = np.geomspace(0.9 * high, 1.1 * low, VALUES) if 1.1 * low < 0.9 * high else []
    places: dict[str, Callable] = {f"{value:.2f} nats": functools.partial(falls_to, value) for value in values}
    places["the smallest"] = lambda steps, curves: np.log(locate_minimum(steps, curves).step)
    of_first, rows = next(iter(found.values())).mean, []
    height, all_steps = min(HEIGHT, int(of_first.height[-1])), of_first.reverse_steps.values.tolist()
    for at, place in places.items():
        # In log(step): of the mean, and of each replicate.
        there = {name: (float(place(x.steps, x.mean)), place(x.steps, x.replicates)) for name, x in bounds.items()}
        for number in all_steps:
            first = None
            for name, each in found.items():
                copied = read_at(each.curve("more_copies", reverse_steps=number, height=height), *there[name])
                first = first or copied
                more = Curve(copied.steps, copied.mean - first.mean, copied.replicates - first.replicates)
                rows.append(
                    {"at": at, "reverse_steps": number, "process": name, "step": float(copied.steps[0])}
                    | {
                        of: {"mean": float(x.mean[0]), "half_width": float(each.resampling.half_width(x.replicates)[0])}
                        for of, x in (("copies", copied), ("more", more))
                    }
                )
    return rows


def falls_to(value: float, steps: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Log(step) where each curve, `(*curves, steps)`, first falls to a value.

    A replicate that does not come so far is read where it is smallest, and one that is there from the start at its
    first snapshot.
    """
    below, log_steps = curves <= value, np.log(steps)
    after = np.where(below.any(-1), np.argmax(below, -1), np.argmin(curves, -1))
    before, falls = np.maximum(after - 1, 0), below.any(-1) & (after > 0)
    low, high = (np.take_along_axis(curves, x[..., None], -1)[..., 0] for x in (after, before))
    share = np.where(falls, np.log(high / value) / np.log(high / np.where(falls, low, 0.5 * high)), 1)
    return np.asarray((1 - share) * log_steps[before] + share * log_steps[after])


def read_at(curve: Curve, mean: float, replicates: np.ndarray) -> Curve:
    """A curve at one log(step), and each of its replicates at its own."""
    log_steps = np.log(curve.steps)
    each = [np.interp(x, log_steps, one) for x, one in zip(replicates, curve.replicates, strict=True)]
    return Curve(np.exp([mean]), np.array([np.interp(mean, log_steps, curve.mean)]), np.array(each)[:, None])


def table(landmarks: list[dict[str, Any]], copied: list[dict[str, Any]]) -> list[str]:
    def at(step: float | None, none: str = "none") -> str:
        return none if step is None or np.isnan(step) else f"{step:,.0f}"

    def where(found: dict[str, Any]) -> str:
        return at(found["step"], "from the start" if found["from_start"] else "none")

    def since(step: float | None) -> str:
        return at(step, NOT_ESTIMATED if landmarks[0]["sets"] == 2 else "none")

    of_runs = [
        {
            "process": row["process"],
            "t/T": row["noise"],
            "bits": f"{row['bits']:.1f}",
            "turning point": where(row["onset"]),
            "memorization": where(row["memorization"]),
            "best": where(row["best"]),
            "excess of bound smallest": where(row["excess_bound_minimum"]),
            **{f"copies in {each['reverse_steps']} steps since": since(each["step"]) for each in row["copies_since"]},
        }
        for row in landmarks
    ]
    of_copies = [
        {
            "excess of the bound": row["at"],
            "reverse steps": row["reverse_steps"],
            "process": row["process"],
            "step": at(row["step"]),
            "copies": shown(row["copies"]),
            f"above {landmarks[0]['process']}": shown(row["more"]),
        }
        for row in copied
    ]
    return [
        *aligned(of_runs),
        "",
        f"share of generated blocks of height {HEIGHT} in the own training set, above another's, with the half-width "
        "of its 95% interval",
        *aligned(of_copies),
    ]


def shown(x: dict[str, float]) -> str:
    half = f"({NOT_ESTIMATED})" if np.isnan(x["half_width"]) else f"+- {x['half_width']:.4f}"
    return f"{x['mean']:+.4f} {half}"


def sentence(copied: list[dict[str, Any]], first: str) -> str:
    """Which processes copy more than the first one, or less."""
    told = [
        f"{row['process']} by {shown(row['more'])} at {row['at']} and {row['reverse_steps']} reverse steps"
        for row in copied
        if row["process"] != first and abs(row["more"]["mean"]) > row["more"]["half_width"]
    ]
    if any(np.isnan(row["more"]["half_width"]) for row in copied):
        return f"Whether other noises copy more or less than {first} noise is {NOT_ESTIMATED} with two data sets."
    at = f"Against {first} noise, where the bound has the same excess, blocks of height {HEIGHT} are copied"
    return f"{at} {'otherwise: ' + '; '.join(told) if told else 'as often, within the intervals'}."
