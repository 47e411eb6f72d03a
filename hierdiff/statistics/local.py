"""Local fits of fixed width in log(step): what does not depend on how many checkpoints there are."""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

# Half the width of a fit, in log(step), and the spacing of the places where curves are fitted.
WIDTH, SPACING = 1.6, 0.02
# So many checkpoints within the width tell a minimum from its neighbours.
NEEDED = 6


class LocalFit(NamedTuple):
    """Local cubics in log(step): curves `(*curves, steps)` times `level.T` are the fitted ones, and so on.

    `points` counts the checkpoints within the width of each place.
    """

    log_steps: Float[np.ndarray, " places"]
    level: Float[np.ndarray, "places steps"]
    slope: Float[np.ndarray, "places steps"]
    points: Int[np.ndarray, " places"]


@functools.lru_cache
def local_fit(steps: tuple[float, ...], *, at_steps: bool = False) -> LocalFit:
    """Cubics with tricube weights at places from the first of at least three steps to the last, or at the steps.

    A curve that falls fast and rises slowly would shift the minimum of quadratics. Where the width holds fewer than
    four checkpoints it is as large as four of them need (as loess does, Cleveland, Journal of the American Statistical
    Association 74:829, 1979); three checkpoints have a quadratic.
    """
    x = np.log(np.asarray(steps, float))
    places = x if at_steps else np.linspace(x[0], x[-1], max(2, round((x[-1] - x[0]) / SPACING)) + 1)
    away, terms = x - places[:, None], min(4, len(x))
    # The weight at the edge of the window is zero, and the last checkpoint that is needed is to lie within it.
    width = np.maximum(WIDTH, 1.2 * np.sort(np.abs(away), 1)[:, [terms - 1]])
    weight = np.clip(1 - np.abs(away / width) ** 3, 0, None) ** 3
    powers = (away / width)[..., None] ** np.arange(terms)
    normal = np.einsum("pc,pci,pcj->pij", weight, powers, powers)
    level, slope, *_ = np.moveaxis(np.linalg.solve(normal, np.swapaxes(powers * weight[..., None], 1, 2)), 1, 0)
    return LocalFit(places, level, slope / width, (np.abs(away) < WIDTH).sum(1))
