"""How often do 95% intervals hold the truth, and how often is a minimum claimed where there is none?

In synthetic experiments the truth is known. In a pool of trained networks it is what the networks and the test samples
say that an experiment did not draw; that has an error too, which the intervals are widened by.
"""

import argparse
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from hierdiff.questions import membership, snapshots
from hierdiff.questions.answers import leave
from hierdiff.questions.configs import CalibrationConfig, MembershipConfig
from hierdiff.runs import record, saying
from hierdiff.statistics import synthetic
from hierdiff.statistics.landmarks import Landmark, Ratio, crossing, minimum, ratio, turning_point
from hierdiff.statistics.minima import locate_minimum, locate_onset
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import aligned
from hierdiff.worlds.finished import Run, open_run
from hierdiff.worlds.plain import Plain
from hierdiff.worlds.sequences import Sequences

# Synthetic experiments: data sets and checkpoints; of every second one the weights are not averaged.
SETS, CHECKPOINTS, JITTER, LEVEL = (3, 4, 6, 8), (6, 8, 12, 16, 32), 0.02, 0.01
# Draws from the pool: so many sets, and every so many of its checkpoints.
DRAWN, EVERY = (3, 4), (1, 2, 4)
# Blocks of the pool's networks that are left out to see what its choice makes.
BLOCKS = 12
# What is read at one checkpoint; the area is that of the last snapshot.
VALUES = ("split", "loss", "slope", "own against other", "AUC")
LANDMARKS = ("turning point", "onset of memorization", "best", "ratio")


def answer(config: CalibrationConfig, options: argparse.Namespace) -> None:
    """Calibrate, print the table and write `calibration.json` into the folder of the pool."""
    run, rng = open_run(options.run, Sequences), np.random.default_rng(0)
    cells = [(sets, number) for sets in SETS for number in CHECKPOINTS]
    known, drawn = [], []
    with saying.progress(len(cells) + len(DRAWN), "kind") as show:
        for done, (sets, number) in enumerate(cells):
            show(done)
            known.append(of_synthetic(rng, sets, number, config.experiments))
        thinned, pool = of_thinned(rng, config.experiments), Pool(run)
        for done, sets in enumerate(DRAWN, len(cells)):
            show(done)
            drawn += of_pool(rng, pool, sets, config.experiments)
        show(len(cells) + len(DRAWN))
    found = {"synthetic": known, "thinned": thinned, "pool": drawn}
    leave(options.run / "calibration.json", config, table(found), "", **found)


def of_synthetic(rng: np.random.Generator, sets: int, checkpoints: int, experiments: int) -> dict[str, Any]:
    """Claims, false alarms and coverage, over experiments with and without a minimum."""
    steps, held = synthetic.steps_of(checkpoints), {name: [] for name in LANDMARKS}
    passes = synthetic.passes(synthetic.slope, LEVEL)
    for number in range(experiments):
        split, jitter = synthetic.SPLITS[number % 3], JITTER * (number % 2)
        shapes = {"split": split, "loss": synthetic.loss, "slope": synthetic.slope}
        made = synthetic.experiment(rng, steps, sets, shapes, jitter)
        truth = synthetic.lowest(split), passes, synthetic.lowest(synthetic.loss)
        found = landmarks(made.curves, made.resampling, LEVEL)
        for name, x, at in zip(LANDMARKS, found, (*truth, truth[2] / truth[0]), strict=True):
            held[name].append(holds(x, at))
    alarms = [
        turning_point(made.curves["split"], made.resampling).reached
        for shape in synthetic.WITHOUT
        for made in (
            synthetic.experiment(rng, steps, sets, {"split": shape}, JITTER * (number % 2))
            for number in range(experiments)
        )
    ]
    alarms = dict(
        zip((shape.__name__ for shape in synthetic.WITHOUT), np.reshape(alarms, (3, -1)).mean(1), strict=True)
    )
    return {"sets": sets, "checkpoints": len(steps), "cover": {k: shares(x) for k, x in held.items()}, "alarms": alarms}


def of_thinned(rng: np.random.Generator, experiments: int) -> dict[str, float]:
    """Whether the intervals of two thinnings of a run overlap, and how wide they are, as a share of the whole run's."""
    steps, overlap, widths = synthetic.steps_of(32), [], []
    for number in range(experiments):
        shapes = {"split": synthetic.SPLITS[number % 3]}
        made = synthetic.experiment(rng, steps, 4, shapes, JITTER * (number % 2))
        parts = [slice(None), slice(0, None, 2), slice(1, None, 2)]
        found = [turning_point(made.curves["split"].part(part), made.resampling) for part in parts]
        if all(x.reached and x.resolved for x in found):
            _, a, b = found
            overlap.append(a.low <= b.high and b.low <= a.high)
            widths.append([math.log(x.high / x.low) if x.low > 0 else math.inf for x in found])
    whole, *thin = np.median(widths, 0) if widths else np.full(3, np.nan)
    return {"overlap": float(np.mean(overlap)), "width": float(np.max(thin) / whole), "experiments": len(overlap)}


