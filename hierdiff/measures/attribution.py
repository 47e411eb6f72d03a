"""Which training samples make what a network shows: scores, and how well they tell what leaving samples out does.

A score is the change of a quantity, a loss for instance, with the weight of a sample in the training, to first order or
in what stands for it: below zero where the sample makes the quantity smaller.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hierdiff.keys import keys_of
from hierdiff.statistics.ranks import standard_ranks

# Of projections, so many are drawn at a time.
DRAWN = 16


def gradient_products(
    of_quantities: Float[Array, "q p"], of_samples: Float[Array, "P p"], steps: float
) -> Float[Array, "q P"]:
    """What one snapshot adds to TracIn (arXiv 2002.08484), for `steps` times the learning rate: minus the products.

    It is what plain gradient descent does in so many steps. With gradients normalised, it is that of Diffusion-ReTrac
    (arXiv 2401.09031).
    """
    return -steps / len(of_samples) * jnp.matmul(of_quantities, of_samples.T, precision="highest")


@functools.partial(jax.jit, static_argnames="size")
def projected(key: Array, gradients: Float[Array, "n p"], size: int) -> Float[Array, "n k"]:
    """Products with `size` random vectors of signs, over the root of their number. Consumes `key`."""

    def along(key):
        signs = jax.random.rademacher(key, gradients.shape[1:], gradients.dtype)
        return jnp.matmul(gradients, signs, precision="highest")

    return jax.lax.map(along, keys_of(key, jnp.arange(size)), batch_size=DRAWN).T / jnp.sqrt(size)


def trak(of_quantities: Float[Array, "q k"], of_samples: Float[Array, "P k"]) -> Float[Array, "q P"]:
    """TRAK at one snapshot, of projected gradients (arXiv 2303.14186; of a diffusion model, 2311.00500).

    That is minus `phi (Phi' Phi + lambda)^-1 Phi'` with lambda the mean square of the samples' gradients, which stands
    for the curvature that the samples do not show.
    """
    kernel = jnp.matmul(of_samples, of_samples.T, precision="highest")
    damped = kernel + jnp.diagonal(kernel).mean() * jnp.eye(len(kernel), dtype=kernel.dtype)
    products = jnp.matmul(of_quantities, of_samples.T, precision="highest")
    return -jax.scipy.linalg.solve(damped, products.T, assume_a="pos").T


def memorizer_weights(train: Int[Array, "P L"], log_likelihood: Float[Array, "n L v"]) -> Float[Array, "n P"]:
    """The weight of each training sequence in the memorizer's answer to each input (arXiv 2510.14269)."""
    one_hot = jax.nn.one_hot(train, log_likelihood.shape[-1], dtype=log_likelihood.dtype)
    return jax.nn.softmax(jnp.einsum("plv,nlv->np", one_hot, log_likelihood, precision="highest"), axis=-1)


def shared_heights(a: Int[np.ndarray, "n L"], b: Int[np.ndarray, "P L"], branching: int) -> Int[np.ndarray, "n P"]:
    """The height of the largest block that two sequences have at the same place, -1 where they share no symbol."""
    equal, height = a[:, None] == b[None], np.full((len(a), len(b)), -1)
    for h in range(round(np.log(a.shape[1]) / np.log(branching)) + 1):
        height = np.where(equal.any(-1), h, height)
        equal = equal.reshape(*height.shape, -1, branching).all(-1) if equal.shape[-1] > 1 else equal
    return height


def datamodelling_score(
    scores: Float[np.ndarray, "*rows q P"],
    weight: Float[np.ndarray, "subsets P"],
    truth: Float[np.ndarray, "*rows q subsets"],
    counts: Float[np.ndarray, "R subsets"] | None = None,
) -> Float[np.ndarray, "*rows q"] | Float[np.ndarray, "R *rows q"]:
    """The linear datamodelling score: Spearman's correlation, over subsets, of the sum of scores with what is measured.

    `weight` says what of the training set each subset has (arXiv 2202.00622, 2303.14186). Of the rows of `counts`, how
    often each subset is drawn, it is that of the subsets drawn, by their ranks among all.
    """
    # What is alike for all subsets has no ranks, and no correlation.
    predicted, true = (np.nan_to_num(standard_ranks(x)) for x in (scores @ weight.T, truth))
    if counts is None:
        return (predicted * true).mean(-1)
    share = counts / counts.sum(-1, keepdims=True)

    def mean(x: np.ndarray) -> np.ndarray:
        return np.moveaxis(x @ share.T, -1, 0)

    (a, b), product = (mean(predicted), mean(true)), mean(predicted * true)
    variances = (mean(predicted**2) - a**2) * (mean(true**2) - b**2)
    return (product - a * b) / np.sqrt(np.where(variances > 0, variances, 1))
