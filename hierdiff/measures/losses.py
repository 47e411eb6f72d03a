"""What a training loss is made of: how far a network is from the exact posterior, and what it knows of the sequence."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierdiff.noising.process import cross_entropy


def decomposition(
    tokens: Int[Array, "*batch L"], exact: Float[Array, "*batch L v"], log_f: Float[Array, "*batch L v"]
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """`-w . log f` and `-(x_0 - w) . log f`, in nats a sequence, whose sum is the cross-entropy (arXiv 2603.03469).

    w is the exact posterior. The first depends on what the noised sequence says of x_0; the second vanishes on average
    over sequences that the network has not seen, since w is the mean of x_0.
    """
    seen = exact > 0
    to_exact = -jnp.where(seen, exact * jnp.where(seen, log_f, 0), 0).sum((-1, -2))
    return to_exact, cross_entropy(tokens, log_f) - to_exact
