"""Nearest neighbours in Hamming distance: is what a network generates nearer to its own training set?"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import rel_entr

from hierdiff.errors import require
from hierdiff.noising.process import require_range

# Products of one chunk with all of the training set, of which so many are alive at a time.
PRODUCTS = 2**23


def nearest_distances(a: Int[Array, "n L"], b: Int[Array, "m L"], *, vocab: int) -> Int[Array, " n"]:
    """The smallest number of symbols in which each sequence of `a` differs from any sequence of `b`.

    Counts of equal symbols are products of one-hot matrices, chunk by chunk of `a`: with the one-hot forms of both, at
    most `max(m, 2**23)` numbers are alive at a time. In `a`, `vocab` is no symbol, and equal to none.
    """
    require(len(b) >= 1, "b", b.shape, "at least one sequence")
    require_range("a", a, vocab)
    require_range("b", b, vocab - 1)
    return _nearest_distances(a, b, vocab, 1)


def nearest_others(train: Int[Array, "P L"], n: int, *, vocab: int) -> Int[Array, " n"]:
    """The smallest number of symbols in which each of the first `n` training sequences differs from any other.

    Of one that is there twice it is 0.
    """
    require(len(train) >= 2, "train", train.shape, "at least two sequences")
    require_range("train", train, vocab - 1)
    return _nearest_distances(train[:n], train, vocab, 2)


@functools.partial(jax.jit, static_argnames=("vocab", "nearest"))
def _nearest_distances(a, b, vocab, nearest):
    """That of the so many-th nearest."""
    of_b = jax.nn.one_hot(b, vocab, dtype=jnp.float32).reshape(len(b), -1).T

    def most_equal(sequence):
        equal = jax.nn.one_hot(sequence, vocab, dtype=jnp.float32).ravel() @ of_b
        return equal.max() if nearest == 1 else jax.lax.top_k(equal, nearest)[0][-1]

    most = jax.lax.map(most_equal, a, batch_size=max(1, PRODUCTS // len(b)))
    return a.shape[1] - most.astype(jnp.int32)


def histogram_divergence(p: Float[np.ndarray, "*#batch d"], q: Float[np.ndarray, "*#batch d"], *, n: int) -> np.ndarray:
    """KL of two histograms of relative frequencies of `n` samples each, with half a count added to every bin, in nats.

    The half counts (Jeffreys' prior) keep it finite where q has no sample.
    """
    p, q = ((n * x + 0.5) / (n + 0.5 * x.shape[-1]) for x in (p, q))
    return np.asarray(rel_entr(p, q).sum(-1))
