"""The memorization slope: how far the difference of two networks is the difference of their training sets."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def slope_products(
    difference: Float[Array, "*batch L v"], empirical_difference: Float[Array, "*batch L v"]
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """`<f_A - f_B, emp_A - emp_B>` and `|emp_A - emp_B|^2` at each input.

    emp are the empirical posteriors of the two training sets. The ratio of the means over held-out inputs is the slope
    of the regression of one difference on the other: 0 for networks that ignore which sample they saw, 1 for the
    memorizer.
    """
    product = (difference * empirical_difference).sum((-1, -2))
    return product, jnp.square(empirical_difference).sum((-1, -2))
