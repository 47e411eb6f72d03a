"""How rare a sequence is, by height: the weights of its rules, and how often its blocks stand in a training set."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hierdiff.grammar import Grammar
from hierdiff.noising.process import require_range
from hierdiff.posterior import log_evidence


def log_probability(grammar: Grammar, sequences: Int[Array, "n L"]) -> Float[Array, " n"]:
    """The log-probability of each sequence under the grammar, in nats."""
    require_range("sequences", sequences, grammar.vocab - 1)
    return log_evidence(grammar, _known(grammar, sequences))


def rule_weights(grammar: Grammar, sequences: Int[Array, "n L"]) -> Float[Array, "depth n"]:
    """The sum of log p(rule | symbol) over the nodes of each height, from 1 on, whose rules make a sequence, in nats.

    Where several derivations make it, their mean. It is the derivative of log p(sequence) as the log-weights of one
    level grow: that with respect to a rule's is how often it is used. With log p of the root, the sums are log p.
    """
    require_range("sequences", sequences, grammar.vocab - 1)
    return _rule_weights(grammar, _known(grammar, sequences))


@jax.jit
def _rule_weights(grammar, known):
    log_prob = grammar.log_prob

    def evidence(log_prob):
        return log_evidence(dataclasses.replace(grammar, log_prob=log_prob), known)

    def of_level(d):
        grows = jnp.zeros_like(log_prob).at[d].set(jnp.where(log_prob[d] > -jnp.inf, log_prob[d], 0))
        return jax.jvp(evidence, (log_prob,), (grows,))[1]

    return jax.lax.map(of_level, jnp.arange(grammar.depth)[::-1])


def _known(grammar: Grammar, sequences: Int[Array, "n L"]) -> Float[Array, "n L v"]:
    return jnp.log(jax.nn.one_hot(sequences, grammar.vocab))


def block_counts(train: Int[Array, "P L"], *, branching: int) -> Float[np.ndarray, "heights P"]:
    """How often the blocks of each training sequence stand in the set, at each height: the mean of the log count.

    Counted are all blocks of that height, wherever they stand; at the largest height it is the number of copies.
    """
    size, leaves = train.shape
    lengths = itertools.takewhile(lambda length: length <= leaves, (branching**height for height in itertools.count()))

    def of_blocks(length: int) -> np.ndarray:
        blocks = np.asarray(train).reshape(-1, length)
        _, which, counts = np.unique(blocks, axis=0, return_inverse=True, return_counts=True)
        return np.log(counts)[which.ravel()].reshape(size, -1).mean(-1)

    return np.stack([of_blocks(length) for length in lengths])
