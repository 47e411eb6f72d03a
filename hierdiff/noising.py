"""Variance-preserving Gaussian noise on one-hot tokens: x_t = sqrt(ab) x_0 + sqrt(1 - ab) z."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hierdiff.options import require


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Schedule:
    """Noise levels t = 1..T: `alpha_bar[t - 1]` is the share of the signal's variance that is left."""

    alpha_bar: Float[Array, " T"]

    @property
    def levels(self) -> int:
        return self.alpha_bar.shape[0]


def check_levels(name: str, levels: int) -> None:
    """Raise `OptionError` unless there is a linear schedule of so many levels.

    The last beta is 20 / levels, and the first, 0.1 / levels, must be seen in float32.
    """
    require(20 < levels <= 10**6, name, levels, "an integer from 21 to 1,000,000")


def linear_schedule(levels: int = 500) -> Schedule:
    """Betas linear from `0.1/T` to `20/T` (arXiv 2603.03469; Ho et al., arXiv 2006.11239, at T = 1000)."""
    check_levels("levels", levels)
    beta = np.linspace(0.1 / levels, 20 / levels, levels)
    return Schedule(jnp.asarray(np.cumprod(1 - beta), float))


def corrupt(
    key: Array, tokens: Int[Array, "n L"], alpha_bar: float | Float[Array, "*n"], vocab: int
) -> Float[Array, "n L v"]:
    """One draw of x_t for each sequence; `alpha_bar` is one value, or one a sequence. Consumes `key`."""
    ab = _per_sequence(alpha_bar)
    noise = jax.random.normal(key, (*tokens.shape, vocab))
    return jnp.sqrt(ab) * jax.nn.one_hot(tokens, vocab) + jnp.sqrt(1 - ab) * noise


def leaf_log_likelihood(x_t: Float[Array, "n L v"], alpha_bar: float | Float[Array, "*n"]) -> Float[Array, "n L v"]:
    """Log p(x_t,i | x_0,i = a) up to a constant of the leaf: `x_t sqrt(ab) / (1 - ab)`, in nats."""
    return x_t * score_factor(alpha_bar)


def score_factor(alpha_bar: float | Float[Array, "*n"]) -> Float[Array, "..."]:
    """sqrt(ab) / (1 - ab): a difference of two posterior means times this is the difference of their scores."""
    ab = _per_sequence(alpha_bar)
    return jnp.sqrt(ab) / (1 - ab)


def score(
    x_t: Float[Array, "n L v"], posterior_mean: Float[Array, "n L v"], alpha_bar: float | Float[Array, "*n"]
) -> Float[Array, "n L v"]:
    """Grad log p(x_t) = (sqrt(ab) E[x_0 | x_t] - x_t) / (1 - ab) (Tweedie)."""
    ab = _per_sequence(alpha_bar)
    return (jnp.sqrt(ab) * posterior_mean - x_t) / (1 - ab)


def posterior_mean(
    x_t: Float[Array, "n L v"], score: Float[Array, "n L v"], alpha_bar: float | Float[Array, "*n"]
) -> Float[Array, "n L v"]:
    """E[x_0 | x_t] = (x_t + (1 - ab) score) / sqrt(ab): the inverse of `score`."""
    ab = _per_sequence(alpha_bar)
    return (x_t + (1 - ab) * score) / jnp.sqrt(ab)


def _per_sequence(alpha_bar: float | Array) -> Array:
    return jnp.asarray(alpha_bar, float).reshape(-1, 1, 1)
