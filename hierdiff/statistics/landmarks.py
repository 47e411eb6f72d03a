"""Onset and best: steps along training with their intervals."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from hierdiff.statistics.minima import Minima, after_transient, locate_minimum
from hierdiff.statistics.replicates import Curve, Resampling


@dataclasses.dataclass(frozen=True)
class Landmark:
    """A step along training with its 95% interval, which is open (0 or inf) where it leaves the run.

    `step`, `low`, `high` and `value` are nan where the minimum is not reached; `from_start` says that the curve rises,
    significantly, from the first checkpoint on. `log_steps` is its log(step) in each replicate, where it was located.
    """

    step: float
    low: float
    high: float
    value: float
    reached: bool
    from_start: bool
    log_steps: Any = None


def estimate(curve: Curve, resampling: Resampling, locate: Callable[[ArrayLike, ArrayLike], Minima]) -> Landmark:
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
        return Landmark(np.nan, np.nan, np.nan, np.nan, False, bool(rises and minimum.lowest == 0), log_steps)
    early = np.mean(~found.reached & (found.step < step))
    late = np.mean(~found.reached & (found.step > step))
    half = float(resampling.half_width(log_steps))
    low, high = step * math.exp(-half), step * math.exp(half)
    return Landmark(
        step,
        0.0 if early > 0.025 or low < steps[0] else low,
        np.inf if late > 0.025 or high > steps[-1] else high,
        float(minimum.value),
        True,
        False,
        log_steps,
    )


def last_significant_minimum(curve: Curve, resampling: Resampling, before: float) -> float:
    """The step of the last local minimum below `before` from which the curve rises by more than noise makes it.

    It is nan where there is none. Networks that learn the heights of the tree one after another show a bump each time,
    and the global minimum may lie before an early one. The rise is read up to `before`.
    """
    steps, mean = curve.steps, curve.mean
    end = int(np.searchsorted(steps, before, side="right"))
    for i in reversed(range(max(int(after_transient(mean)), 1), end - 1)):
        if mean[i - 1] > mean[i] <= mean[i + 1] and resampling.rises(curve, i, end):
            return float(locate_minimum(steps[i - 1 : i + 2], mean[i - 1 : i + 2]).step)
    return float("nan")


def first_significant(curve: Curve, resampling: Resampling) -> float:
    """The first step from which on the curve lies significantly above zero, at 95%; nan where there is none."""
    below = np.flatnonzero(~resampling.significant(curve.mean, curve.replicates))
    start = 0 if len(below) == 0 else int(below[-1]) + 1
    return float(curve.steps[start]) if start < len(curve.steps) else float("nan")


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How much later than the onset the test loss is smallest, with its 95% interval, and P(onset < best).

    `ratio`, `low` and `high` are nan where one of the two is not reached, and `before` where there is no onset.
    """

    ratio: float
    low: float
    high: float
    before: float


def ratio(onset: Landmark, best: Landmark, resampling: Resampling) -> Ratio:
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


def probability_before(first: Landmark, second: Landmark, resampling: Resampling) -> float:
    """P(first < second) by the spread of their difference on log(step)."""
    variance, freedom = resampling.variance(second.log_steps - first.log_steps)
    late = np.log(second.step) if second.reached else second.log_steps.mean()
    gap = late - np.log(first.step)
    return float(stdtr(freedom, gap / np.sqrt(variance))) if variance > 0 else float(gap > 0)
