"""Variance-preserving Gaussian noise on one-hot tokens: x_t = sqrt(ab) x_0 + sqrt(1 - ab) z."""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Key

from hierdiff.errors import OptionError, require
from hierdiff.noising.levels import LEAST_GAUSSIAN, MOST_LEVELS
from hierdiff.noising.process import GuidedMean, divergence, require_range


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Variance-preserving Gaussian noise, on one-hot tokens of `vocab` symbols or, where that is None, on any numbers.

    States are float, `(n, L, v)`, or `(n, *shape)` for data that are no symbols.

    Examples:
      >>> process = hd.Gaussian(vocab=3, levels=500)
      >>> x_t = process.corrupt(jax.random.key(0), jnp.array([[0, 2, 1, 1]]), 75)
      >>> x_t.shape, process.log_likelihood(x_t, 75).shape
      ((1, 4, 3), (1, 4, 3))
    """

    vocab: int | None = None
    levels: int = 500
    name: ClassVar[str] = "gaussian"
    least_levels: ClassVar[int] = LEAST_GAUSSIAN

    def __post_init__(self):
        # The first beta, 0.1 / levels, must be seen in float32.
        need = f"an integer from {self.least_levels} to {MOST_LEVELS:,}"
        require(self.least_levels <= self.levels <= MOST_LEVELS, "levels", self.levels, need)

    @property
    def alpha_bar(self) -> Float[Array, " T"]:
        """The share of the signal's variance that is left at each level.

        Betas are linear from `0.1/T` to `20/T` (arXiv 2603.03469; Ho et al., arXiv 2006.11239, at T = 1000).
        """
        beta = np.linspace(0.1 / self.levels, 20 / self.levels, self.levels)
        return jnp.asarray(np.cumprod(1 - beta), float)

    @property
    def channels(self) -> int:
        return self.vocab or 1

    @property
    def _symbols(self) -> int:
        require(self.vocab is not None, "vocab", self.vocab, "the number of symbols")
        return self.vocab or 0

    def encode(self, x_t: Float[Array, "n L v"]) -> Float[Array, "n L v"]:
        return x_t

    def decode(self, x_0: Float[Array, "n L v"]) -> Int[Array, "n L"]:
        return x_0.argmax(-1).astype(jnp.int32)

    def mix(
        self, x_0: Float[Array, " n *shape"], z: Float[Array, " n *shape"], t: int | Int[Array, "*n"]
    ) -> Float[Array, " n *shape"]:
        """`sqrt(ab) x_0 + sqrt(1 - ab) z`."""
        return _mixed(x_0, z, self._at(t, x_0))

    def noise(self, key: Array, x_0: Float[Array, " n *shape"], t: int | Int[Array, "*n"]) -> Float[Array, " n *shape"]:
        """One draw of x_t for each sample. Consumes `key`."""
        return self.mix(x_0, standard_normal(key, x_0.shape, x_0.dtype), t)

    def corrupt(self, key: Array, tokens: Int[Array, "n L"], t: int | Int[Array, "*n"]) -> Float[Array, "n L v"]:
        require_range("tokens", tokens, self._symbols - 1)
        return self.noise(key, jax.nn.one_hot(tokens, self._symbols), t)

    def log_likelihood(self, x_t: Float[Array, "n L v"], t: int | Int[Array, "*n"]) -> Float[Array, "n L v"]:
        """`x_t sqrt(ab) / (1 - ab)`, in nats, up to a constant of the leaf."""
        if self.vocab is not None:
            need = f"noised one-hot sequences, (n, L, {self.vocab})"
            require(x_t.ndim == 3 and x_t.shape[-1] == self.vocab, "x_t", x_t.shape, need)
            if len(x_t) and not isinstance(x_t, Tracer):
                finite = bool(np.isfinite(np.asarray(x_t[0])).all())
                require(finite, "x_t", "numbers that are not finite, as log-likelihoods may be", need)
        return leaf_log_likelihood(x_t, self._at(t, x_t))

    def log_density(
        self, x_t: Float[Array, " n *shape"], points: Float[Array, " P *shape"], t: int | Int[Array, "*n"]
    ) -> Float[Array, "n P"]:
        """Log p(x_t | x_0) at each of `points`, in nats, up to a constant of x_t."""
        x, points = (each.reshape(len(each), math.prod(each.shape[1:])) for each in (x_t, points))
        ab = self._at(t, x)
        products = jnp.matmul(x, points.T, precision="highest")
        return (jnp.sqrt(ab) * products - 0.5 * ab * jnp.square(points).sum(-1)[None]) / (1 - ab)

    def x_0_of(
        self,
        x_t: Float[Array, "*#batch"],
        t: int | Int[Array, "*n"],
        output: Float[Array, "*#batch"],
        predicts: Literal["x0", "noise", "score", "v"],
    ) -> Float[Array, "*batch"]:
        """E[x_0 | x_t] of a network that predicts x_0, the noise, the score or v = sqrt(ab) noise - sqrt(1 - ab) x_0.

        The samples lie on the first axis of `x_t`; `output` may have further axes before it.
        """
        before = tuple(range(output.ndim - x_t.ndim))
        ab, x_t = (jnp.expand_dims(x, before) for x in (self._at(t, x_t), x_t))
        match predicts:
            case "noise":
                return (x_t - jnp.sqrt(1 - ab) * output) / jnp.sqrt(ab)
            case "score":
                return (x_t + (1 - ab) * output) / jnp.sqrt(ab)
            case "v":
                return jnp.sqrt(ab) * x_t - jnp.sqrt(1 - ab) * output
            case "x0":
                return output
        raise OptionError("predicts", predicts, "one of x0, noise, score, v")

    def prediction_of(
        self,
        x_t: Float[Array, " n *shape"],
        t: int | Int[Array, "*n"],
        x_0: Float[Array, " n *shape"],
        predicts: Literal["noise", "v"],
    ) -> Float[Array, " n *shape"]:
        """The noise or v that x_0 leaves in x_t: what such a network learns, and of E[x_0 | x_t] what it should say."""
        ab = self._at(t, x_t)
        match predicts:
            case "noise":
                return (x_t - jnp.sqrt(ab) * x_0) / jnp.sqrt(1 - ab)
            case "v":
                return (jnp.sqrt(ab) * x_t - x_0) / jnp.sqrt(1 - ab)
        raise OptionError("predicts", predicts, "noise or v")

    def balanced(self, t: int | Int[Array, "*n"]) -> Float[Array, "#n"]:
        """`min(1, ab / (1 - ab))`, by which |f - x_0|^2 is the error in x_0 or that in the noise, the smaller one."""
        ab = self._at(t, jnp.zeros((1, 1)))[:, 0]
        return jnp.minimum(1, ab / jnp.where(ab < 1, 1 - ab, 1))

    def known(self, x_t: Float[Array, "n L v"]) -> Bool[Array, "n L"]:
        return jnp.zeros(x_t.shape[:-1], bool)

    def start(self, keys: Key[Array, " n"], leaves: int) -> Float[Array, "n L v"]:
        """N(0, 1)."""
        return _normal(keys, (leaves, self._symbols), jnp.float32)

    def step(
        self,
        keys: Key[Array, " n"],
        x_t: Float[Array, " n *shape"],
        t: Any,
        s: Any,
        posterior: Float[Array, " n *shape"] | GuidedMean,
        *,
        deterministic: bool = False,
    ) -> Float[Array, " n *shape"]:
        """A draw from q(x_s | x_t, x_0) at x_0 = E[x_0 | x_t] (arXiv 2006.11239, eq. 7, at any s < t).

        Or its deterministic variant (arXiv 2010.02502, eq. 12 with eta = 0). At s = 0, E[x_0 | x_t] is left.
        """
        if isinstance(posterior, GuidedMean):
            posterior = posterior.mean
        ab_t, ab_s = self._at(t, x_t), self._at(s, x_t)
        if deterministic:
            noise = (x_t - jnp.sqrt(ab_t) * posterior) / jnp.sqrt(1 - ab_t)
            return jnp.sqrt(ab_s) * posterior + jnp.sqrt(1 - ab_s) * noise
        noise, kept = _normal(keys, x_t.shape[1:], x_t.dtype), ab_t / ab_s
        of_x_0 = jnp.sqrt(ab_s) * (1 - kept) / (1 - ab_t)
        of_x_t = jnp.sqrt(kept) * (1 - ab_s) / (1 - ab_t)
        spread = jnp.sqrt((1 - kept) * (1 - ab_s) / (1 - ab_t))
        return of_x_0 * posterior + of_x_t * x_t + spread * noise

    def guide(
        self,
        conditional: Float[Array, "n L v"],
        unconditional: Float[Array, "n L v"],
        weight: float | Float[Array, "#n"],
    ) -> GuidedMean:
        """`(1 + w) f_c - w f_u`: scores are affine in E[x_0 | x_t]."""
        w = jnp.asarray(weight, float).reshape(-1, 1, 1)
        return GuidedMean((1 + w) * conditional - w * unconditional)

    def step_divergence(
        self,
        x_t: Float[Array, "n L v"],
        t: int | Int[Array, "*n"],
        exact: Float[Array, "n L v"],
        posterior: Float[Array, "n L v"],
    ) -> Float[Array, " n"]:
        """KL(q(x_s | x_t, x_0) || q(x_s | x_t, f)) of two values of x_0, at s = t - 1 (arXiv 2107.00630, eq. 14).

        At t = 1 it is the divergence of the posteriors themselves.
        """
        t = jnp.broadcast_to(jnp.asarray(t), len(x_t))
        ab_t, ab_s = (self._at(level, x_t)[:, 0, 0] for level in (t, t - 1))
        fallen = (ab_s - ab_t) / ((1 - ab_t) * jnp.where(t > 1, 1 - ab_s, 1))
        of_step = 0.5 * fallen * jnp.square(exact - posterior).sum((-1, -2))
        return jnp.where(t > 1, of_step, divergence(exact, posterior).sum(-1))

    def bound(
        self,
        tokens: Int[Array, "n L"],
        x_t: Float[Array, "n L v"],
        t: int | Int[Array, "*n"],
        posterior: Float[Array, "n L v"],
    ) -> Float[Array, " n"]:
        """`step_divergence` from the clean tokens, -log p(x_0 | x_1) at t = 1.

        At T the divergence of q(x_T | x_0) from the start is added.
        """
        require_range("tokens", tokens, self._symbols - 1)
        x_0 = jax.nn.one_hot(tokens, self._symbols)
        ab_t = self._at(t, x_0)[:, 0, 0]
        of_start = 0.5 * (ab_t * tokens.shape[1] - (ab_t + jnp.log1p(-ab_t)) * math.prod(x_0.shape[1:]))
        of_start = jnp.where(jnp.asarray(t) == self.levels, of_start, 0)
        return self.step_divergence(x_t, t, x_0, posterior) + of_start

    def _at(self, t: Any, x: Array) -> Array:
        """alpha_bar of each sample, 1 at level 0, with the axes of `x`."""
        require_range("t", t, self.levels, "noise levels")
        return jnp.append(1.0, self.alpha_bar)[jnp.asarray(t)].reshape(-1, *(x.ndim - 1) * (1,))


def _normal(keys: Key[Array, " n"], shape: tuple[int, ...], dtype: Any) -> Float[Array, " n *shape"]:
    return jax.vmap(lambda key: standard_normal(key, shape, dtype))(keys)


def standard_normal(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """`jax.random.normal`: XLA's CPU backend draws the same numbers three times faster along a single axis."""
    return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)


