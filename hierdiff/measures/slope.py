"""The memorization slope: how far the difference of two networks is the difference of their training sets.

Where x_t shows symbols, a memorizer has an answer only if one of its sequences agrees with them. The slope is taken
where both have one.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# With fewer inputs where both memorizers have an answer, unless it is all of them, there is no slope.
FEWEST = 200


def answered(memory: Float[Array, "*batch L v"]) -> Bool[Array, "*batch"]:
    """Whether a memorizer of symbols has an answer; where it has none, its posterior is zeros."""
    return memory[..., 0, :].sum(-1) > 0.5


def where_enough(
    squares: Float[Array, "levels pairs n"], both: Bool[Array, "levels pairs n"]
) -> Float[Array, "levels pairs n"]:
    """`|emp_A - emp_B|^2`; nan, for all pairs, at a level where on average `both` have an answer too rarely."""
    enough = both.sum(-1).mean(-1) >= min(FEWEST, both.shape[-1])
    return jnp.where(enough[:, None, None], squares, jnp.nan)


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