def landmarks(curves: dict[str, Any], resampling: Any, level: float) -> tuple[Landmark, Landmark, Landmark, Ratio]:
    """Turning point, onset of memorization, best, and the ratio of the last to the first."""
    first, last = turning_point(curves["split"], resampling), minimum(curves["loss"], resampling)
    return first, crossing(curves["slope"], resampling, level), last, ratio(first, last, resampling)


def holds(found: Landmark | Ratio, truth: float, error: float = 0.0) -> float:
    """1 or 0: whether an interval, widened by the standard error of log(truth), holds it; nan where none is claimed."""
    middle = found.step if isinstance(found, Landmark) else found.ratio
    if not np.isfinite(middle) or np.isnan(found.low):
        return math.nan
    ends = [math.log(middle / found.low) if found.low else math.inf, math.log(found.high / middle)]
    below, above = (math.hypot(end, 1.96 * error) for end in ends)
    return float(-below <= math.log(truth / middle) <= above)


def shares(held: Any) -> dict[str, float]:
    """The share of experiments that claim it, and of these the share that hold the truth, with its standard error."""
    held = np.asarray(held, float)
    claimed = held[~np.isnan(held)]
    cover = claimed.mean() if len(claimed) else math.nan
    error = math.sqrt(cover * (1 - cover) / len(claimed)) if len(claimed) else math.nan
    return {"claimed": len(claimed) / len(held), "cover": float(cover), "error": error}


