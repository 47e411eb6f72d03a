"""Landmarks of training: steps with their intervals."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri, stdtr, stdtrit

from hierdiff.statistics.local import WIDTH, LocalFit, local_fit
from hierdiff.statistics.minima import after_transient, fitted_minima, furthest_fall
from hierdiff.statistics.replicates import Curve, Resampling

# A rise is claimed where noise alone makes such a one, at any place, in 2% of experiments.
CONFIDENCE = 0.98


@dataclasses.dataclass(frozen=True)
class Landmark:
    """A step along training with its 95% interval, which is open (0 or inf) where it leaves the run.

    `step` and `value` are nan where there is none; `from_start` says that it lies before the first checkpoint. With two
    data sets nothing is known of how the choice of the data moves it: `low` and `high` are nan and it is not `reached`.
    Where the checkpoints are too far apart to resolve it, all that is known is that it lies between `low` and `high`.
    `deviations` are those of its log(step) in each replicate, to first order.
    """

    step: float
    low: float
    high: float
    value: float
    reached: bool
    from_start: bool
    resolved: bool = True
    deviations: Any = None

    @property
    def located(self) -> bool:
        return math.isfinite(self.step)


def nowhere(*, from_start: bool = False) -> Landmark:
    return Landmark(np.nan, np.nan, np.nan, np.nan, False, from_start)


def turning_point(curve: Curve, resampling: Resampling) -> Landmark:
    """The minimum of a sample split after its initial transient, from which it falls further than noise makes it."""
    falls = furthest_fall(resampling.noise(curve.replicates))[2]
    return minimum(curve, resampling, int(after_transient(curve.mean, np.quantile(falls, 0.95))))


def minimum(curve: Curve, resampling: Resampling, start: int = 0) -> Landmark:
    """The minimum of a curve from checkpoint `start` on, from which it rises further than noise makes it.

    Its interval holds the steps around it where the slope of the curve is not told from zero; an end is open where
    these go on to the first or the last checkpoint. A positive curve is fitted in its logarithm.
    """
    after = curve.part(slice(start, None))
    found = _minimum(after.to_fit(), resampling)
    return dataclasses.replace(found, value=math.exp(found.value)) if after.positive else found


def _minimum(curve: Curve, resampling: Resampling) -> Landmark:
    """The minimum of a curve that is fitted as it is."""
    [step], [value], [reached], [resolved] = fitted_minima(curve.steps, curve.mean[None])
    step, value, lowest = float(step), float(value), int(np.argmin(curve.mean))
    if resampling.sets == 2:
        return Landmark(step, np.nan, np.nan, value, False, False) if reached else nowhere()
    risen = rises(curve, resampling, step)
    if not (reached and risen):
        return nowhere(from_start=risen and math.isclose(step, curve.steps[0]))
    value = max(value, float(curve.mean[lowest] - resampling.error(curve.replicates[:, lowest])))
    if not resolved:
        return Landmark(step, *_between(curve, resampling, lowest), value, True, False, resolved=False)
    fit = local_fit(tuple(curve.steps))
    slope, slopes = curve.mean @ fit.slope.T, curve.replicates @ fit.slope.T
    low, high = _around(step, fit, slope, resampling.half_width(slopes, of_pairs=False))
    place = int(np.argmin(np.abs(fit.log_steps - math.log(step))))
    bend = max(float(np.gradient(slope, fit.log_steps)[place]), np.finfo(float).tiny)
    return Landmark(step, low, high, value, True, False, deviations=(slope - slopes)[:, place] / bend)


def crossing(curve: Curve, resampling: Resampling, level: float) -> Landmark:
    """Where a curve, fitted locally, passes a level for good; its interval holds the steps where it may be there."""
    if len(curve.steps) < 3 or not np.isfinite(curve.mean).all():
        return nowhere()
    fit = local_fit(tuple(curve.steps))
    found = _passes(fit, curve.mean, resampling.half_width(curve.replicates @ fit.level.T), level)
    if found.located and resampling.sets == 2:
        return Landmark(found.step, np.nan, np.nan, level, False, False)
    return found if found.high < np.inf else nowhere(from_start=found.from_start)


def crossing_of_record(
    steps: Float[np.ndarray, " steps"],
    mean: Float[np.ndarray, " steps"],
    half: Float[np.ndarray, " steps"],
    level: float,
) -> Landmark:
    """The same of a curve with half of its 95% intervals, which is all that a record holds of it.

    These are fitted as the curve is: what moves it at one checkpoint moves it at the next. An end may be open, where
    the curve is not told from the level up to the last checkpoint, or from the first one on.
    """
    if len(steps) < 3 or not np.isfinite(mean).all():
        return nowhere()
    fit = local_fit(tuple(steps.tolist()))
    return _passes(fit, mean, np.maximum(half @ fit.level.T, 0), level)


def _passes(fit: LocalFit, mean: np.ndarray, half: np.ndarray, level: float) -> Landmark:
    """Where a fitted curve passes a level for good, by half the widths of its intervals at the places of the fit."""
    above = mean @ fit.level.T - level
    below = np.flatnonzero(above < 0)
    if len(below) == 0:
        return nowhere(from_start=True)
    if below[-1] + 1 == len(above):
        return nowhere()
    around = slice(below[-1], below[-1] + 2)
    step = math.exp(np.interp(0, above[around], fit.log_steps[around]))
    return Landmark(step, *_around(step, fit, above, half), level, True, False)


def _around(step: float, fit: LocalFit, mean: np.ndarray, half: np.ndarray) -> tuple[float, float]:
    """The ends of the steps around one where a growing quantity is not told from zero; 0 and inf: it is nowhere."""
    places = np.exp(fit.log_steps)
    before, after = places[(mean < -half) & (places < step)], places[(mean > half) & (places > step)]
    return float(max(before, default=0.0)), float(min(after, default=np.inf))


def _between(curve: Curve, resampling: Resampling, lowest: int) -> tuple[float, float]:
    """The nearest checkpoints on both sides of the lowest one that are told from it; 0 and inf: there is none."""
    lowered = curve.replicates - curve.replicates[:, [lowest]]
    higher = curve.steps[resampling.significant(curve.mean - curve.mean[lowest], lowered)]
    before, after = higher[higher < curve.steps[lowest]], higher[higher > curve.steps[lowest]]
    return float(max(before, default=0.0)), float(min(after, default=np.inf))


def rises(curve: Curve, resampling: Resampling, step: float) -> bool:
    """Whether the curve rises from a step: its local fit at the last checkpoint lies above that at the step.

    A place is looked at because it is low, and noise alone may have made it lower than others. So the rise, in standard
    errors, must exceed the largest from any place that is not significantly higher, in 98% of curves of noise alone
    (a test with moment selection, as in Andrews and Soares, Econometrica 78:119, 2010).
    """
    places = np.log(curve.steps)
    at = int(np.argmin(np.abs(places - math.log(step))))
    if len(places) < 3 or resampling.sets == 2 or at == len(places) - 1:
        return False
    level = local_fit(tuple(curve.steps), at_steps=True).level
    higher = resampling.significant(curve.mean @ (level - level[at]).T, curve.replicates @ (level - level[at]).T)
    rise = curve.replicates @ (level[-1] - level[:-1]).T
    variance, freedom = resampling.variance(rise, of_pairs=False)
    # Few data sets tell a variance badly: it is averaged over neighbours.
    near = np.abs(np.subtract.outer(places[:-1], places[:-1])) < WIDTH / 2
    error = np.sqrt(near @ variance / near.sum(1))
    rivals = ~higher[:-1] & (error > 0)
    largest = (resampling.noise(rise[:, rivals]) / error[rivals]).max(1, initial=0.0)
    # Noise is drawn as normal: Student's quantile in place of the normal one.
    factor = np.quantile(largest, CONFIDENCE) * stdtrit(freedom[at], CONFIDENCE) / ndtri(CONFIDENCE)
    # Where a fit is too stiff it dips below all checkpoints.
    here = max(curve.mean @ level[at], curve.mean.min())
    return bool(curve.mean @ level[-1] - here > factor * error[at])


def last_significant_minimum(curve: Curve, resampling: Resampling, before: float) -> float:
    """The step of the last local minimum below `before` above which the curve lies there, by more than noise makes it.

    It is nan where there is none. Networks that learn the heights of the tree one after another show a bump each time,
    and the global minimum may lie before an early one.
    """
    until = curve.part(slice(int(np.searchsorted(curve.steps, before, side="right")))).to_fit()
    if len(until.steps) >= 3:
        fit = local_fit(tuple(until.steps))
        level = until.mean @ fit.level.T
        lowest = 1 + np.flatnonzero((level[:-2] > level[1:-1]) & (level[1:-1] <= level[2:]))
        for step in np.exp(fit.log_steps[lowest[::-1]]):
            if rises(until, resampling, step):
                return float(step)
    return float("nan")


def first_significant(curve: Curve, resampling: Resampling) -> float:
    """The first step from which on the curve lies significantly above zero, at 95%; nan where there is none."""
    below = np.flatnonzero(~resampling.significant(curve.mean, curve.replicates))
    start = 0 if len(below) == 0 else int(below[-1]) + 1
    return float(curve.steps[start]) if start < len(curve.steps) else float("nan")


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How much later a second landmark lies than a first, with its 95% interval.

    `confidence` is the one-sided confidence that the first comes before the second. All is nan where one of the two is
    not located, and all but `ratio` with two data sets.
    """

    ratio: float
    low: float
    high: float
    confidence: float


