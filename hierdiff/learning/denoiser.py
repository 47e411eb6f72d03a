"""A network as a denoiser: what it says of x_0, given x_t."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierdiff.learning.network import Network
from hierdiff.noising.process import Denoiser, Process, on_simplex


class Labelled(NamedTuple):
    """x_t with the labels of its sequences, `(n, nodes)`."""

    x_t: Array
    labels: Int[Array, "n nodes"]


def network_output(network: Network, process: Process) -> Callable[..., Float[Array, "n L v"]]:
    """`(params, x_t, t, key, labels) ->` what the network `predicts`."""

    def output(
        params: Any,
        x_t: Array,
        t: Int[Array, " n"],
        key: Array | None = None,
        labels: Int[Array, "n nodes"] | None = None,
    ) -> Array:
        of_labels = () if labels is None else (labels,)
        return network.forward(params, process.encode(x_t), t, key, *of_labels)

    return output


def network_log_posterior(network: Network, process: Process) -> Callable[..., Float[Array, "n L v"]]:
    """`(params, x_t, t, key, labels) -> log p(x_0 | x_t)`; where x_t shows a symbol, that is the answer.

    Of a network that predicts the noise or v, it is the log of E[x_0 | x_t], which says the same of one-hot symbols, as
    `on_simplex` leaves it.
    """
    output = network_output(network, process)
    gaussian: Any = process

    def log_posterior(
        params: Any,
        x_t: Array,
        t: int | Int[Array, "*n"],
        key: Array | None = None,
        labels: Int[Array, "n nodes"] | None = None,
    ) -> Array:
        t = jnp.broadcast_to(jnp.asarray(t, jnp.int32), len(x_t))
        said = output(params, x_t, t, key, labels)
        if network.predicts == "x0":
            log_f = jax.nn.log_softmax(said)
        else:
            log_f = jnp.log(on_simplex(gaussian.x_0_of(x_t, t, said, network.predicts)))
        return jnp.where(process.known(x_t)[..., None], process.log_likelihood(x_t, t), log_f)

    return log_posterior


def network_denoiser(network: Network, process: Process, params: Any) -> Denoiser:
    """A network with its weights, a pytree."""
    log_posterior = network_log_posterior(network, process)
    return lambda x_t, t: jnp.exp(log_posterior(params, x_t, t))
