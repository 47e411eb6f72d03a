"""Divergences of a network from the exact posteriors and from another network, in nats a sequence.

All are sums over the leaves of divergences between distributions of one leaf. `f` is given as `log f`.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def divergence(p: Float[Array, "*#batch L v"], log_f: Float[Array, "*#batch L v"]) -> Float[Array, "..."]:
    """KL(p || f): the excess of the cross-entropy of f over its least value, at each input."""
    seen = p > 0
    return jnp.where(seen, p * (jnp.log(jnp.where(seen, p, 1)) - jnp.where(seen, log_f, 0)), 0).sum((-1, -2))


def entropy(log_f: Float[Array, "*batch L v"]) -> Float[Array, "*batch"]:
    """The entropy of the answers, at each input: how uncertain f is, whether it is right or not."""
    f = jnp.exp(log_f)
    return -jnp.where(f > 0, f * log_f, 0).sum((-1, -2))


def log_of(p: Float[Array, "..."]) -> Float[Array, "..."]:
    """Log p, where p may lie below float32's smallest number though it is not zero."""
    return jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))


def sample_split(log_f: Float[Array, "*batch L v"], log_g: Float[Array, "*batch L v"]) -> Float[Array, "*batch"]:
    """(KL(f || g) + KL(g || f)) / 2: how far two networks disagree (arXiv 2603.03469)."""
    apart = (jnp.exp(log_f) - jnp.exp(log_g)) * (log_f - log_g)
    # Two that are sure of the same agree: log of zero minus log of zero.
    return 0.5 * jnp.where(log_f == log_g, 0, apart).sum((-1, -2))


def pairs(networks: int) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    return np.triu_indices(networks, 1)
