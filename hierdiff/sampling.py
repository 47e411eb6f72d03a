"""Derivations of a grammar: the data, with the symbols of every level; draws given evidence; completions of a block."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

from hierdiff.errors import require
from hierdiff.grammar import Grammar
from hierdiff.keys import key_for, keys_of
from hierdiff.noising import Process
from hierdiff.noising.process import require_range
from hierdiff.posterior import (
    Labels,
    LogLikelihood,
    block_root_posterior,
    by_chunks,
    check,
    label_fields,
    prior_marginals,
    upward,
)


class Derivation(NamedTuple):
    """`levels[d]` holds the symbols of level `d`, from the root (d = 0) to the leaves, `(n, s**d)`."""

    levels: tuple[Int[Array, "n _"], ...]

    @property
    def leaves(self) -> Int[Array, "n L"]:
        return self.levels[-1]


@dataclasses.dataclass(frozen=True)
class DataSets:
    """Disjoint data sets of one grammar, with the symbols of every level.

    `coincidences` counts the sequences that turn up, by chance, in more than one of the sets.
    """

    train_levels: tuple[Int[Array, "sets P _"], ...]
    held_out_levels: tuple[Int[Array, "n _"], ...]
    coincidences: int

    @property
    def train(self) -> Int[Array, "sets P L"]:
        return self.train_levels[-1]

    @property
    def held_out(self) -> Int[Array, "n L"]:
        return self.held_out_levels[-1]


def sample(key: Array, grammar: Grammar, n: int, *, first: int = 0) -> Derivation:
    """Draw sequences number `first` to `first + n - 1` of the stream that `key` names.

    Sequence `i` depends on `key` and `i` alone, so data do not change with the split into batches. Random
    bits are compared with integer thresholds: no rounding, and so no draw, depends on the device.

    Examples:
      >>> grammar = hd.random_grammar(jax.random.key(0), depth=2, vocab=3, rules=2)
      >>> [symbols.shape for symbols in hd.sample(jax.random.key(1), grammar, 5).levels]
      [(5, 1), (5, 2), (5, 4)]
    """
    require(n >= 0, "n", n, "an integer of at least 0")
    return Derivation(
        _derive(
            key,
            grammar.children,
            _thresholds(grammar.log_root),
            _thresholds(grammar.log_prob),
            jnp.arange(first, first + n, dtype=jnp.uint32),
        )
    )


def _thresholds(log_prob: Array) -> UInt32[Array, "..."]:
    """Cumulative probabilities without the last, in units of 2**-31: the outcome is the number of them <= 31 bits."""
    cumulative = np.cumsum(np.exp(np.asarray(log_prob, np.float64)), axis=-1)
    # Of no rule at all there is nothing to draw.
    cumulative = cumulative[..., :-1] / np.where(cumulative[..., -1:] > 0, cumulative[..., -1:], 1)
    return jnp.asarray(np.rint(cumulative * 2.0**31).astype(np.uint32))


@jax.jit
def _derive(key, children, root_thresholds, rule_thresholds, indices):
    depth, _, _, branching = children.shape
    sizes = [1] + [branching**d for d in range(depth)]
    draw = functools.partial(jnp.sum, axis=-1, dtype=jnp.int32)

    def derive_one(index):
        bits = jax.random.bits(jax.random.fold_in(key, index), (sum(sizes), 1), jnp.uint32) >> 1
        of_root, *of_levels = jnp.split(bits, np.cumsum(sizes[:-1]))
        levels = [draw(of_root >= root_thresholds[None])]
        for d, of_level in enumerate(of_levels):
            rule = draw(of_level >= rule_thresholds[d, levels[d]])
            levels.append(children[d, levels[d], rule].ravel())
        return tuple(levels)

    return jax.vmap(derive_one)(indices)


def data_sets(
    key: Array,
    grammar: Grammar,
    *,
    sets: int,
    size: int,
    held_out: int,
    places: Int[np.ndarray, " P"] | None = None,
) -> DataSets:
    """Draw `sets` training sets of `size` sequences and a held-out set, from disjoint parts of one stream.

    Where a set is to hold some sequences more than once, `places` says which of those drawn for it stands where.
    """
    levels = sample(key, grammar, sets * size + held_out).levels
    train = tuple(x[: sets * size].reshape(sets, size, -1) for x in levels)
    if places is not None:
        train = tuple(x[:, places] for x in train)
    others = tuple(x[sets * size :] for x in levels)
    parts = [np.unique(np.asarray(part), axis=0) for part in (*train[-1], others[-1])]
    _, counts = np.unique(np.concatenate(parts), axis=0, return_counts=True)
    return DataSets(train, others, int((counts > 1).sum()))


def coincidences(leaves: Int[Array, "n L"], train: Int[Array, "sets P L"]) -> int:
    """How many of the sequences turn up in a training set."""
    return int(seen(leaves, train).sum())


def sample_unseen(
    key: Array, grammar: Grammar, n: int, train: Int[Array, "sets P L"], *, name: str
) -> Int[Array, "n L"]:
    """Draw `n` sequences that are in no training set. Consumes `key`.

    Raises:
      ValueError: of four times as many sequences, fewer than `n` are; `name` is the option that asks for so many.
    """
    drawn = sample(key, grammar, 4 * n).leaves
    unseen = drawn[~seen(drawn, train)]
    require(len(unseen) >= n, name, n, f"at most {len(unseen)}: most sequences of this grammar are in a training set")
    return unseen[:n]


def seen(leaves: Int[Array | np.ndarray, "n L"], train: Int[Array | np.ndarray, "sets P L"]) -> Bool[np.ndarray, " n"]:
    """Which of the sequences turn up in a training set."""
    known = {row.tobytes() for row in np.asarray(train).reshape(-1, train.shape[-1])}
    return np.array([row.tobytes() in known for row in np.asarray(leaves)], bool)


def posterior_sample(
    key: Array, grammar: Grammar, log_likelihood: LogLikelihood, labels: Labels | None = None
) -> Derivation:
    """Draw a derivation for each sequence from its law given the evidence, with `labels` as in `hierdiff.posterior`.

    Sequence `i` depends on `key`, `i` and its own evidence alone. Of evidence of probability zero there is no law, and
    all symbols are -1. Consumes `key`.

    Examples:
      >>> grammar, process = hd.grammar_from_rules([[[[0, 1]], [[1, 0]]]]), hd.Masking(vocab=2)
      >>> seen = process.log_likelihood(jnp.array([[2, 0]]), 250)
      >>> hd.posterior_sample(jax.random.key(0), grammar, seen).levels
      (Array([[1]], dtype=int32), Array([[1, 0]], dtype=int32))
    """
    check(grammar, log_likelihood, labels=labels)
    levels, possible = _given_evidence(key, grammar, log_likelihood, labels)
    return Derivation(tuple(jnp.where(possible[:, None], symbols, -1) for symbols in levels))


@jax.jit
def _given_evidence(key, grammar, log_likelihood, labels):
    """The symbols of each level, and whether the evidence has a probability."""
    depth, s, m = grammar.depth, grammar.branching, grammar.log_prob.shape[2]
    # One Gumbel number for each alternative of each choice.
    sizes = [grammar.symbols[0]] + [s**d * m for d in range(depth)]

    def draw(ll, labels, index):
        messages, _ = upward(grammar, ll, 0, label_fields(grammar, labels))
        gumbel = jax.vmap(lambda key: jax.random.gumbel(key, (sum(sizes),)))(keys_of(key, index))
        of_root, *of_levels = jnp.split(gumbel.T, np.cumsum(sizes[:-1]))
        root = grammar.log_root[:, None] + messages[0][:, 0]
        levels = [jnp.argmax(root + of_root, axis=0)[None]]
        for d, of_level in enumerate(of_levels):
            # What the children of each rule of the nodes' symbols say, which are (s**d, n, m, s).
            children = grammar.children[d][levels[d]]
            below = messages[d + 1].reshape(-1, s**d, s, len(index))
            node, sequence, _, slot = jnp.indices((s**d, len(index), 1, s), sparse=True)
            log_weight = grammar.log_prob[d][levels[d]] + below[children, node, slot, sequence].sum(-1)
            rule = jnp.argmax(log_weight + of_level.reshape(s**d, m, -1).swapaxes(1, 2), axis=-1)
            chosen = jnp.take_along_axis(children, rule[..., None, None], axis=2)[:, :, 0]
            levels.append(chosen.swapaxes(1, 2).reshape(s ** (d + 1), -1))
        return tuple(levels), (root > -jnp.inf).any(0)

    return by_chunks(draw, log_likelihood, labels, jnp.arange(len(log_likelihood)))


def complete(
    key: Array,
    grammar: Grammar,
    process: Process,
    x_t: Array,
    t: int | Int[Array, "*n"],
    *,
    height: int,
    position: Int[Array, " n"],
    labels: Labels | None = None,
) -> Array:
    """Draw the rest of x_t anew, given what it is on one block of each sequence, and all labels. Consumes `key`.

    The block is the `position`-th of height `height`. The rest of the derivation is drawn given x_t on the block, and
    then fresh noise. So the result has the law of x_t given x_t on the block; if x_t has the law of noised data, so has
    the result.

    Examples:
      The first leaf is kept, and the rest drawn anew with fresh noise, here next to none.

      >>> grammar, process = hd.grammar_from_rules([[[[0, 1]], [[1, 0]]]]), hd.Masking(vocab=2, levels=1000)
      >>> x_t, first = jnp.array([[0, 2]]), jnp.array([0])
      >>> hd.complete(jax.random.key(0), grammar, process, x_t, 1, height=0, position=first)
      Array([[0, 1]], dtype=int32)
    """
    require(0 <= height <= grammar.depth, "height", height, f"an integer from 0 to {grammar.depth}")
    require_range("position", position, grammar.branching ** (grammar.depth - height) - 1, "blocks")
    ll = process.log_likelihood(x_t, t)
    check(grammar, ll, labels=labels)
    return _complete(key, grammar, process, x_t, t, ll, height, position, labels)


@functools.partial(jax.jit, static_argnames="height")
def _complete(key, grammar, process, x_t, t, log_likelihood, height, position, labels):
    kept = in_block(grammar, height, position)
    if labels is None:
        symbols = _given_block(key_for(key, "choices"), grammar, log_likelihood, height, position)
    else:
        seen = jnp.where(kept[:, :, None], log_likelihood, 0)
        (*_, symbols), _ = _given_evidence(key_for(key, "choices"), grammar, seen, labels)
    noised = process.corrupt(key_for(key, "noise"), symbols, t)
    return jnp.where(kept.reshape(*kept.shape, *(x_t.ndim - 2) * (1,)), x_t, noised)


def _given_block(key, grammar, log_likelihood, height, position):
    """Leaves given the log-likelihoods on a block; the draws that the records of runs were made with.

    The block's root is drawn from its posterior, the ancestors and their other children given it, and everything below
    those from the grammar.
    """
    depth, level = grammar.depth, grammar.depth - height
    n, (w, m), s = len(position), grammar.log_prob.shape[1:], grammar.branching
    priors = prior_marginals(grammar)
    # One Gumbel number for each alternative of each choice, in one call: XLA compiles each call anew.
    sizes = [grammar.symbols[level]] + level * [w * m] + [s**d * m for d in range(depth)]
    gumbel = jnp.split(jax.random.gumbel(key, (n, sum(sizes))), np.cumsum(sizes[:-1]), axis=1)
    of_root, up, down = gumbel[0], gumbel[1 : 1 + level], gumbel[1 + level :]

    roots = block_root_posterior(grammar, log_likelihood, height=height)
    of_block = jnp.take_along_axis(roots, position[:, None, None], axis=1)[:, 0]
    symbol = jnp.argmax(jnp.log(of_block) + of_root, axis=-1)
    # Up the path: a parent and its rule, given the child in one of its slots.
    node, path = position, {}
    for d in reversed(range(level)):
        slot, node = node % s, node // s
        fits = jnp.moveaxis(grammar.children[d][:, :, slot], -1, 0) == symbol[:, None, None]
        log_weight = jnp.log(priors[d][node])[:, :, None] + grammar.log_prob[d][None]
        log_weight = jnp.where(fits, log_weight, -jnp.inf).reshape(n, w * m)
        symbol, rule = jnp.divmod(jnp.argmax(log_weight + up[d], axis=-1), m)
        path[d] = node, rule
    # Down from the root: the rules of the path are kept, all others drawn.
    symbols = symbol[:, None]
    for d in range(depth):
        rules = jnp.argmax(grammar.log_prob[d][symbols] + down[d].reshape(n, s**d, m), axis=-1)
        if d in path:
            node, rule = path[d]
            rules = rules.at[jnp.arange(n), node].set(rule)
        symbols = grammar.children[d, symbols, rules].reshape(n, s ** (d + 1))
    return symbols


def in_block(grammar: Grammar, height: int, position: Int[Array, " n"]) -> Bool[Array, "n L"]:
    """Which leaves lie in the `position`-th block of height `height`."""
    return jnp.arange(grammar.leaves)[None] // grammar.branching**height == position[:, None]
