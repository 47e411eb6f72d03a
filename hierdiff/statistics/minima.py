"""Where curves along training have their minimum."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from hierdiff.statistics.local import NEEDED, local_fit

# Of a curve whose noise is not known: a transient falls by this share of its peak.
FALL = 0.25


@dataclasses.dataclass(frozen=True)
class Minima:
    """The minima of curves along training; where one is not reached, `step` is the first or the last checkpoint.

    `resolved` says whether the fit there holds enough checkpoints to tell the minimum from its neighbours.
    """

    step: Float[np.ndarray, "*curves"]
    value: Float[np.ndarray, "*curves"]
    reached: Bool[np.ndarray, "*curves"]
    resolved: Bool[np.ndarray, "*curves"]


def locate_onset(steps: ArrayLike, splits: ArrayLike) -> Minima:
    """The minimum of each sample split after its initial transient: untrained networks agree, so a split first rises.

    A rise that does not fall again by a quarter of its peak is no transient.
    """
    splits = np.asarray(splits, float)
    peak = np.take_along_axis(splits, furthest_fall(splits)[0][..., None], -1)[..., 0]
    return locate_minimum(steps, splits, after_transient(splits, FALL * peak))


def after_transient(curves: Float[np.ndarray, "*curves steps"], least: ArrayLike) -> np.ndarray:
    """The first checkpoint that is half the way down from the peak from which a curve falls furthest.

    It is 0 where the curve does not first rise, or falls by no more than `least`.
    """
    number, (peak, trough, fall) = np.arange(curves.shape[-1]), furthest_fall(curves)
    high, low = (np.take_along_axis(curves, x[..., None], -1) for x in (peak, trough))
    down = (number > peak[..., None]) & (curves <= 0.5 * (high + low))
    return np.asarray(np.where((peak > 0) & (fall > least), np.argmax(down, -1), 0))


def furthest_fall(curves: Float[np.ndarray, "*curves steps"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From which checkpoint to which later one each curve falls furthest, and how far."""
    falls = np.maximum.accumulate(curves, -1) - curves
    trough = np.asarray(np.argmax(falls, -1))
    before = np.arange(curves.shape[-1]) <= trough[..., None]
    peak = np.argmax(np.where(before, curves, -np.inf), -1)
    return np.asarray(peak), trough, np.asarray(falls.max(-1))


def locate_minimum(steps: ArrayLike, curves: ArrayLike, start: ArrayLike = 0) -> Minima:
    """The minimum of each curve, `(*curves, steps)`, by local cubics of fixed width in log(step).

    They are fitted to the checkpoints from `start` on, of which each curve may have its own; of a positive curve, which
    may fall over orders of magnitude, to its logarithm. Where the fitted curve is smallest at the first of these or at
    the last checkpoint, there is no minimum: not reached.
    """
    steps, shape = np.asarray(steps, float), np.shape(curves)[:-1]
    curves, start = np.asarray(curves, float).reshape(-1, len(steps)), np.broadcast_to(start, shape).ravel()
    positive = np.asarray((curves > 0).all(1))
    fitted = np.where(positive[:, None], np.log(np.where(positive[:, None], curves, 1)), curves)
    found = [np.empty(len(curves), dtype) for dtype in (float, float, bool, bool)]
    # Curves that start together are fitted together.
    for first in np.unique(start):
        rows = start == first
        for x, of_rows in zip(found, fitted_minima(steps[first:], fitted[rows, first:]), strict=True):
            x[rows] = of_rows
    step, value, reached, resolved = (x.reshape(shape) for x in found)
    return Minima(step, np.where(positive.reshape(shape), np.exp(value), value), reached, resolved)


def fitted_minima(steps: np.ndarray, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of curves as they are: step, value, reached and resolved, as in `Minima`."""
    every = np.arange(len(curves))
    if len(steps) < 3:
        lowest = np.argmin(curves, 1)
        return steps[lowest], curves[every, lowest], np.zeros(len(curves), bool), np.zeros(len(curves), bool)
    fit = local_fit(tuple(steps))
    level, slope = curves @ fit.level.T, curves @ fit.slope.T
    lowest = np.argmin(level, 1)
    # Where the slope, which the interval is made of, turns positive; not quite where the fitted curve is smallest.
    turns = (slope[:, :-1] < 0) & (slope[:, 1:] >= 0)
    away = np.where(turns, np.abs(np.arange(len(level.T) - 1) - lowest[:, None]), len(level.T))
    reached = (lowest > 0) & (lowest < len(level.T) - 1) & turns.any(1)
    place = np.where(reached, np.argmin(away, 1), lowest)
    before, after = slope[every, place], slope[every, np.minimum(place + 1, len(level.T) - 1)]
    spacing = fit.log_steps[1] - fit.log_steps[0]
    shift = np.where(reached, spacing * before / np.where(reached, before - after, 1), 0)
    return (
        np.exp(fit.log_steps[place] + shift),
        level[every, place] + 0.5 * before * shift,
        reached,
        (fit.points[place] >= NEEDED),
    )
