"""The memorization slope: how far the difference of two networks is the difference of their training sets."""

import jax
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


@jax.jit
def empirical_mean(
    train: Float[Array, " P *shape"], x_t: Float[Array, " n *shape"], alpha_bar: float | Float[Array, "*n"]
) -> Float[Array, " n *shape"]:
    """The memorizer of data that are not symbols: E[x_0 | x_t] under the uniform law on `train`.

    `sum_mu softmax_mu(-|x_t - sqrt(ab) x^mu|^2 / 2(1 - ab)) x^mu`; of symbols, as one-hot vectors, it is
    `posterior.empirical_posterior`. The weights take `n P` numbers.
    """
    points, x = train.reshape(len(train), -1), x_t.reshape(len(x_t), -1)
    ab = jnp.asarray(alpha_bar, x.dtype).reshape(-1, 1)
    products = jnp.matmul(x, points.T, precision="highest")
    fit = (jnp.sqrt(ab) * products - 0.5 * ab * jnp.square(points).sum(-1)[None]) / (1 - ab)
    return jnp.matmul(jax.nn.softmax(fit, axis=-1), points, precision="highest").reshape(x_t.shape)
