"""What a noise process is; noise levels t = 1..T, stratified; cross-entropy and divergence."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import rel_entr
from jaxtyping import Array, Bool, Float, Int, Key

from hierdiff.errors import require

# How far from zero the probability of a symbol is kept where an estimate of it leaves the simplex.
LEAST = 1e-6
# `(x_t, t) -> p(x_0 | x_t)`, of shape `(n, L, v)`: a network, the exact posterior, BP_k, a window or the memorizer.
Denoiser = Callable[[Array, Array], Array]


class GuidedMean(NamedTuple):
    """A guided E[x_0 | x_t] of Gaussian noise: it may leave the simplex, and has no logarithm."""

    mean: Float[Array, "n L v"]


@runtime_checkable
class Process(Protocol):
    """Noise as a value: a frozen pytree, whose states x_t are arrays with the sequences of a batch on the first axis.

    t is one level for all sequences, or one for each, `(n,)`. The noise of different leaves is independent given the
    tokens: window posteriors and `complete` need it.

    Examples:
      >>> [isinstance(process, hd.Process) for process in (hd.Gaussian(vocab=3), hd.Masking(vocab=3), None)]
      [True, True, False]
    """

    name: ClassVar[str]

    @property
    @abc.abstractmethod
    def vocab(self) -> int | None:
        """The number of symbols; None for data that are no symbols."""

    @property
    @abc.abstractmethod
    def levels(self) -> int:
        """T, the number of noise levels."""

    @property
    @abc.abstractmethod
    def channels(self) -> int:
        """Numbers that a network reads of each leaf."""

    @abc.abstractmethod
    def encode(self, x_t: Array) -> Float[Array, "n L channels"]:
        """What a network reads."""

    @abc.abstractmethod
    def decode(self, x_0: Array) -> Int[Array, "n L"]:
        """The symbols of a state at level 0."""

    @abc.abstractmethod
    def corrupt(self, key: Array, tokens: Int[Array, "n L"], t: int | Int[Array, "*n"]) -> Array:
        """One draw of x_t for each sequence. Consumes `key`."""

    @abc.abstractmethod
    def log_likelihood(self, x_t: Array, t: int | Int[Array, "*n"]) -> Float[Array, "n L v"]:
        """Log p(x_t,i | x_0,i = a), in nats, up to a constant of the leaf; 0 and -inf where x_t shows the symbol."""

    @abc.abstractmethod
    def known(self, x_t: Array) -> Bool[Array, "n L"]:
        """The leaves whose symbol x_t shows."""

    @abc.abstractmethod
    def start(self, keys: Key[Array, " n"], leaves: int) -> Array:
        """A state at level T for each key, where reverse diffusion begins."""

    @abc.abstractmethod
    def step(self, keys: Key[Array, " n"], x_t: Array, t: Any, s: Any, posterior: Float[Array, "n L v"]) -> Array:
        """From level t to level s < t, given p(x_0 | x_t); a key for each sequence. Level 0 has no noise."""

    @abc.abstractmethod
    def step_divergence(
        self, x_t: Array, t: int | Int[Array, "*n"], exact: Float[Array, "n L v"], posterior: Float[Array, "n L v"]
    ) -> Float[Array, " n"]:
        """KL of the two steps to t - 1 that these posteriors make, in nats.

        By so much the term of the bound lies above that of the exact posterior, on average over x_0 given x_t.
        """

    @abc.abstractmethod
    def bound(
        self, tokens: Int[Array, "n L"], x_t: Array, t: int | Int[Array, "*n"], posterior: Float[Array, "n L v"]
    ) -> Float[Array, " n"]:
        """The term of -ELBO at t, in nats: its mean over x_t, summed over t = 1..T, bounds -log p(tokens)."""


def corrupt_each(process: Process, keys: Key[Array, " n"], tokens: Int[Array, "n L"], t: Int[Array, " n"]) -> Array:
    """`process.corrupt` with a key for each sequence: its noise depends on nothing else."""
    if process.vocab is not None:
        require_range("tokens", tokens, process.vocab - 1)
    return jax.vmap(lambda key, row, t: process.corrupt(key, row[None], t)[0])(keys, tokens, t)


def cross_entropy(tokens: Int[Array, "*batch L"], log_f: Float[Array, "*batch L v"]) -> Float[Array, "*batch"]:
    """-log f(x_0 | x_t), in nats a sequence."""
    require_range("tokens", tokens, log_f.shape[-1] - 1)
    return -jnp.take_along_axis(log_f, tokens[..., None], axis=-1).sum((-1, -2))


def divergence(p: Float[Array, "*batch v"], q: Float[Array, "*batch v"]) -> Float[Array, "*batch"]:
    """KL(p || q) of each leaf, in nats, where q may lie below the smallest number though it is not zero."""
    return rel_entr(p, jnp.maximum(q, jnp.finfo(q.dtype).tiny)).sum(-1)


def on_simplex(mean: Float[Array, "*batch v"]) -> Float[Array, "*batch v"]:
    """The distribution that is told by an estimate of E[x_0 | x_t] that may have left the simplex.

    What lies below `LEAST` is cut off there, so that it has a logarithm, and the rest is divided by its sum.
    """
    kept = jnp.maximum(mean, LEAST)
    return kept / kept.sum(-1, keepdims=True)


def stratified_times(key: Array, n: int, levels: int) -> Int[Array, " n"]:
    """`n` noise levels 1..levels, each uniform, one in each n-th of the range (arXiv 2107.00630, appendix I.1)."""
    u = (jnp.arange(n, dtype=float) + jax.random.uniform(key)) / n
    return jnp.minimum(jnp.floor(u * levels).astype(jnp.int32) + 1, levels)


def require_range(name: str, given: Any, last: int, of: str = "symbols", first: int = 0) -> None:
    """Raise `OptionError` unless these are integers from `first` to `last`, symbols or what they are numbers of.

    Of what is traced, within `jax.jit` and its like, nothing is known.
    """
    if isinstance(given, Tracer):
        return
    x = np.asarray(given)
    require(np.issubdtype(x.dtype, np.integer), name, f"numbers of the type {x.dtype}", f"integers, {of}")
    if x.size:
        got = f"{of} from {x.min()} to {x.max()}" if x.ndim else x.item()
        require(bool(x.min() >= first and x.max() <= last), name, got, f"{of} from {first} to {last}")
