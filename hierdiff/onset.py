"""Where a curve along training has its minimum: the onset of the bias, the best step, and their intervals."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy.special import stdtr

from hierdiff.replicates import NEIGHBOURS, Curve, Resampling


class Minima(NamedTuple):
    """The minima of curves along training; where one is not reached, `step` is the first or the last checkpoint.

    `lowest` is the number of the smallest checkpoint, beside which `step` lies.
    """

    step: Float[np.ndarray, "*curves"]
    value: Float[np.ndarray, "*curves"]
    reached: Bool[np.ndarray, "*curves"]
    lowest: Int[np.ndarray, "*curves"]


def locate_minimum(steps: ArrayLike, curves: ArrayLike) -> Minima:
    """The minimum of each curve, `(*curves, steps)`, between checkpoints by a parabola in log(step).

    The parabola is the least-squares fit to the smallest point and up to two neighbours on each side. A smallest
    point that is the first or the last checkpoint is no minimum: not reached.
    """
    curves = np.asarray(curves, float)
    return _locate(np.asarray(steps, float), curves, np.zeros(curves.shape[:-1], int))


def locate_onset(steps: ArrayLike, splits: ArrayLike) -> Minima:
    """The minimum of each sample split after its initial transient; not reached where the split never falls."""
    splits = np.asarray(splits, float)
    return _locate(np.asarray(steps, float), splits, after_transient(splits))


def after_transient(curves: Float[np.ndarray, "*curves steps"]) -> np.ndarray:
    """The index of the peak from which a curve falls furthest: untrained networks agree, so a split first rises."""
    trough = np.argmax(np.maximum.accumulate(curves, -1) - curves, -1)
    before = np.arange(curves.shape[-1]) <= trough[..., None]
    return np.asarray(np.argmax(np.where(before, curves, -np.inf), -1))


def _locate(steps: np.ndarray, curves: np.ndarray, start: np.ndarray) -> Minima:
    """The minimum of each curve from checkpoint `start` on."""
    shape, last = curves.shape[:-1], len(steps) - 1
    log_step, curves, start = np.log(steps), curves.reshape(-1, len(steps)), start.ravel()
    lowest = np.argmin(np.where(np.arange(len(steps)) < start[:, None], np.inf, curves), 1)
    step, value = log_step[lowest], curves[np.arange(len(curves)), lowest]
    reached = (lowest > start) & (lowest < last)
    # Curves with the same smallest checkpoint are fitted together.
    for middle, first in {*zip(lowest[reached], np.maximum(start, lowest - NEIGHBOURS)[reached], strict=True)}:
        rows = reached & (lowest == middle) & (np.maximum(start, lowest - NEIGHBOURS) == first)
        near = slice(first, middle + NEIGHBOURS + 1)
        bend, slope, level = np.polyfit(log_step[near] - log_step[middle], curves[rows, near].T, 2)
        shift = np.where(bend > 0, -slope / np.where(bend > 0, 2 * bend, 1), np.inf)
        left, right = log_step[middle - 1] - log_step[middle], log_step[middle + 1] - log_step[middle]
        within = (left <= shift) & (shift <= right)
        step[rows] += np.where(within, shift, 0)
        value[rows] = np.where(within, level + slope * np.where(within, shift, 0) / 2, value[rows])
    return Minima(*(np.asarray(x.reshape(shape)) for x in (np.exp(step), value, reached, lowest)))


class Estimate(NamedTuple):
    """A step along training with its 95% interval, which is open (0 or inf) where it leaves the run.

    `step`, `low`, `high` and `value` are nan where the minimum is not reached; `from_start` says that the curve rises,
    significantly, from the first checkpoint on.
    """

    step: float
    low: float
    high: float
    value: float
    reached: bool
    from_start: bool
    log_steps: Float[np.ndarray, " R"]


def estimate(curve: Curve, resampling: Resampling, locate: Callable[[ArrayLike, ArrayLike], Minima]) -> Estimate:
    """Where `locate` finds the minimum of a curve, with its interval on log(step).

    A minimum counts only if the later checkpoints lie, on average, above it by more than noise makes them. A replicate
    that does not reach its minimum counts as the first or the last step, where it is smallest; where more than 2.5% do
    so at one end, or the interval leaves the run there, that end is open.
    """
    steps = curve.steps
    minimum, found = locate(steps, curve.mean), locate(steps, curve.replicates)
    log_steps, step = np.log(found.step), float(minimum.step)
    rises = resampling.rises(curve, int(minimum.lowest), len(steps))
    if not minimum.reached or not rises:
        return Estimate(np.nan, np.nan, np.nan, np.nan, False, bool(rises and minimum.lowest == 0), log_steps)
    early = np.mean(~found.reached & (found.step < step))
    late = np.mean(~found.reached & (found.step > step))
    half = float(resampling.half_width(log_steps))
    low, high = step * math.exp(-half), step * math.exp(half)
    return Estimate(
        step,
        0.0 if early > 0.025 or low < steps[0] else low,
        np.inf if late > 0.025 or high > steps[-1] else high,
        float(minimum.value),
        True,
        False,
        log_steps,
    )


def last_significant_minimum(curve: Curve, resampling: Resampling, before: float) -> float | None:
    """The step of the last local minimum below `before` from which the curve rises by more than noise makes it.

    Networks that learn the heights of the tree one after another show a bump each time, and the global minimum may
    lie before an early one. The rise is read up to `before`.
    """
    steps, mean, _ = curve
    end = int(np.searchsorted(steps, before, side="right"))
    for i in reversed(range(max(int(after_transient(mean)), 1), end - 1)):
        if mean[i - 1] > mean[i] <= mean[i + 1] and resampling.rises(curve, i, end):
            return float(locate_minimum(steps[i - 1 : i + 2], mean[i - 1 : i + 2]).step)
    return None


def first_significant(curve: Curve, resampling: Resampling) -> float:
    """The first step from which on the curve lies significantly above zero, at 95%; nan where there is none."""
    below = np.flatnonzero(~resampling.significant(curve.mean, curve.replicates))
    start = 0 if len(below) == 0 else int(below[-1]) + 1
    return float(curve.steps[start]) if start < len(curve.steps) else float("nan")


class Ratio(NamedTuple):
    """How much later than the onset the test loss is smallest, with its 95% interval, and P(onset < best).

    `ratio`, `low` and `high` are nan where one of the two is not reached, and `before` where there is no onset.
    """

    ratio: float
    low: float
    high: float
    before: float


def ratio(onset: Estimate, best: Estimate, resampling: Resampling) -> Ratio:
    """Best over onset."""
    if not onset.reached:
        return Ratio(np.nan, np.nan, np.nan, np.nan)
    before = probability_before(onset, best, resampling)
    if not best.reached:
        return Ratio(np.nan, np.nan, np.nan, before)
    half = float(resampling.half_width(best.log_steps - onset.log_steps))
    middle = best.step / onset.step
    low = middle * math.exp(-half) if onset.high < np.inf and best.low > 0 else 0.0
    high = middle * math.exp(half) if best.high < np.inf and onset.low > 0 else np.inf
    return Ratio(middle, low, high, before)


def probability_before(first: Estimate, second: Estimate, resampling: Resampling) -> float:
    """P(first < second) by the spread of their difference on log(step)."""
    variance, freedom = resampling.variance(second.log_steps - first.log_steps)
    late = np.log(second.step) if second.reached else second.log_steps.mean()
    gap = late - np.log(first.step)
    return float(stdtr(freedom, gap / np.sqrt(variance))) if variance > 0 else float(gap > 0)