def linear_schedule(levels: int = 500) -> Gaussian:
    """The noise whose `alpha_bar` the functions below are given, level by level."""
    return Gaussian(levels=levels)


def corrupt(
    key: Array, tokens: Int[Array, "n L"], alpha_bar: float | Float[Array, "*n"], vocab: int
) -> Float[Array, "n L v"]:
    require_range("tokens", tokens, vocab - 1)
    x_0 = jax.nn.one_hot(tokens, vocab)
    return _mixed(x_0, standard_normal(key, x_0.shape, x_0.dtype), _per_sequence(alpha_bar))


def leaf_log_likelihood(x_t: Float[Array, "n L v"], alpha_bar: float | Float[Array, "*n"]) -> Float[Array, "n L v"]:
    """Log p(x_t,i | x_0,i = a) up to a constant of the leaf: `x_t sqrt(ab) / (1 - ab)`, in nats.

    Of the difference of two posteriors, it is the difference of their scores.
    """
    ab = _per_sequence(alpha_bar)
    return x_t * (jnp.sqrt(ab) / (1 - ab))


def score(
    x_t: Float[Array, "n L v"], posterior_mean: Float[Array, "n L v"], alpha_bar: float | Float[Array, "*n"]
) -> Float[Array, "n L v"]:
    """Grad log p(x_t) = (sqrt(ab) E[x_0 | x_t] - x_t) / (1 - ab) (Tweedie)."""
    ab = _per_sequence(alpha_bar)
    return (jnp.sqrt(ab) * posterior_mean - x_t) / (1 - ab)


def _mixed(x_0: Array, z: Array, ab: Array) -> Array:
    return jnp.sqrt(ab) * x_0 + jnp.sqrt(1 - ab) * z


def _per_sequence(alpha_bar: float | Array) -> Array:
    return jnp.asarray(alpha_bar, float).reshape(-1, 1, 1)
