"""A network as a denoiser: what it says of x_0, given x_t."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierdiff.learning.network import Network
from hierdiff.noising.process import Denoiser, Process


class Labelled(NamedTuple):
    """x_t with the labels of its sequences, `(n, nodes)`."""

    x_t: Array
    labels: Int[Array, "n nodes"]


def network_log_posterior(network: Network, process: Process) -> Callable[..., Float[Array, "n L v"]]:
    """`(params, x_t, t, key, labels) -> log p(x_0 | x_t)`; where x_t shows a symbol, that is the answer."""

    def log_posterior(
        params: Any,
        x_t: Array,
        t: int | Int[Array, "*n"],
        key: Array | None = None,
        labels: Int[Array, "n nodes"] | None = None,
    ) -> Array:
        t = jnp.broadcast_to(jnp.asarray(t, jnp.int32), len(x_t))
        of_labels = () if labels is None else (labels,)
        log_f = network.forward(params, process.encode(x_t), t, key, *of_labels)
        return jnp.where(process.known(x_t)[..., None], process.log_likelihood(x_t, t), log_f)

    return log_posterior


def network_denoiser(network: Network, process: Process, params: Any) -> Denoiser:
    """A network with its weights, a pytree."""
    log_posterior = network_log_posterior(network, process)
    return lambda x_t, t: jnp.exp(log_posterior(params, x_t, t))
