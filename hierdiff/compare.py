"""Two denoisers of anybody's, trained on disjoint data: how far they part, and since when."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from numpy.typing import ArrayLike

from hierdiff.measures.probe import in_groups, require_groups
from hierdiff.measures.slope import empirical_mean
from hierdiff.onset import Estimate, Ratio, locate_minimum, ratio
from hierdiff.options import require
from hierdiff.replicates import replicate
from hierdiff.summary import locate

# `(x_t, alpha_bar) -> E[x_0 | x_t]`: NumPy arrays `(n, *shape)` and a number, to an array `(n, *shape)`.
Denoiser = Callable[[np.ndarray, float], ArrayLike]


class Comparison(NamedTuple):
    """What `two_denoisers` finds.

    `curves` holds, by step and alpha_bar, `split` (|f_A - f_B|^2 per sample), `slope` (0: the difference of the two
    ignores which data they saw; 1: it is that of memorizers) and `loss` (|f - x_0|^2 per held-out sample, mean of
    both), with standard errors, `X_error`, and half the width of 95% intervals, `X_half`, over the held-out samples.
    `onset` is the minimum of the split along the steps at the first alpha_bar, `best` that of the loss, averaged over
    all of them, and `later` their ratio; with one step, or two, none is reached.
    """

    curves: xr.Dataset
    onset: Estimate
    best: Estimate
    later: Ratio


def two_denoisers(
    checkpoints: Mapping[int, tuple[Denoiser, Denoiser]],
    train: tuple[ArrayLike, ArrayLike],
    held_out: ArrayLike,
    *,
    alpha_bar: tuple[float, ...],
    key: Array,
) -> Comparison:
    """Compare two denoisers, trained on the two disjoint sets of `train`, on samples that neither has seen.

    Args:
      checkpoints: the two denoisers at each training step; one step will do where there is no history.
      train: what each was trained on, two arrays `(P, *shape)`.
      held_out: samples of neither set, `(n, *shape)`, n a multiple of 50 and at least 100.
      alpha_bar: the share of the signal's variance at each noise level, x_t = sqrt(ab) x_0 + sqrt(1 - ab) z.
      key: of the noise, which all checkpoints share.

    Raises:
      ValueError: a shape or a number will not do; the message says which.
    """
    x_0, (train_a, train_b) = jnp.asarray(held_out, float), (jnp.asarray(each, float) for each in train)
    require_groups("held_out", len(x_0), each=2)
    good = len(checkpoints) >= 1 and min(checkpoints) >= 1
    require(good, "checkpoints", sorted(checkpoints), "at least one step, counted from 1")
    for name, each in (("train_a", train_a), ("train_b", train_b), ("held_out", x_0)):
        good = each.shape[1:] == x_0.shape[1:] and len(each) >= 1
        require(good, name, each.shape, f"samples of the shape {x_0.shape[1:]}")
        require(bool(jnp.isfinite(each).all()), name, "numbers that are not finite", "finite numbers")
    good = len(set(alpha_bar)) == len(alpha_bar) >= 1 and all(0 < ab < 1 for ab in alpha_bar)
    require(good, "alpha_bar", alpha_bar, "distinct numbers between 0 and 1")

    steps, measured = sorted(checkpoints), {name: [] for name in ("split", "product", "empirical", "loss")}
    for ab, noise_key in zip(alpha_bar, jax.random.split(key, len(alpha_bar)), strict=True):
        x_t = jnp.sqrt(ab) * x_0 + jnp.sqrt(1 - ab) * jax.random.normal(noise_key, x_0.shape)
        memory = np.asarray(empirical_mean(train_a, x_t, ab) - empirical_mean(train_b, x_t, ab))
        outputs = [_outputs(checkpoints[step], np.asarray(x_t), ab) for step in steps]
        found = {
            "split": [_sum(np.square(a - b)) for a, b in outputs],
            "product": [_sum((a - b) * memory) for a, b in outputs],
            "empirical": [_sum(np.square(memory)) for _ in outputs],
            "loss": [0.5 * (_sum(np.square(a - x_0)) + _sum(np.square(b - x_0))) for a, b in outputs],
        }
        for name, values in found.items():
            measured[name].append(in_groups(np.stack(values)))
    coordinates = {"step": steps, "alpha_bar": list(alpha_bar)}
    variables = xr.Dataset(
        {name: (("alpha_bar", "step", "pair", "group"), np.stack(x)[:, :, None]) for name, x in measured.items()},
        coordinates,
    ).transpose("step", ...)
    statistics = replicate(variables.data_vars, {"pair": np.array([[0, 1]])}).derive(
        lambda x: x.assign(slope=x["product"] / x.empirical, mean_loss=x.loss.mean("alpha_bar"))
    )
    onset = locate(statistics, "split", alpha_bar=next(iter(alpha_bar)))
    best = locate(statistics, "mean_loss", locate_minimum)
    return Comparison(statistics.curves(), onset, best, ratio(onset, best, statistics.resampling))


def _outputs(denoisers: tuple[Denoiser, Denoiser], x_t: np.ndarray, ab: float) -> list[np.ndarray]:
    """What both make of the noised samples."""
    found = [np.asarray(denoiser(x_t, ab), np.float64) for denoiser in denoisers]
    for name, output in zip("AB", found, strict=True):
        require(output.shape == x_t.shape, f"denoiser {name}", output.shape, f"outputs of the shape {x_t.shape}")
        require(bool(np.isfinite(output).all()), f"denoiser {name}", "numbers that are not finite", "finite numbers")
    return found


def _sum(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).sum(1)