class Pool:
    """The networks of a run with many data sets, from which experiments are drawn."""

    def __init__(self, run: Run):
        results, measure = record.read_results(run.folder / "results.nc"), run.config.measure
        here = results.sel(noise=measure.onset_noise)
        curves = {name: x.astype(float) for name, x in Plain.curves(here.drop_vars("spectrum")).items()}
        snapshots.extend(membership.MEMBERSHIP, run, MembershipConfig(targets=run.config.size))
        attacks = membership.kept_of(record.read_results(run.folder / "membership.results.nc"))
        area = attacks.area.isel(step=-1).sel(attack="calibrated", drop=True)
        names = {"split": "split", "loss": "excess", "product": "slope", "empirical": "empirical"}
        self.level, self.sets = measure.slope_level, len(run.world.train)
        self.variables = {
            **{ours: curves[name] for ours, name in names.items()},
            "own against other": curves["own_against_other"],
            "AUC": area,
        }
        self.first, self.second = run.pairs
        self.groups = self.variables["split"].sizes["group"]
        self.steps = results.step.values.astype(float)

    def part(self, sets: np.ndarray, groups: np.ndarray) -> tuple[dict[str, xr.DataArray], dict[str, np.ndarray]]:
        """What these networks measured on these groups, and the data sets of networks and pairs."""
        pairs = np.flatnonzero(np.isin(self.first, sets) & np.isin(self.second, sets))
        places = {"network": sets, "pair": pairs, "group": groups}
        parts = {
            name: x.isel({dim: places[str(dim)] for dim in x.dims if dim in places})
            for name, x in self.variables.items()
        }
        of_pairs = np.stack([self.first[pairs], self.second[pairs]], 1)
        return parts, {"network": sets[:, None], "pair": of_pairs}

    def means(self, sets: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
        parts, _ = self.part(sets, groups)
        means = {name: x.mean([dim for dim in x.dims if dim != "step"]).values for name, x in parts.items()}
        return means | {"slope": means["product"] / means["empirical"]}

    def statistics(self, sets: np.ndarray, groups: np.ndarray) -> Statistics:
        return replicate(*self.part(sets, groups)).derive(lambda x: x.assign(slope=x["product"] / x.empirical))

    def truth(self, sets: np.ndarray, groups: np.ndarray, at: int) -> np.ndarray:
        """Log(step) of the landmarks, and log of their ratio; and the values of `VALUES` at one checkpoint."""
        means = self.means(sets, groups)
        first = math.log(locate_onset(self.steps, means["split"]).step)
        last = math.log(locate_minimum(self.steps, means["loss"]).step)
        until = slice(int(np.argmax(means["slope"] > self.level)) + 1)
        passed = np.interp(self.level, means["slope"][until], np.log(self.steps)[until])
        values = [means[name][at] if means[name].ndim else float(means[name]) for name in VALUES]
        return np.array([first, passed, last, last - first, *values])


def of_pool(rng: np.random.Generator, pool: Pool, sets: int, experiments: int) -> list[dict[str, Any]]:
    """Coverage over draws of data sets and of half of the test samples, for each thinning of the checkpoints."""
    everything, groups = np.arange(pool.sets), np.arange(pool.groups)
    at = len(pool.steps) // 2
    error = error_of_truth(pool, sets, functools.partial(pool.truth, at=at))
    held, chosen = {every: [] for every in EVERY}, []
    for _ in range(experiments):
        drawn = np.sort(rng.choice(pool.sets, sets, replace=False))
        seen = np.sort(rng.choice(pool.groups, pool.groups // 2, replace=False))
        truth = pool.truth(np.setdiff1d(everything, drawn), np.setdiff1d(groups, seen), at)
        found = pool.statistics(drawn, seen)
        chosen.append(drawn)
        for every in EVERY:
            curves = {name: found.curve(name).part(slice(None, None, every)) for name in ("split", "loss", "slope")}
            marks = landmarks(curves, found.resampling, pool.level)
            known = [*zip(truth, error, strict=True)]
            of_marks = [holds(x, math.exp(t), e) for x, (t, e) in zip(marks, known[:4], strict=True)]
            of_values = [value_held(found, name, at, *x) for name, x in zip(VALUES, known[4:], strict=True)]
            held[every].append(of_marks + of_values)
    blocks = np.array_split(rng.permutation(pool.sets), BLOCKS)
    apart = np.array([[not np.isin(drawn, block).any() for drawn in chosen] for block in blocks])
    rows = []
    for every in EVERY:
        columns = dict(zip((*LANDMARKS, *VALUES), np.array(held[every]).T, strict=True))
        cover = {name: shares(x) | {"error": error_of_cover(x, apart)} for name, x in columns.items()}
        rows.append({"sets": sets, "checkpoints": len(pool.steps[::every]), "cover": cover})
    return rows


def value_held(found: Statistics, name: str, at: int, truth: float, error: float) -> float:
    mean, replicates = (
        x[name].isel(step=at) if "step" in x[name].dims else x[name] for x in (found.mean, found.replicates)
    )
    half = float(found.resampling.half_width(replicates.values[:, None])[0])
    return float(abs(float(mean) - truth) <= math.hypot(half, 1.96 * error))


def error_of_truth(pool: Pool, sets: int, truth: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Standard errors of the truth of a draw: jackknives over all networks and all groups, for those not drawn."""
    every, groups = np.arange(pool.sets), np.arange(pool.groups)
    of_sets = np.stack([truth(np.delete(every, i), groups) for i in every])
    of_groups = np.stack([truth(every, np.delete(groups, i)) for i in groups])
    left = pool.sets - sets, pool.groups - pool.groups // 2
    variance = sum(
        (len(x) - 1) * x.var(0) * len(x) / number for x, number in zip((of_sets, of_groups), left, strict=True)
    )
    return np.sqrt(variance)


def error_of_cover(held: np.ndarray, apart: np.ndarray) -> float:
    """The error of a coverage by the choice of the pool: a jackknife that leaves blocks of its networks out.

    `apart[b]` are the experiments that drew none of block b.
    """
    covers = [np.nanmean(held[rows]) for rows in apart if np.isfinite(held[rows]).any()]
    return math.sqrt((len(covers) - 1) * np.var(covers)) if covers else math.nan


def table(found: dict[str, Any]) -> list[str]:
    """Coverage of 95% intervals, each with its standard error, behind the share of experiments that claim one."""

    def cells(row: dict[str, Any]) -> dict[str, str]:
        return {
            name: f"{x['claimed']:.2f}: {x['cover']:.3f}({1000 * x['error']:.0f})" if x["claimed"] else "0.00"
            for name, x in row["cover"].items()
        }

    def of(rows: list[dict[str, Any]]) -> list[str]:
        return aligned(
            {"sets": row["sets"], "checkpoints": row["checkpoints"], **cells(row)}
            | {f"claimed, {name}": f"{x:.3f}" for name, x in row.get("alarms", {}).items()}
            for row in rows
        )

    thinned = found["thinned"]
    return [
        "share of experiments that claim a landmark: of these, the share whose 95% interval holds the truth (error in "
        "units of the last digit)",
        "",
        "synthetic experiments, and claims of a turning point on curves that have none",
        *of(found["synthetic"]),
        "",
        f"two thinnings of 32 checkpoints: intervals overlap in {thinned['overlap']:.1%}, and are at most "
        f"{thinned['width']:.2f} times as wide as those of all, in the median",
        "",
        "draws from a pool of trained networks",
        *of(found["pool"]),
    ]
