"""Blocks of what a network generates: are they copies of training blocks, and does the grammar know them?"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierdiff.grammar import Grammar
from hierdiff.noising.process import require_range
from hierdiff.posterior import block_root_posterior

# Comparisons of one chunk of sequences with all of the training set, of which so many are alive at a time.
COMPARISONS = 2**24


def copies(grammar: Grammar, sequences: Int[Array, "n L"], train: Int[Array, "P L"]) -> Float[Array, "heights n"]:
    """The share of each sequence's height-h blocks that stand at the same place in the training set, h = 0..depth.

    A sequence may hold `vocab`, which is no symbol, as what reverse diffusion could not draw.
    """
    require_range("sequences", sequences, grammar.vocab)
    require_range("train", train, grammar.vocab - 1)
    return _copies(grammar, sequences, train)


@jax.jit
def _copies(grammar, sequences, train):
    def of_one(sequence):
        equal, shares = sequence[None] == train, []
        for _ in range(grammar.depth):
            shares.append(equal.any(0).mean())
            equal = equal.reshape(len(train), equal.shape[1] // grammar.branching, grammar.branching).all(-1)
        return jnp.stack([*shares, equal.any(0).mean()])

    return jax.lax.map(of_one, sequences, batch_size=max(1, COMPARISONS // max(1, train.size))).T


def validity(grammar: Grammar, sequences: Int[Array, "n L"]) -> Float[Array, "heights n"]:
    """The share of each sequence's height-h blocks that the grammar can produce at that place, h = 0..depth.

    It produces no `vocab`, which a sequence may hold as in `copies`.
    """
    require_range("sequences", sequences, grammar.vocab)
    return _validity(grammar, sequences)


@jax.jit
def _validity(grammar, sequences):
    known = jnp.log(jax.nn.one_hot(sequences, grammar.vocab))
    heights = range(grammar.depth + 1)
    sums = [block_root_posterior(grammar, known, height=height).sum(-1) for height in heights]
    return jnp.stack([(x > 0.5).mean(-1) for x in sums])
