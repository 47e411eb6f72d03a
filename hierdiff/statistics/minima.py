"""Where curves along training have their minimum."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from hierdiff.statistics.replicates import NEIGHBOURS


@dataclasses.dataclass(frozen=True)
class Minima:
    """The minima of curves along training; where one is not reached, `step` is the first or the last checkpoint.

    `lowest` is the number of the smallest checkpoint, beside which `step` lies.
    """

    step: Float[np.ndarray, "*curves"]
    value: Float[np.ndarray, "*curves"]
    reached: Bool[np.ndarray, "*curves"]
    lowest: Int[np.ndarray, "*curves"]


def locate_onset(steps: ArrayLike, splits: ArrayLike) -> Minima:
    """The minimum of each sample split after its initial transient; not reached where the split never falls."""
    return locate_minimum(steps, splits, after_transient(np.asarray(splits, float)))


def after_transient(curves: Float[np.ndarray, "*curves steps"]) -> np.ndarray:
    """The index of the peak from which a curve falls furthest: untrained networks agree, so a split first rises."""
    trough = np.argmax(np.maximum.accumulate(curves, -1) - curves, -1)
    before = np.arange(curves.shape[-1]) <= trough[..., None]
    return np.asarray(np.argmax(np.where(before, curves, -np.inf), -1))


def locate_minimum(steps: ArrayLike, curves: ArrayLike, start: ArrayLike = 0) -> Minima:
    """The minimum of each curve, `(*curves, steps)`, between checkpoints by a parabola in log(step).

    The parabola is the least-squares fit to the smallest point from checkpoint `start` on, of which each curve may have
    its own, and up to two neighbours on each side. A smallest point that is the first of these or the last checkpoint
    is no minimum: not reached.
    """
    log_step, shape = np.log(np.asarray(steps, float)), np.shape(curves)[:-1]
    curves, start = np.asarray(curves, float).reshape(-1, len(log_step)), np.broadcast_to(start, shape).ravel()
    lowest = np.argmin(np.where(np.arange(len(log_step)) < start[:, None], np.inf, curves), 1)
    step, value = log_step[lowest], curves[np.arange(len(curves)), lowest]
    reached = (lowest > start) & (lowest < len(log_step) - 1)
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
