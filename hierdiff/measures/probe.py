"""Where denoisers are run to be measured: noised sequences, drawn once and shared by all networks and checkpoints.

A probe is a sequence of pieces, one a noise level. Whoever owns the denoisers runs them on the x_t of a piece and then
on its completions, one after another, and measures are functions of a piece and of these outputs: the outputs on x_t
and those on one completion are alive at a time.
"""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from hierdiff.grammar import Grammar
from hierdiff.keys import key_for, keys_of
from hierdiff.noising.process import Process, require_range
from hierdiff.posterior import leaf_posterior, log_evidence, memorizer, window_posterior
from hierdiff.sampling import complete, in_block


class Piece(NamedTuple):
    """Noised sequences, with BP_k for each k that was asked for; stacked, with an axis of noise levels before all.

    Of sequences with labels, these too, and the posteriors are given them.
    """

    tokens: Int[Array, "*levels n L"]
    t: Int[Array, "*levels n"]
    x_t: Array
    exact: Float[Array, "*levels k n L v"]
    labels: Int[Array, "*levels n nodes"] | None = None


class Completion(NamedTuple):
    """A random block of each sequence with its x_t, and all the rest drawn anew; stacked, one for each height.

    `weight` is the number of blocks of that height on the leaves of the block, 0 elsewhere.
    """

    x_t: Array
    exact: Float[Array, "*heights n L v"]
    weight: Float[Array, "*heights n L"]


class Reference(NamedTuple):
    """What denoisers are compared with on a piece at one noise level.

    `windows[h + 1]` is the window posterior w_h, the last the exact one, and `memories` are the memorizers of the data
    sets. The completions are of the heights 0..depth-1.
    """

    windows: Float[Array, "*levels heights n L v"]
    completions: Completion
    memories: Float[Array, "*levels sets n L v"]


def make_pieces(
    keys: Key[Array, " levels"],
    grammar: Grammar,
    process: Process,
    tokens: Int[Array, "n L"],
    t: Int[Array, "levels n"],
    *,
    filtered: tuple[int, ...],
    labels: Int[Array, "n nodes"] | None = None,
) -> Piece:
    """Noise `tokens` at each row of `t`, with its key, and compute BP_k for each k of `filtered`. Consumes `keys`."""
    require_range("tokens", tokens, grammar.vocab - 1)
    require_range("t", t, process.levels, "noise levels")
    return _make_pieces(keys, grammar, process, tokens, t, labels, filtered)


@functools.partial(jax.jit, static_argnames="filtered")
def _make_pieces(keys, grammar, process, tokens, t, labels, filtered):
    levels, (n, leaves) = len(t), tokens.shape
    x_t = jax.vmap(lambda key, t: process.corrupt(key, tokens, t))(keys, t)
    ll = process.log_likelihood(x_t.reshape(levels * n, *x_t.shape[2:]), t.ravel())
    each = None if labels is None else jnp.tile(labels, (levels, 1))
    exact = [leaf_posterior(grammar, ll, filtered=k, labels=each) for k in filtered]
    exact = jnp.stack([x.reshape(levels, n, leaves, grammar.vocab) for x in exact], axis=1)
    at_levels = None if labels is None else jnp.broadcast_to(labels, (levels, *labels.shape))
    return Piece(jnp.broadcast_to(tokens, (levels, n, leaves)), t, x_t, exact, at_levels)


def information(grammar: Grammar, process: Process, piece: Piece) -> Float[Array, " n"]:
    """`log p(x_t | x_0) - log p(x_t)` at each sequence, in bits, whose mean is I(x_0; x_t)."""
    ll = process.log_likelihood(piece.x_t, piece.t)
    of_tokens = jnp.take_along_axis(ll, piece.tokens[..., None], axis=-1).sum((-1, -2))
    return (of_tokens - log_evidence(grammar, ll)) / jnp.log(2.0)


def make_reference(
    key: Array,
    grammar: Grammar,
    process: Process,
    piece: Piece,
    train: Iterable[Int[Array, "_ L"]],
    train_labels: Iterable[Int[Array, "_ nodes"]] | None = None,
    *,
    of_law: bool = True,
) -> Reference:
    """The windows, a completion of a random block of each height, and the memorizers, at one level. Consumes `key`.

    All are given the labels of the piece, the first two unless these are no part `of_law`, as random ones are none.
    """
    labels = piece.labels if of_law else None
    windows, completions = _windows_and_completions(key, grammar, process, piece.x_t, piece.t, labels)
    ll = process.log_likelihood(piece.x_t, piece.t)
    if piece.labels is None or train_labels is None:
        memories = [memorizer(each, ll) for each in train]
    else:
        both = zip(train, train_labels, strict=True)
        memories = [memorizer(each, ll, train_labels=of, labels=piece.labels) for each, of in both]
    return Reference(windows, completions, jnp.stack(memories))


@jax.jit
def _windows_and_completions(key, grammar, process, x_t, t, labels):
    ll = process.log_likelihood(x_t, t)
    heights = range(grammar.depth)
    blocks = [grammar.branching ** (grammar.depth - height) for height in heights]
    # Blocks of a taller height hold those of a lower one: one uniform number for each sequence places them all.
    place = jax.random.randint(key_for(key, "blocks"), (len(x_t),), 0, grammar.leaves)
    positions = [place // grammar.branching**height for height in heights]
    keys = keys_of(key_for(key, "completions"), range(grammar.depth))
    completed = [
        complete(keys[h], grammar, process, x_t, t, height=h, position=positions[h], labels=labels) for h in heights
    ]
    windows = [window_posterior(grammar, ll, height=height, labels=labels) for height in range(-1, grammar.depth + 1)]
    exact = [leaf_posterior(grammar, process.log_likelihood(x, t), labels=labels) for x in completed]
    weight = [blocks[h] * in_block(grammar, h, positions[h]).astype(ll.dtype) for h in heights]
    return jnp.stack(windows), Completion(*map(jnp.stack, (completed, exact, weight)))


def at(stack: Any, level: int | slice) -> Any:
    """One tree of a stack, or some."""
    return jax.tree.map(lambda x: x[level], stack)


def stacked(trees: Iterable[Any]) -> Any:
    """Trees of arrays as one, with a new first axis."""
    return jax.tree.map(lambda *each: jnp.stack(each), *trees)
