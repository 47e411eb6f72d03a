"""Derivations of a grammar: the data, with the symbols of every level."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from hierdiff.grammar import Grammar
from hierdiff.options import require


class Derivation(NamedTuple):
    """`levels[d]` holds the symbols of level `d`, from the root (d = 0) to the leaves, `(n, s**d)`."""

    levels: tuple[Int[Array, "n _"], ...]

    @property
    def leaves(self) -> Int[Array, "n L"]:
        return self.levels[-1]


class DataSets(NamedTuple):
    """Disjoint data sets of one grammar.

    `coincidences` counts the sequences that turn up, by chance, in more than one of the sets.
    """

    train: Int[Array, "sets P L"]
    held_out: Int[Array, "n L"]
    coincidences: int


def sample(key: Array, grammar: Grammar, n: int, *, first: int = 0) -> Derivation:
    """Draw sequences number `first` to `first + n - 1` of the stream that `key` names.

    Sequence `i` depends on `key` and `i` alone, so data do not change with the split into batches. Random
    bits are compared with integer thresholds: no rounding, and so no draw, depends on the device.
    """
    require(n >= 1, "n", n, "an integer of at least 1")
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
    """Cumulative probabilities without the last, as 32-bit integers: outcome = number of them <= bits."""
    cumulative = np.cumsum(np.exp(np.asarray(log_prob, np.float64)), axis=-1)
    cumulative = cumulative[..., :-1] / cumulative[..., -1:]
    return jnp.asarray(np.minimum(np.rint(cumulative * 2.0**32), 2.0**32 - 1).astype(np.uint32))


@jax.jit
def _derive(key, children, root_thresholds, rule_thresholds, indices):
    depth, _, _, branching = children.shape
    draw = functools.partial(jnp.sum, axis=-1, dtype=jnp.int32)

    def derive_one(index):
        root_key, *level_keys = jax.random.split(jax.random.fold_in(key, index), depth + 1)
        levels = [draw(jax.random.bits(root_key, (1, 1), jnp.uint32) >= root_thresholds[None])]
        for d, level_key in enumerate(level_keys):
            bits = jax.random.bits(level_key, (branching**d, 1), jnp.uint32)
            rule = draw(bits >= rule_thresholds[d, levels[d]])
            levels.append(children[d, levels[d], rule].ravel())
        return tuple(levels)

    return jax.vmap(derive_one)(indices)


def data_sets(key: Array, grammar: Grammar, *, sets: int, size: int, held_out: int) -> DataSets:
    """Draw `sets` training sets of `size` sequences and a held-out set, from disjoint parts of one stream."""
    leaves = sample(key, grammar, sets * size + held_out).leaves
    train = leaves[: sets * size].reshape(sets, size, -1)
    parts = [np.unique(np.asarray(part), axis=0) for part in (*train, leaves[sets * size :])]
    _, counts = np.unique(np.concatenate(parts), axis=0, return_counts=True)
    return DataSets(train, leaves[sets * size :], int((counts > 1).sum()))
