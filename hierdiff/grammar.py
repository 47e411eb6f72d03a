"""Random hierarchical grammars on a regular tree.

Axis letters used throughout hierdiff: `n` batch, `L = s**depth` leaves, `v` vocabulary, `m` rules per
symbol, `s` branching, `d` level (0 is the root, `depth` the leaves), `h = depth - d` height.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from hierdiff.errors import OptionError, require
from hierdiff.grammar_config import GrammarConfig

# What a sum of probabilities may be off 1 for rounding; of anything else than probabilities it is further off.
ROUNDING = 0.01


@dataclasses.dataclass(frozen=True)
class Grammar:
    """Rule probabilities of a tree of `depth` levels, level by level.

    Symbol `a` at level `d` becomes the tuple `children[d, a, r]` with log-probability `log_prob[d, a, r]`;
    the root is drawn from `log_root`. A symbol with fewer than `m` rules is padded with `log_prob = -inf`.

    Log-probabilities are used as they are, so that one can differentiate with respect to them: rows that are rounded
    to a few digits are normalised by `grammar_from_tensor`, or by `jax.nn.log_softmax`. Within `jax.jit` and its like
    nothing is checked.

    Raises:
      ValueError: a child is no symbol, or the probabilities of a symbol's rules, or of the roots, are further than 0.01
        from a sum of 1.
    """

    children: Int[Array, "depth v m s"]
    log_prob: Float[Array, "depth v m"]
    log_root: Float[Array, " v"]

    def __post_init__(self):
        if any(isinstance(x, Tracer) for x in vars(self).values()):
            return
        children, log_prob = np.asarray(self.children), np.asarray(self.log_prob, np.float64)
        with np.errstate(over="ignore"):
            rows, roots = np.exp(log_prob), np.exp(np.asarray(self.log_root, np.float64))
        require(np.issubdtype(children.dtype, np.integer), "children", str(children.dtype), "integers")
        # What pads may be anything: it is never drawn.
        outside = ((children < 0) | (children >= self.vocab)).any(-1) & (log_prob > -np.inf)
        for d, a, r in np.argwhere(outside)[:1]:
            got = f"{children[d, a, r].tolist()} for rule {r} of symbol {a} at level {d}"
            raise OptionError("children", got, f"symbols from 0 to {self.vocab - 1}")
        _require_probabilities("log_prob", rows)
        good, got = abs(roots.sum() - 1) <= ROUNDING, f"probabilities that sum to {roots.sum():.6g}"
        require(bool(good), "log_root", got, "a sum of 1")

    @property
    def depth(self) -> int:
        return self.children.shape[0]

    @property
    def vocab(self) -> int:
        return self.children.shape[1]

    @property
    def branching(self) -> int:
        return self.children.shape[3]

    @property
    def leaves(self) -> int:
        return self.branching**self.depth


def _flatten(grammar: Grammar):
    return [(jax.tree_util.GetAttrKey(name), x) for name, x in vars(grammar).items()], None


def _unflatten(_, parts):
    # Gradients, or several grammars stacked, are no grammar: they are not checked.
    grammar = object.__new__(Grammar)
    vars(grammar).update(zip(("children", "log_prob", "log_root"), parts, strict=True))
    return grammar


jax.tree_util.register_pytree_with_keys(Grammar, _flatten, _unflatten)


def _require_probabilities(name: str, rows: Float[np.ndarray, "level v m"]) -> None:
    """Raise `OptionError`, with the row, unless each holds probabilities, but for rounding."""
    sums = rows.sum(-1)
    bad = ~((rows >= 0).all(-1) & (np.abs(sums - 1) <= ROUNDING))
    for d, a in np.argwhere(bad)[:1]:
        row = rows[d, a]
        got = (
            f"numbers from {row.min():.4g} to {row.max():.4g} that sum to {sums[d, a]:.6g}, of symbol {a} at level {d}"
        )
        need = "probabilities, that sum to 1; counts become probabilities when each row is divided by its sum"
        raise OptionError(name, got, need)


def random_grammar(
    key: Array,
    *,
    depth: int = 4,
    vocab: int = 6,
    rules: int = 4,
    branching: int = 2,
    sigma: float = 1.0,
    shared: bool = True,
) -> Grammar:
    """Draw an unambiguous grammar: `v*m` distinct tuples out of `v**s`, `m` to each symbol.

    The rules of a symbol have weights `softmax(sigma * N(0, 1))`; the root is uniform. With `shared` one
    rule set serves every level (arXiv 2603.03469); `shared=False, sigma=0` is the Random Hierarchy Model
    (arXiv 2307.02129). Drawn with NumPy from `key`, so a key names one grammar on every device.

    Raises:
      ValueError: no unambiguous grammar has these sizes.
    """
    GrammarConfig(depth=depth, vocab=vocab, rules=rules, branching=branching, sigma=sigma)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    sets = 1 if shared else depth
    shape = (vocab, rules, branching)
    # Tuples are numbered in base v. Each level has its own draw without replacement.
    numbers = [rng.choice(vocab**branching, size=vocab * rules, replace=False) for _ in range(sets)]
    tuples = np.stack([np.stack(np.unravel_index(i, (vocab,) * branching), axis=-1) for i in numbers])
    weights = sigma * rng.standard_normal((sets, vocab, rules))
    log_prob = weights - np.log(np.exp(weights - weights.max(-1, keepdims=True)).sum(-1, keepdims=True))
    log_prob -= weights.max(-1, keepdims=True)
    return Grammar(
        children=jnp.asarray(np.broadcast_to(tuples.reshape(sets, *shape), (depth, *shape)), jnp.int32),
        log_prob=jnp.asarray(np.broadcast_to(log_prob, (depth, vocab, rules)), float),
        log_root=jnp.full(vocab, -np.log(vocab)),
    )


def grammar_from_tensor(tensor: Float[Array | np.ndarray, "..."], depth: int) -> Grammar:
    """The grammar of a dense table `P(children | parent)` of shape `(v, v, ..., v)`, with a uniform root.

    One table serves every level; a table with a leading axis of length `depth` gives one to each. A row with
    fewer rules than another is padded with -inf. Rows that are off 1 by no more than 0.01, as numbers rounded to a few
    digits are, are divided by their sums.

    Raises:
      ValueError: the axes differ in length, an entry is negative, or a row is further from a sum of 1.
    """
    require(depth >= 1, "depth", depth, "an integer of at least 1")
    table = np.asarray(tensor, np.float64)
    equal = [len(set(table.shape[axis:])) == 1 for axis in (0, 1)]
    one_table, one_each = equal[0] and table.ndim >= 3, equal[1] and table.ndim >= 4 and len(table) in (1, depth)
    need = f"the shape (v, v, ..., v), or ({depth}, v, v, ..., v) with a table for each level"
    require(one_table or one_each, "tensor", table.shape, need)
    if one_table and one_each:
        # The rows of one table sum to 1.
        one_table = np.allclose(table.reshape(len(table), -1).sum(-1), 1, atol=ROUNDING)
    levels = table[None] if one_table else table
    vocab, branching = levels.shape[-1], levels.ndim - 2
    rows = levels.reshape(len(levels), vocab, vocab**branching)
    _require_probabilities("tensor", rows)
    rows = rows / rows.sum(-1, keepdims=True)
    rules = int((rows > 0).sum(-1).max())
    # The m likeliest tuples of each row hold all its non-zero entries; ties and zeros follow in order.
    chosen = np.argsort(-rows, axis=-1, kind="stable")[..., :rules]
    with np.errstate(divide="ignore"):
        log_prob = np.log(np.take_along_axis(rows, chosen, axis=-1))
    children = np.stack(np.unravel_index(chosen, (vocab,) * branching), axis=-1)
    return Grammar(
        children=jnp.asarray(np.broadcast_to(children, (depth, *children.shape[1:])), jnp.int32),
        log_prob=jnp.asarray(np.broadcast_to(log_prob, (depth, vocab, rules)), float),
        log_root=jnp.full(vocab, -np.log(vocab)),
    )


def save_grammar(path: Path | str, grammar: Grammar) -> None:
    """Write a grammar to one file, an npz that needs nothing of hierdiff to be read.

    Its arrays are the integers `children` (depth, v, m, s); `log_prob` (depth, v, m) and `log_root` (v), in nats and in
    the precision that the grammar has; and `vocab`, the number of symbols of the leaves. The same grammar gives the
    same bytes.

    Raises:
      OSError: the file cannot be written.
    """
    arrays: Any = {name: np.asarray(x) for name, x in vars(grammar).items()}
    # Of a path NumPy would change the ending.
    with Path(path).open("wb") as file:
        np.savez(file, **arrays | {"vocab": np.asarray(grammar.vocab)})


def load_grammar(path: Path | str) -> Grammar:
    """The grammar that `save_grammar` wrote, to the bit; of double precision only where JAX has it switched on.

    Raises:
      ValueError: the file is something else.
      OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        try:
            read = np.load(file, allow_pickle=False).items()
            arrays: Any = {name: jnp.asarray(x) if x.ndim else int(x) for name, x in read}
            return Grammar(**{field.name: arrays[field.name] for field in dataclasses.fields(Grammar)})
        # Given other bytes, NumPy and zipfile raise exceptions of nearly every kind.
        except Exception as error:
            raise OptionError("path", str(path), "a grammar, as save_grammar writes it") from error
