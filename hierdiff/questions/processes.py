"""Do networks lean towards their samples sooner under masking or uniform noise than under Gaussian noise?

Trains the run of each process, on the same data, and asks it what it copies; runs that are there already are used. What
is the same under all noises is how far the bound on -log p lies above that of the exact posterior: copies are compared
where training first brings that down to one value.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from hierdiff.errors import require
from hierdiff.noising import PROCESSES
from hierdiff.questions import QUESTIONS, snapshots, training
from hierdiff.questions.configs import Both
from hierdiff.questions.copying import COPYING, HEIGHT
from hierdiff.runs import record
from hierdiff.runs.options import rebuild
from hierdiff.statistics.replicates import Curve, Statistics
from hierdiff.worlds.finished import open_run
from hierdiff.worlds.run_config import OnsetConfig
from hierdiff.worlds.sequences import Sequences

# Values of the bound's excess at which copies are compared.
VALUES = 3


def answer(config: Both, options: argparse.Namespace) -> None:
    """Make the runs and compare them; tables, and `processes.json` in the folder of all runs."""
    whole, first = config.training, config.own.processes[0]
    require(whole.process == "gaussian", "process", whole.process, "to be left out: --processes gives them all")
    configs = {name: rebuild(whole, {"process": name, **PROCESSES[name].defaults}) for name in config.own.processes}
    found = {name: measure(each, options.out / name, options.preset) for name, each in configs.items()}
    landmarks = [row(name, record.read_json(options.out / name / "summary.json")) for name in found]
    copied = compare(found)
    words = sentence(copied, first)
    record.write_json(
        options.out / "processes.json",
        {"landmarks": landmarks, "copies": copied, "sentence": words, **record.provenance()},
    )
    print("", *table(landmarks, copied), "", words, "", options.out / "processes.json", sep="\n")


def measure(config: OnsetConfig, folder: Path, preset: str) -> Statistics:
    """Train one run, and ask what it copies, unless that is there."""
    training.train(config, Sequences.set_up(config), folder)
    found, _ = snapshots.extend(COPYING, open_run(folder, Sequences), QUESTIONS["copying"].presets[preset])
    return found


def row(process: str, summary: dict[str, Any]) -> dict[str, Any]:
    """The landmarks of a run, as its summary has them, and how much is known at the noise level of its onset."""
    level = next(each for each in summary["noise"] if each["noise"] == summary["onset_noise"])
    names = ("onset", "best", "ratio", "excess_bound_minimum")
    return {
        "process": process,
        "noise": level["noise"],
        "bits": level["information"],
        **{name: summary[name] for name in names},
    }


def compare(found: dict[str, Statistics]) -> list[dict[str, Any]]:
    """Copies of blocks above chance where the bound's excess first falls to each of some values, and differences."""
    bounds = {name: each.curve("excess_bound") for name, each in found.items()}
    low, high = max(each.mean.min() for each in bounds.values()), min(each.mean[0] for each in bounds.values())
    # The smallest value is one that each run reaches clearly, the largest one that none has from the start.
    values = np.geomspace(0.9 * high, 1.1 * low, VALUES) if 1.1 * low < 0.9 * high else []
    rows = []
    for value in values:
        for steps in next(iter(found.values())).mean.reverse_steps.values.tolist():
            first = None
            for name, each in found.items():
                copied = each.curve("more_copies", reverse_steps=steps, height=min(HEIGHT, int(each.mean.height[-1])))
                there, read = where_first(bounds[name], copied, float(value))
                first = first or read
                more = Curve(there, read.mean - first.mean, read.replicates - first.replicates)
                rows.append(
                    {"excess_bound": float(value), "reverse_steps": steps, "process": name, "step": float(there[0])}
                    | {
                        of: {"mean": float(x.mean[0]), "half_width": float(each.resampling.half_width(x.replicates)[0])}
                        for of, x in (("copies", read), ("more", more))
                    }
                )
    return rows


def where_first(bound: Curve, curve: Curve, value: float) -> tuple[Float[np.ndarray, " 1"], Curve]:
    """The step at which `bound` first falls to a value, and another curve there, in each replicate as well."""

    def step(of: np.ndarray) -> float:
        after = int(np.argmax(of <= value))
        if after == 0:
            return np.nan
        return float(
            np.interp(-np.log(value), -np.log(of[[after - 1, after]]), np.log(bound.steps[[after - 1, after]]))
        )

    log_steps, there = np.log(bound.steps), step(bound.mean)
    replicates = [
        np.interp(step(of), log_steps, one) for of, one in zip(bound.replicates, curve.replicates, strict=True)
    ]
    read = Curve(np.exp([there]), np.array([np.interp(there, log_steps, curve.mean)]), np.array(replicates)[:, None])
    return read.steps, read


def table(landmarks: list[dict[str, Any]], copied: list[dict[str, Any]]) -> list[str]:
    def at(found: dict[str, Any]) -> str:
        return f"{found['step']:,.0f}" if found["reached"] else "not reached"

    of_runs = [
        {
            "process": row["process"],
            "t/T": row["noise"],
            "bits": f"{row['bits']:.1f}",
            "split smallest": at(row["onset"]),
            "excess loss smallest": at(row["best"]),
            "bound's excess smallest": at(row["excess_bound_minimum"]),
        }
        for row in landmarks
    ]
    of_copies = [
        {
            "excess of the bound": f"{row['excess_bound']:.2f}",
            "reverse steps": row["reverse_steps"],
            "process": row["process"],
            "step": f"{row['step']:,.0f}",
            "copies": shown(row["copies"]),
            f"above {landmarks[0]['process']}": shown(row["more"]),
        }
        for row in copied
    ]
    return [
        pd.DataFrame(of_runs).to_string(index=False),
        "",
        f"share of generated blocks of height {HEIGHT} in the own training set, above another's, with the half-width "
        "of its 95% interval",
        pd.DataFrame(of_copies).to_string(index=False),
    ]


def shown(x: dict[str, float]) -> str:
    return f"{x['mean']:+.4f} +- {x['half_width']:.4f}"


def sentence(copied: list[dict[str, Any]], first: str) -> str:
    """Which processes copy more than the first one, or less, at equal excess of the bound."""
    told = [
        f"{row['process']} by {shown(row['more'])} at {row['excess_bound']:.2f} nats and {row['reverse_steps']} steps"
        for row in copied
        if row["process"] != first and abs(row["more"]["mean"]) > row["more"]["half_width"]
    ]
    at = f"At equal excess of the bound on -log p, networks copy blocks of height {HEIGHT}"
    if not told:
        return f"{at} no more and no less than under {first} noise, within the intervals."
    return f"{at} otherwise than under {first} noise here: {'; '.join(told)}."
