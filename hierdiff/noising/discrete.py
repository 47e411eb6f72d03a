"""Noise on symbols that stay symbols: masking, and redrawing uniformly. States are integers `(n, L)`.

A state holds `vocab`, which is no symbol, where a leaf is masked, and where a posterior of zeros has left nothing to
draw: evidence that the grammar cannot produce shows at the end.
"""

import abc
import dataclasses
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from hierdiff.errors import OptionError, require
from hierdiff.keys import key_for
from hierdiff.noising.levels import MOST_LEVELS
from hierdiff.noising.process import divergence, require_range


@dataclasses.dataclass(frozen=True, kw_only=True)
class Discrete(abc.ABC):
    """What masking and uniform noise have in common: at level t a symbol is replaced with probability t/T."""

    vocab: int
    levels: int = 500

    def __post_init__(self):
        require(self.vocab >= 2, "vocab", self.vocab, "an integer of at least 2")
        require(1 <= self.levels <= MOST_LEVELS, "levels", self.levels, f"an integer from 1 to {MOST_LEVELS:,}")

    @property
    @abc.abstractmethod
    def channels(self) -> int: ...

    @abc.abstractmethod
    def step_divergence(self, x_t: Array, t: Any, exact: Array, posterior: Array) -> Array: ...

    def share(self, t: Any) -> Float[Array, "#n 1"]:
        """The probability t/T, of each sequence."""
        require_range("t", t, self.levels, "noise levels")
        return jnp.asarray(t, float).reshape(-1, 1) / self.levels

    def replaced(self, key: Array, tokens: Int[Array, "n L"], t: int | Int[Array, "*n"]) -> Bool[Array, "n L"]:
        """The leaves whose symbol is replaced. Consumes `key`."""
        require_range("tokens", tokens, self.vocab - 1)
        return jax.random.uniform(key, tokens.shape) < self.share(t)

    def encode(self, x_t: Int[Array, "n L"]) -> Float[Array, "n L channels"]:
        require_range("x_t", x_t, self.channels - 1)
        return jax.nn.one_hot(x_t, self.channels)

    def decode(self, x_0: Int[Array, "n L"]) -> Int[Array, "n L"]:
        return x_0

    def guide(
        self,
        conditional: Float[Array, "n L v"],
        unconditional: Float[Array, "n L v"],
        weight: float | Float[Array, "#n"],
    ) -> Float[Array, "n L v"]:
        """`f_c^(1 + w) f_u^(-w)`, normalised at each leaf; zero where f_c is."""
        w = jnp.asarray(weight, float).reshape(-1, 1, 1)
        possible, tiny = conditional > 0, jnp.finfo(conditional.dtype).tiny
        log_c, log_u = (jnp.log(jnp.maximum(f, tiny)) for f in (conditional, unconditional))
        log_f = jnp.where(possible, (1 + w) * log_c - w * log_u, -jnp.inf)
        # Of a posterior of zeros nothing is left.
        return jnp.where(possible, jax.nn.softmax(jnp.where(possible.any(-1, keepdims=True), log_f, 0)), 0)

    def bound(
        self,
        tokens: Int[Array, "n L"],
        x_t: Int[Array, "n L"],
        t: int | Int[Array, "*n"],
        posterior: Float[Array, "n L v"],
    ) -> Float[Array, " n"]:
        """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) at s = t - 1; at t = 1, where x_0 is left, -log p(x_0 | x_1).

        The sum of L_(t-1) and L_0 of arXiv 2107.03006, eq. 1; L_T is zero.
        """
        require_range("tokens", tokens, self.vocab - 1)
        return self.step_divergence(x_t, t, jax.nn.one_hot(tokens, self.vocab), posterior)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, kw_only=True)
