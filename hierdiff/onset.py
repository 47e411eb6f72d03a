"""Where a curve along training has its minimum: the onset of the bias, the best step, and their intervals."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import stdtr

from hierdiff.replicates import Curve, Resampling


class Minimum(NamedTuple):
    """A minimum along training; where it is not reached, `step` is the first or the last checkpoint."""

    step: float
    value: float
    reached: bool


def locate_minimum(steps: ArrayLike, curve: ArrayLike) -> Minimum:
    """The minimum of a curve, between checkpoints by a parabola in log(step).

    The parabola is the least-squares fit to the smallest point and up to two neighbours on each side. A smallest
    point that is the first or the last checkpoint is no minimum: not reached.
    """
    log_step, curve = np.log(np.asarray(steps, float)), np.asarray(curve, float)
    lowest = int(np.argmin(curve))
    smallest = float(np.exp(log_step[lowest])), float(curve[lowest])
    if lowest in (0, len(curve) - 1):
        return Minimum(*smallest, False)
    near = slice(max(0, lowest - 2), lowest + 3)
    bend, slope, level = np.polyfit(log_step[near] - log_step[lowest], curve[near], 2)
    shift = -slope / (2 * bend) if bend > 0 else np.inf
    left, right = log_step[lowest - 1] - log_step[lowest], log_step[lowest + 1] - log_step[lowest]
    if not left <= shift <= right:
        return Minimum(*smallest, True)
    return Minimum(float(np.exp(log_step[lowest] + shift)), float(level + slope * shift / 2), True)


def after_transient(curve: Float[np.ndarray, " steps"]) -> int:
    """The index of the peak from which the curve falls furthest: untrained networks agree, so a split first rises."""
    peaks = np.maximum.accumulate(curve)
    trough = int(np.argmax(peaks - curve))
    return int(np.argmax(curve[: trough + 1]))


def locate_onset(steps: ArrayLike, split: ArrayLike) -> Minimum:
    """The minimum of a sample split after its initial transient; not reached where the split never falls."""
    steps, split = np.asarray(steps), np.asarray(split, float)
    start = after_transient(split)
    return locate_minimum(steps[start:], split[start:])


class Estimate(NamedTuple):
    """A step along training with its 95% interval, which is open (0 or inf) where it leaves the run.

    `step`, `low`, `high` and `value` are nan where the minimum is not reached.
    """

    step: float
    low: float
    high: float
    value: float
    reached: bool
    log_steps: Float[np.ndarray, " R"]


def estimate(curve: Curve, resampling: Resampling, locate: Callable[[ArrayLike, ArrayLike], Minimum]) -> Estimate:
    """Where `locate` finds the minimum of a curve, with its interval on log(step).

    A minimum counts only if the curve rises from it by more than two standard errors. A replicate that does not reach
    its minimum counts as the first or the last step, where it is smallest; where more than 2.5% do so at one end, or
    the interval leaves the run there, that end is open.
    """
    steps = curve.steps
    minimum, found = locate(steps, curve.mean), [locate(steps, each) for each in curve.replicates]
    log_steps = np.log([each.step for each in found])
    nearest = int(np.argmin(np.abs(np.log(steps / minimum.step))))
    if not minimum.reached or not resampling.rises(curve, nearest, len(steps)):
        return Estimate(np.nan, np.nan, np.nan, np.nan, False, log_steps)
    early = np.mean([not each.reached and each.step < minimum.step for each in found])
    late = np.mean([not each.reached and each.step > minimum.step for each in found])
    half = resampling.half_width(log_steps)
    low, high = minimum.step * math.exp(-half), minimum.step * math.exp(half)
    return Estimate(
        minimum.step,
        0.0 if early > 0.025 or low < steps[0] else low,
        np.inf if late > 0.025 or high > steps[-1] else high,
        minimum.value,
        True,
        log_steps,
    )


def last_significant_minimum(curve: Curve, resampling: Resampling, before: float) -> Minimum | None:
    """The last local minimum at a step below `before` from which the curve rises by over two standard errors.

    Networks that learn the heights of the tree one after another show a bump each time, and the global minimum may
    lie before an early one. The rise is read up to `before`.
    """
    steps, mean, _ = curve
    end = int(np.searchsorted(steps, before, side="right"))
    for i in reversed(range(max(after_transient(mean), 1), end - 1)):
        if mean[i - 1] > mean[i] <= mean[i + 1] and resampling.rises(curve, i, end):
            return locate_minimum(steps[i - 1 : i + 2], mean[i - 1 : i + 2])
    return None


def first_significant(curve: Curve, resampling: Resampling) -> float:
    """The first step from which on the curve lies above zero by over two standard errors; nan where there is none."""
    below = np.flatnonzero(curve.mean <= 2 * resampling.error(curve.replicates))
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
    half = resampling.half_width(best.log_steps - onset.log_steps)
    middle = best.step / onset.step
    low = middle * math.exp(-half) if onset.high < np.inf else 0.0
    high = middle * math.exp(half) if best.high < np.inf and onset.low > 0 else np.inf
    return Ratio(middle, low, high, before)


def probability_before(first: Estimate, second: Estimate, resampling: Resampling) -> float:
    """P(first < second) by the spread of their difference on log(step)."""
    variance, freedom = resampling.variance(second.log_steps - first.log_steps)
    late = np.log(second.step) if second.reached else second.log_steps.mean()
    gap = late - np.log(first.step)
    return float(stdtr(freedom, gap / np.sqrt(variance))) if variance > 0 else float(gap > 0)
