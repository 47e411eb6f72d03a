"""Local fits of fixed width in log(step): what does not depend on how many checkpoints there are."""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

# Half the width of a fit, in log(step), and the spacing of the places where curves are fitted.
WIDTH, SPACING = 1.2, 0.02
# So many checkpoints within the width tell a minimum from its neighbours.
NEEDED = 4


class LocalFit(NamedTuple):
    """Local quadratics in log(step): curves `(*curves, steps)` times `level.T` are the fitted ones, and so on.

    `points` counts the checkpoints within the width of each place.
    """

    log_steps: Float[np.ndarray, " places"]
    level: Float[np.ndarray, "places steps"]
    slope: Float[np.ndarray, "places steps"]
    bend: Float[np.ndarray, "places steps"]
    points: Int[np.ndarray, " places"]


@functools.lru_cache
def local_fit(steps: tuple[float, ...], *, at_steps: bool = False) -> LocalFit:
    """Quadratics with tricube weights at places from the first of at least three steps to the last, or at the steps.

    Where the width holds fewer than three checkpoints it is as large as three of them need (as loess does, Cleveland,
    Journal of the American Statistical Association 74:829, 1979).
    """
    x = np.log(np.asarray(steps, float))
    places = x if at_steps else np.linspace(x[0], x[-1], max(2, round((x[-1] - x[0]) / SPACING)) + 1)
    away = x - places[:, None]
    # The weight at the edge of the window is zero, and the third checkpoint is to lie within it.
    width = np.maximum(WIDTH, 1.2 * np.sort(np.abs(away), 1)[:, 2:3])
    weight = np.clip(1 - np.abs(away / width) ** 3, 0, None) ** 3
    powers = (away / width)[..., None] ** np.arange(3)
    normal = np.einsum("pc,pci,pcj->pij", weight, powers, powers)
    level, slope, bend = np.moveaxis(np.linalg.solve(normal, np.swapaxes(powers * weight[..., None], 1, 2)), 1, 0)
    return LocalFit(places, level, slope / width, 2 * bend / width**2, (np.abs(away) < WIDTH).sum(1))