class Masking(Discrete):
    """A symbol is masked with probability t/T: the absorbing noise of D3PM (arXiv 2107.03006, section 3.1).

    It is that of MDLM (arXiv 2406.07524) and MD4 (arXiv 2406.04329), with their linear schedule. A mask is `vocab`.

    Examples:
      >>> process = hd.Masking(vocab=3, levels=100)
      >>> process.corrupt(jax.random.key(0), jnp.array([[0, 2, 1, 1]]), 100)
      Array([[3, 3, 3, 3]], dtype=int32)
      >>> process.log_likelihood(jnp.array([[2, 3]]), 50).tolist()
      [[[-inf, -inf, 0.0], [0.0, 0.0, 0.0]]]
    """

    name: ClassVar[str] = "masking"

    @property
    def channels(self) -> int:
        return self.vocab + 1

    def corrupt(self, key: Array, tokens: Int[Array, "n L"], t: int | Int[Array, "*n"]) -> Int[Array, "n L"]:
        return jnp.where(self.replaced(key, tokens, t), self.vocab, tokens)

    def log_likelihood(self, x_t: Int[Array, "n L"], t: int | Int[Array, "*n"]) -> Float[Array, "n L v"]:
        """0 for the symbol that is shown and -inf for others; 0 for all where none is."""
        del t
        require_range("x_t", x_t, self.vocab)
        ruled_out = self.known(x_t)[..., None] & (jax.nn.one_hot(x_t, self.vocab) == 0)
        return jnp.where(ruled_out, -jnp.inf, 0.0)

    def known(self, x_t: Int[Array, "n L"]) -> Bool[Array, "n L"]:
        return x_t != self.vocab

    def start(self, keys: Key[Array, " n"], leaves: int) -> Int[Array, "n L"]:
        """All masked."""
        return jnp.full((len(keys), leaves), self.vocab, jnp.int32)

    def step(
        self,
        keys: Key[Array, " n"],
        x_t: Int[Array, "n L"],
        t: Any,
        s: Any,
        posterior: Float[Array, "n L v"],
        *,
        order: Literal["random", "confidence"] | None = None,
        at_once: int | None = None,
    ) -> Int[Array, "n L"]:
        """Each masked leaf is shown with probability (t - s) / t, its symbol drawn from the posterior.

        Or `at_once` of them are, and what is left at s = 0: those whose most probable symbol is the most probable
        (arXiv 2202.04200; the order depends on what is shown alone), or any.
        """
        require((order is None) == (at_once is None), "at_once", at_once, "a number with an order, and none without")
        hidden = ~self.known(x_t)
        u = jax.vmap(lambda key: jax.random.uniform(key_for(key, "leaves"), x_t.shape[1:]))(keys)
        if at_once is None:
            shown = u < 1 - self.share(s) / self.share(t)
        else:
            if order not in ("random", "confidence"):
                raise OptionError("order", order, "random or confidence")
            first = jnp.where(hidden, u if order == "random" else posterior.max(-1), -1)
            rank = jnp.argsort(jnp.argsort(-first, axis=-1), axis=-1)
            shown = (rank < at_once) | (self.share(s) == 0)
        drawn = draw_symbols(jax.vmap(lambda key: key_for(key, "symbols"))(keys), posterior)
        return jnp.where(hidden & shown, drawn, x_t)

    def step_divergence(
        self,
        x_t: Int[Array, "n L"],
        t: int | Int[Array, "*n"],
        exact: Float[Array, "n L v"],
        posterior: Float[Array, "n L v"],
    ) -> Float[Array, " n"]:
        """The divergence of the two posteriors on the masked leaves, of which one in t is shown.

        T times that, where x_0 is known, is the cross-entropy over t/T, by which MDLM and MD4 train.
        """
        of_leaves = jnp.where(self.known(x_t), 0, divergence(exact, posterior))
        return of_leaves.sum(-1) / jnp.asarray(t, float)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, kw_only=True)
