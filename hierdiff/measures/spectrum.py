"""The level spectrum: a squared error of posteriors, split exactly over the heights of the tree.

For height h let F_h be what x_t says on the height-h block around leaf i, `d_h f = E[f | F_h] - E[f | F_(h-1)]` and
`D_h = w_h - w_(h-1)` with the window posteriors w_h; h = -1 is the prior level, where F says nothing. The increments
are orthogonal, so with `e = f - w` for the exact posterior w

    E|f - w|^2 = sum_h E|d_h f - D_h|^2,
    mean over A, B of E|d_h e|^2 = E<d_h e_A, d_h e_B> + E|d_h (f_A - f_B)|^2 / 2:

at each height, the error of two networks is a part common to all data sets (not yet learned) and a data-dependent part
(bias towards the own sample). All of it is in the products `E<d_h e_A, d_h e_B>` of all pairs of networks.

They are differences of `E<E[e_A | F_h], E[e_B | F_h]> = E<e_A(x), e_B(x')>` on the block, where x' shares the block's
x_t and draws all the rest anew (`sampling.complete`). These cumulative products are what is measured, one height at a
time. An exact denoiser has zero error at each height, to the bit.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hierdiff.errors import require
from hierdiff.statistics.groups import split_groups


def ends(error: Float[Array, "S n L v"], *, groups: int) -> tuple[Float[Array, "S S n"], Float[Array, "S S n"]]:
    """`E<E[e_A | F_h], E[e_B | F_h]>` of S denoisers at h = -1, where F says nothing, and h = depth: `<e_A, e_B>`.

    The estimates at each sequence are independent of those in other groups.
    """
    require(error.shape[1] >= 2 * groups, "groups", groups, f"at most half of {error.shape[1]}")
    everywhere = jnp.ones_like(error[0, ..., 0])
    others = jnp.concatenate([_of_others(of_size) for of_size in split_groups(error, groups, 1)], axis=1)
    return on_blocks(error, others, everywhere), on_blocks(error, error, everywhere)


def _of_others(error: Float[Array, "S groups size L v"]) -> Float[Array, "S n L v"]:
    """The mean over a group's other sequences: without a block each of them is a completion."""
    others = (error.sum(2, keepdims=True) - error) / (error.shape[2] - 1)
    return others.reshape(len(error), -1, *error.shape[3:])


def on_blocks(
    error: Float[Array, "S n L v"], completed: Float[Array, "S n L v"], weight: Float[Array, "n L"]
) -> Float[Array, "S S n"]:
    """The same at a height from 0 to depth - 1, from the errors on x_t and those on a completion of that height."""
    cross = jnp.einsum("anlv,bnlv,nl->abn", error, completed, weight, precision="highest")
    return 0.5 * (cross + cross.swapaxes(0, 1))


def by_height(
    none: Float[Array | np.ndarray, "*batch S S n"],
    blocks: Float[Array | np.ndarray, "*batch depth S S n"],
    whole: Float[Array | np.ndarray, "*batch S S n"],
) -> Float[Array, "*batch heights S S n"]:
    """`E<d_h e_A, d_h e_B>`, h = -1..depth, of the cumulative products: given nothing, a block of each height, and all.

    In squared units at each sequence. The diagonal is each denoiser's error at height h, and the sum over h is the
    sequence's part of <e_A, e_B>, exactly.
    """
    none, whole = (jnp.expand_dims(x, -4) for x in (none, whole))
    return jnp.concatenate([none, jnp.diff(blocks, axis=-4, prepend=none, append=whole)], axis=-4)


def increments(windows: Float[Array, "heights n L v"]) -> Float[Array, "heights n L v"]:
    """`D_h`: what height h adds to the window posteriors."""
    return jnp.concatenate([windows[:1], jnp.diff(windows, axis=0)])


def told_from_rounding(squares: Any, whole: Any) -> Any:
    """Whether a product with a difference of posteriors, over the `squares` of the difference, says anything.

    The product is known to an epsilon of `whole`, the squares of a posterior itself.
    """
    return squares > float(np.finfo(np.float32).eps) * whole


def learned_products(f: Float[Array, "S n L v"], windows: Float[Array, "heights n L v"]) -> Float[Array, "heights S n"]:
    """`<f, D_h>` at each sequence: the ratio of its mean and that of `|D_h|^2` is the learned fraction of height h.

    Where `|D_h|^2` is not `told_from_rounding`, of its sum over all heights, there is nothing to learn.
    """
    return jnp.einsum("snlv,hnlv->hsn", f, increments(windows), precision="highest")
