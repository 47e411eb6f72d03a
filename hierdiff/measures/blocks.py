"""Blocks of what a network generates: are they copies of training blocks, and does the grammar know them?"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierdiff.grammar import Grammar
from hierdiff.posterior import block_root_posterior

# Comparisons of one chunk of sequences with all of the training set, of which so many are alive at a time.
COMPARISONS = 2**24


@jax.jit
def copies(grammar: Grammar, sequences: Int[Array, "n L"], train: Int[Array, "P L"]) -> Float[Array, "heights n"]:
    """The share of each sequence's height-h blocks that stand at the same place in the training set, h = 0..depth."""
    chunk = max(1, min(len(sequences), COMPARISONS // train.size))

    def of_chunk(part):
        equal, shares = part[:, None] == train[None], []
        for _ in range(grammar.depth):
            shares.append(equal.any(1).mean(-1))
            equal = equal.reshape(*equal.shape[:2], -1, grammar.branching).all(-1)
        return jnp.stack([*shares, equal.any(1).mean(-1)])

    chunks = jnp.pad(sequences, ((0, -len(sequences) % chunk), (0, 0))).reshape(-1, chunk, sequences.shape[1])
    shares = jax.lax.map(of_chunk, chunks)
    return jnp.moveaxis(shares, 0, 1).reshape(grammar.depth + 1, -1)[:, : len(sequences)]


@jax.jit
def validity(grammar: Grammar, sequences: Int[Array, "n L"]) -> Float[Array, "heights n"]:
    """The share of each sequence's height-h blocks that the grammar can produce at that place, h = 0..depth."""
    known = jnp.log(jax.nn.one_hot(sequences, grammar.vocab))
    heights = range(grammar.depth + 1)
    sums = [block_root_posterior(grammar, known, height=height).sum(-1) for height in heights]
    return jnp.stack([(x > 0.5).mean(-1) for x in sums])
