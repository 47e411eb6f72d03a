"""The gradients of the losses of single samples, as averages over draws of the noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from hierdiff.keys import keys_of
from hierdiff.learning.loop import Losses, Sample
from hierdiff.noising.process import stratified_times


def sample_gradients(
    losses: Losses, x_0: Array, key: Array, draws: int, levels: int
) -> Callable[[Int[Array, " n"], Any], tuple[Float[Array, "n p"], Float[Array, "n p"]]]:
    """`(numbers, params) ->` the mean gradient of each of these samples of `x_0`, and that of its gradients normalised.

    Each draw has a noise level of its own, stratified over 1..`levels`. The noise of a sample depends on `key` and its
    number.
    """

    def of_draw(params, number, t, key):
        def loss(params):
            sample = Sample(number[None], x_0[number][None], t[None], jnp.ones(1))
            return losses(params, sample, key[None]).sum()

        gradient = ravel_pytree(jax.grad(loss)(params))[0]
        return gradient, gradient / jnp.maximum(jnp.linalg.norm(gradient), jnp.finfo(gradient.dtype).tiny)

    def gradients(numbers, params):
        def of_sample(number):
            mine = jax.random.fold_in(key, number)
            t, keys = stratified_times(mine, draws, levels), keys_of(mine, jnp.arange(draws))
            found = jax.vmap(of_draw, (None, None, 0, 0))(params, number, t, keys)
            return jax.tree.map(lambda x: x.mean(0), found)

        return jax.lax.map(of_sample, numbers)

    return gradients