def ratio(first: Landmark, second: Landmark, resampling: Resampling) -> Ratio:
    """The interval is made of those of the two landmarks, which need not be symmetric, and of their correlation.

    (Zou and Donner, Statistics in Medicine 27:1693, 2008.)
    """
    middle = second.step / first.step
    if not (first.reached and second.reached):
        return Ratio(middle, np.nan, np.nan, np.nan)
    shared, confidence = 0.0, float("nan")
    if first.resolved and second.resolved:
        a, b = first.deviations, second.deviations
        (of_a, _), (of_b, _), (of_gap, freedom) = (resampling.variance(x, of_pairs=False) for x in (a, b, b - a))
        shared = float((of_a + of_b - of_gap) / 2 / np.sqrt(of_a * of_b)) if of_a * of_b > 0 else 0.0
        gap = math.log(middle)
        confidence = float(stdtr(freedom, gap / np.sqrt(of_gap))) if of_gap > 0 else float(gap > 0)
    low = _reach(second.step / second.low if second.low else np.inf, first.high / first.step, shared)
    high = _reach(second.high / second.step, first.step / first.low if first.low else np.inf, shared)
    return Ratio(middle, middle * math.exp(-low), middle * math.exp(high), confidence)


def _reach(one: float, other: float, shared: float) -> float:
    """How far a difference reaches, in log(step), whose two sides reach by such factors and have this correlation."""
    one, other = math.log(one), math.log(other)
    if math.isinf(one) or math.isinf(other):
        return math.inf
    return math.sqrt(max(one**2 + other**2 - 2 * shared * one * other, 0.0))
