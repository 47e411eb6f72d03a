"""Synthetic experiments whose landmarks are known, to see how often intervals hold them.

Each data set moves a curve along log(step) and changes how steeply it rises; networks, pairs of them and groups of test
sequences add noise that is smooth along training, and weights that are not averaged add some at each checkpoint.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from hierdiff.statistics.replicates import Curve, Resampling, resampling

FIRST, LAST = 40.0, 10_000.0
GROUPS, REPLICATES = 50, 200
# Standard deviations over data sets, of log(step) and of the rise, as a share; they make that of log(step) over draws
# of four networks 0.14 to 0.17, as of trained ones.
MOVED, STEEPER = 0.2, 0.2

Shape = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def valley(x: np.ndarray, moved: np.ndarray, steeper: np.ndarray) -> np.ndarray:
    """A split: the seed's part falls, the data's rises to a plateau; x is log(step)."""
    late = x - np.log(900) - moved
    return 0.1 + 0.33 * np.exp(-late / 0.9) / np.sqrt(1 + np.exp(-late / 0.9)) + _plateau(late, steeper)


def _plateau(late: np.ndarray, steeper: np.ndarray) -> np.ndarray:
    return 0.9 * (1 + steeper) / (1 + np.exp(-(late - 1.1) / 0.8))


def transient(x: np.ndarray, moved: np.ndarray, steeper: np.ndarray) -> np.ndarray:
    """The same, of networks that agree at first."""
    return valley(x, moved, steeper) / (1 + np.exp(-(x - np.log(60)) / 0.12))


def bump(x: np.ndarray, moved: np.ndarray, steeper: np.ndarray) -> np.ndarray:
    """The same, with a bump after the minimum."""
    return valley(x, moved, steeper) + 0.1 * np.exp(-(((x - np.log(3000) - moved) / 0.35) ** 2))


def loss(x: np.ndarray, moved: np.ndarray, steeper: np.ndarray) -> np.ndarray:
    """An excess loss, smallest after the split."""
    late = x - np.log(3000) - 0.5 * moved
    return 0.15 + 0.05 * np.exp(-0.9 * late) + 0.06 * (1 + 0.5 * steeper) * np.exp(0.8 * late)


def slope(x: np.ndarray, moved: np.ndarray, steeper: np.ndarray) -> np.ndarray:
    """A memorization slope: it grows to a plateau, and passes 0.01."""
    return 0.03 * (1 + steeper) / (1 + np.exp(-(x - np.log(2500) - moved) / 0.6))


def flat(x: np.ndarray, moved: np.ndarray, steeper: np.ndarray) -> np.ndarray:
    return 0.4 + 0 * (x + moved + steeper)


def falling(x: np.ndarray, moved: np.ndarray, steeper: np.ndarray) -> np.ndarray:
    """The seed's part alone."""
    late = x - np.log(900) - moved
    return 0.3 + 0.33 * np.exp(-late / 0.9) / np.sqrt(1 + np.exp(-late / 0.9)) + 0 * steeper


def plateau(x: np.ndarray, moved: np.ndarray, steeper: np.ndarray) -> np.ndarray:
    """A curve that falls to a plateau in the middle of training and stays there."""
    left = np.clip(np.log(900) + moved - x, 0, None)
    return 0.4 + 0.15 * left**2 + 0 * steeper


SPLITS, WITHOUT = (valley, transient, bump), (flat, falling, plateau)


def steps_of(checkpoints: int) -> Float[np.ndarray, " steps"]:
    return np.unique(np.rint(np.geomspace(FIRST, LAST, checkpoints)))


@functools.cache
def expected(shape: Shape) -> tuple[Float[np.ndarray, " places"], Float[np.ndarray, " places"]]:
    """Log(step) on a fine grid, and the curve there, averaged over data sets."""
    places, rng = np.linspace(np.log(FIRST), np.log(LAST), 2001), np.random.default_rng(0)
    draws = [_effects(rng, 500) for _ in range(20)]
    return places, np.mean([shape(places, *effects).mean(0) for effects in draws], 0)


@functools.cache
def lowest(shape: Shape) -> float:
    """The step at which the expected curve is smallest, after its transient."""
    places, curve = expected(shape)
    return float(np.exp(places[np.argmin(np.where(places > np.log(150), curve, np.inf))]))


@functools.cache
def passes(shape: Shape, level: float) -> float:
    """The step at which the expected curve, which grows, passes a level."""
    places, curve = expected(shape)
    return float(np.exp(np.interp(level, curve, places)))


def _effects(rng: np.random.Generator, sets: int) -> tuple[np.ndarray, np.ndarray]:
    return MOVED * rng.standard_normal((sets, 1)), STEEPER * rng.standard_normal((sets, 1))


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Curves of pairs of networks and of networks, which share what their data sets are like, with replicates."""

    curves: dict[str, Curve]
    resampling: Resampling


def experiment(
    rng: np.random.Generator, steps: Float[np.ndarray, " steps"], sets: int, shapes: Mapping[str, Shape], jitter: float
) -> Experiment:
    """One experiment with a network on each set; a curve of each shape, of pairs of networks but for that named `loss`.

    `jitter` is the noise of each network at each checkpoint, as a share of its curve.
    """
    x, effects = np.log(steps), _effects(rng, sets)
    drawn = resampling(sets=sets, groups=GROUPS, replicates=REPLICATES, seed=int(rng.integers(2**31)))
    near, far = (_smooth(steps.tobytes(), width) for width in (0.8, 2.0))
    pairs, networks = np.stack(np.triu_indices(sets, 1), 1), np.arange(sets)[:, None]

    def curve(shape: Shape, units: np.ndarray) -> Curve:
        of_sets = shape(x, *effects)
        size = of_sets.mean()
        of_sets = of_sets + size * (0.03 * rng.standard_normal((sets, len(x))) @ near)
        of_sets = of_sets * (1 + jitter * rng.standard_normal((sets, len(x))))
        of_units = of_sets[units].mean(1)
        if units.shape[1] > 1:
            of_units = of_units + size * (0.02 * rng.standard_normal(of_units.shape) @ near)
        common = 0.1 * rng.standard_normal((GROUPS, len(x))) @ far
        own = 0.05 * rng.standard_normal((len(units), GROUPS, len(x))) @ far
        measured = np.moveaxis(of_units[:, None] * (1 + common + own), -1, 0)
        return Curve(steps, measured.mean((1, 2)), drawn.means(measured, units))

    curves = {name: curve(shape, networks if name == "loss" else pairs) for name, shape in shapes.items()}
    return Experiment(curves, drawn)


@functools.cache
def _smooth(steps: bytes, width: float) -> np.ndarray:
    """What makes white noise smooth along log(step), of unit variance."""
    x = np.log(np.frombuffer(steps))
    covariance = np.exp(-0.5 * (np.subtract.outer(x, x) / width) ** 2) + 1e-9 * np.eye(len(x))
    return np.linalg.cholesky(covariance).T