class Uniform(Discrete):
    """A symbol is redrawn from all of them with probability t/T: the uniform noise of D3PM (arXiv 2107.03006).

    Examples:
      >>> process = hd.Uniform(vocab=2, levels=100)
      >>> jnp.exp(process.log_likelihood(jnp.array([[1]]), 50)).round(2)
      Array([[[0.25, 0.75]]], dtype=float32)
    """

    name: ClassVar[str] = "uniform"

    @property
    def channels(self) -> int:
        return self.vocab

    def corrupt(self, key: Array, tokens: Int[Array, "n L"], t: int | Int[Array, "*n"]) -> Int[Array, "n L"]:
        drawn = jax.random.randint(key_for(key, "symbols"), tokens.shape, 0, self.vocab, tokens.dtype)
        return jnp.where(self.replaced(key_for(key, "replaced"), tokens, t), drawn, tokens)

    def log_likelihood(self, x_t: Int[Array, "n L"], t: int | Int[Array, "*n"]) -> Float[Array, "n L v"]:
        require_range("x_t", x_t, self.vocab - 1)
        return jnp.log(self._law(x_t, self.share(t)))

    def known(self, x_t: Int[Array, "n L"]) -> Bool[Array, "n L"]:
        return jnp.zeros(x_t.shape, bool)

    def start(self, keys: Key[Array, " n"], leaves: int) -> Int[Array, "n L"]:
        """Uniform symbols."""
        return jax.vmap(lambda key: jax.random.randint(key, (leaves,), 0, self.vocab, jnp.int32))(keys)

    def step(
        self, keys: Key[Array, " n"], x_t: Int[Array, "n L"], t: Any, s: Any, posterior: Float[Array, "n L v"]
    ) -> Int[Array, "n L"]:
        """Each leaf is drawn from `sum_a q(x_s | x_t, x_0 = a) p(a | x_t)`."""
        return draw_symbols(keys, self._before(x_t, t, s, posterior))

    def step_divergence(
        self,
        x_t: Int[Array, "n L"],
        t: int | Int[Array, "*n"],
        exact: Float[Array, "n L v"],
        posterior: Float[Array, "n L v"],
    ) -> Float[Array, " n"]:
        """KL of `_before` of the two posteriors; that of arXiv 2107.03006, eq. 4, is another step."""
        t = jnp.asarray(t)
        true, ours = (self._before(x_t, t, t - 1, p) for p in (exact, posterior))
        return divergence(true, ours).sum(-1)

    def _law(self, x: Int[Array, "n L"], redrawn: Float[Array, "#n 1"]) -> Float[Array, "n L v"]:
        """The probability of x given each symbol before, of which the share `redrawn` has been redrawn."""
        redrawn = redrawn[..., None]
        return (1 - redrawn) * jax.nn.one_hot(x, self.vocab) + redrawn / self.vocab

    def _before(self, x_t: Array, t: Any, s: Any, posterior: Array) -> Float[Array, "n L v"]:
        """p(x_s | x_t), by Bayes' rule: what each x_0 makes of x_s, and x_s of x_t."""
        of_t, of_s = self.share(t), self.share(s)
        weight = posterior / self._law(x_t, of_t)
        from_start = (1 - of_s)[..., None] * weight + (of_s / self.vocab)[..., None] * weight.sum(-1, keepdims=True)
        return from_start * self._law(x_t, (of_t - of_s) / (1 - of_s))


def draw_symbols(keys: Key[Array, " n"], law: Float[Array, "n L v"]) -> Int[Array, "n L"]:
    """A symbol of each leaf, with probabilities in the ratios of `law`; v where all are zero (Gumbel-max)."""
    shape = law.shape[1:]
    gumbel = jax.vmap(lambda key: jax.random.gumbel(key, (math.prod(shape),), law.dtype).reshape(shape))(keys)
    drawn = jnp.argmax(jnp.log(law) + gumbel, axis=-1)
    return jnp.where((law > 0).any(-1), drawn, shape[-1]).astype(jnp.int32)
