"""Random hierarchical grammars on a regular tree, and those of rules as others keep them.

Axis letters used throughout hierdiff: `n` batch, `L = s**depth` leaves, `v` vocabulary of the leaves, `w` symbols of an
inner level, `m` rules per symbol, `s` branching, `d` level (0 is the root, `depth` the leaves), `h = depth - d` height.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from hierdiff.errors import OptionError, require
from hierdiff.grammar_config import GrammarConfig

# What a sum of probabilities may be off 1 for rounding; of anything else than probabilities it is further off.
ROUNDING = 0.01


@dataclasses.dataclass(frozen=True)
class Grammar:
    """Rule probabilities of a tree of `depth` levels, level by level.

    Symbol `a` at level `d` becomes the tuple `children[d, a, r]` with log-probability `log_prob[d, a, r]`;
    the root is drawn from `log_root`. A symbol with fewer than `m` rules is padded with `log_prob = -inf`.

    Inner levels, the root's too, have `w` symbols and the leaves `vocab`, which may be more or fewer (None: as many).
    A level with fewer than `w` is padded with symbols that cannot occur; these may have no rule at all.

    Log-probabilities are used as they are, so that one can differentiate with respect to them: rows that are rounded
    to a few digits are normalised by `grammar_from_tensor`, or by `jax.nn.log_softmax`. Within `jax.jit` and its like
    nothing is checked.

    Raises:
      ValueError: a child is no symbol of the level below, or the probabilities of the rules of a symbol that can occur,
        or of the roots, are further than 0.01 from a sum of 1.

    Examples:
      >>> grammar = hd.random_grammar(jax.random.key(0), depth=4, vocab=6)
      >>> grammar.children.shape, grammar.leaves
      ((4, 6, 4, 2), 16)
    """

    children: Int[Array, "depth w m s"]
    log_prob: Float[Array, "depth w m"]
    log_root: Float[Array, " w"]
    vocab: int = None  # pyright: ignore[reportAssignmentType] (a number once it is made)

    def __post_init__(self):
        if self.vocab is None:
            object.__setattr__(self, "vocab", self.children.shape[1])
        if any(isinstance(x, Tracer) for x in vars(self).values()):
            return
        children, log_prob = np.asarray(self.children), np.asarray(self.log_prob, np.float64)
        log_root = np.asarray(self.log_root, np.float64)
        shape = children.shape
        require(len(shape) == 4 and 0 not in shape, "children", shape, "the shape (depth, w, m, s)")
        require(log_prob.shape == shape[:3], "log_prob", log_prob.shape, f"the shape {shape[:3]}, as children have")
        require(log_root.shape == shape[1:2], "log_root", log_root.shape, f"the shape {shape[1:2]}, as children have")
        with np.errstate(over="ignore"):
            rows, roots = np.exp(log_prob), np.exp(log_root)
        require(np.issubdtype(children.dtype, np.integer), "children", str(children.dtype), "integers")
        # What pads may be anything: it is never drawn.
        below = np.array(self.symbols[1:])[:, None, None, None]
        outside = ((children < 0) | (children >= below)).any(-1) & (log_prob > -np.inf)
        for d, a, r in np.argwhere(outside)[:1]:
            got = f"{children[d, a, r].tolist()} for rule {r} of symbol {a} at level {d}"
            raise OptionError("children", got, f"symbols from 0 to {self.symbols[d + 1] - 1}")
        _require_probabilities("log_prob", rows, _can_occur(children, rows, roots))
        good, got = abs(roots.sum() - 1) <= ROUNDING, f"probabilities that sum to {roots.sum():.6g}"
        require(bool(good), "log_root", got, "a sum of 1")

    @property
    def depth(self) -> int:
        return self.children.shape[0]

    @property
    def symbols(self) -> tuple[int, ...]:
        """How many symbols there are at each level, from the root's to the leaves', those that pad it included."""
        return (*self.depth * (self.children.shape[1],), self.vocab)

    @property
    def branching(self) -> int:
        return self.children.shape[3]

    @property
    def leaves(self) -> int:
        return self.branching**self.depth


ARRAYS = ("children", "log_prob", "log_root")


def _flatten(grammar: Grammar):
    return [(jax.tree_util.GetAttrKey(name), getattr(grammar, name)) for name in ARRAYS], grammar.vocab


def _unflatten(vocab, arrays):
    # Gradients, or several grammars stacked, are no grammar: they are not checked.
    grammar = object.__new__(Grammar)
    vars(grammar).update(zip(ARRAYS, arrays, strict=True), vocab=vocab)
    return grammar


jax.tree_util.register_pytree_with_keys(Grammar, _flatten, _unflatten)


def _can_occur(
    children: Int[np.ndarray, "depth w m s"], rows: Float[np.ndarray, "depth w m"], root: Float[np.ndarray, " w"]
) -> Bool[np.ndarray, "depth w"]:
    """Which symbols of each inner level have a probability."""
    occurs = np.zeros(rows.shape[:2], bool)
    occurs[0] = root > 0
    for d in range(len(rows) - 1):
        occurs[d + 1, children[d][(rows[d] > 0) & occurs[d][:, None]]] = True
    return occurs


def _require_probabilities(
    name: str, rows: Float[np.ndarray, "level w m"], occurs: Bool[np.ndarray, "level w"]
) -> None:
    """Raise `OptionError`, with the row, unless each holds probabilities, but for rounding.

    That of a symbol that cannot occur may be empty.
    """
    sums = rows.sum(-1)
    bad = ~((rows >= 0).all(-1) & (np.abs(sums - 1) <= ROUNDING)) & (occurs | (rows != 0).any(-1))
    for d, a in np.argwhere(bad)[:1]:
        row = rows[d, a]
        got = (
            f"numbers from {row.min():.4g} to {row.max():.4g} that sum to {sums[d, a]:.6g}, of symbol {a} at level {d}"
        )
        need = "probabilities, that sum to 1, of each symbol that can occur; "
        raise OptionError(name, got, need + "counts become probabilities when each row is divided by its sum")


def random_grammar(
    key: Array,
    *,
    depth: int = 4,
    vocab: int = 6,
    rules: int = 4,
    branching: int = 2,
    sigma: float | Sequence[float] = 1.0,
    shared: bool = True,
) -> Grammar:
    """Draw an unambiguous grammar: `v*m` distinct tuples out of `v**s`, `m` to each symbol.

    The rules of a symbol have weights `softmax(sigma * N(0, 1))`; the root is uniform. With `shared` one
    rule set serves every level (arXiv 2603.03469); `shared=False, sigma=0` is the Random Hierarchy Model
    (arXiv 2307.02129). Without `shared`, `sigma` may be one number for each level, that of the root's rules
    first. Drawn with NumPy from `key`, so a key names one grammar on every device.

    Raises:
      ValueError: no unambiguous grammar has these sizes.

    Examples:
      >>> grammar = hd.random_grammar(jax.random.key(0), depth=2, vocab=3, rules=2)
      >>> grammar.depth, grammar.leaves, grammar.vocab
      (2, 4, 3)
    """
    each = tuple(sigma) if isinstance(sigma, Sequence) else sigma
    sizes = GrammarConfig(depth=depth, vocab=vocab, rules=rules, branching=branching, sigma=each, shared=shared)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    sets = 1 if shared else depth
    shape = (vocab, rules, branching)
    # Tuples are numbered in base v. Each level has its own draw without replacement.
    numbers = [rng.choice(vocab**branching, size=vocab * rules, replace=False) for _ in range(sets)]
    tuples = np.stack([np.stack(np.unravel_index(i, (vocab,) * branching), axis=-1) for i in numbers])
    weights = np.reshape(sizes.sigma, (-1, 1, 1)) * rng.standard_normal((sets, vocab, rules))
    log_prob = weights - np.log(np.exp(weights - weights.max(-1, keepdims=True)).sum(-1, keepdims=True))
    log_prob -= weights.max(-1, keepdims=True)
    return Grammar(
        children=jnp.asarray(np.broadcast_to(tuples.reshape(sets, *shape), (depth, *shape)), jnp.int32),
        log_prob=jnp.asarray(np.broadcast_to(log_prob, (depth, vocab, rules)), float),
        log_root=jnp.full(vocab, -np.log(vocab)),
    )


def grammar_from_tensor(tensor: Float[Array | np.ndarray, "..."], depth: int, root: ArrayLike | None = None) -> Grammar:
    """The grammar of a dense table `P(children | parent)` of shape `(v, v, ..., v)`.

    One table serves every level; a table with a leading axis of length `depth` gives one to each. The root has the
    probabilities `root`, uniform ones if there are none. A row with fewer rules than another is padded with -inf; that
    of a symbol that cannot occur may be all zeros. Rows that are off 1 by no more than 0.01, as numbers rounded to a
    few digits are, are divided by their sums.

    Raises:
      ValueError: the axes differ in length, an entry is negative, or a row is further from a sum of 1.

    Examples:
      Of 0 come 0 1 and 1 0, three times as often; of 1 comes 1 1 alone.

      >>> grammar = hd.grammar_from_tensor(np.array([[[0, 0.25], [0.75, 0]], [[0, 0], [0, 1]]]), depth=2)
      >>> grammar.log_prob.shape, grammar.leaves
      ((2, 2, 2), 4)
    """
    require(depth >= 1, "depth", depth, "an integer of at least 1")
    table = np.asarray(tensor, np.float64)
    equal = [len(set(table.shape[axis:])) == 1 for axis in (0, 1)]
    one_table, one_each = equal[0] and table.ndim >= 3, equal[1] and table.ndim >= 4 and len(table) in (1, depth)
    need = f"the shape (v, v, ..., v), or ({depth}, v, v, ..., v) with a table for each level"
    require(one_table or one_each, "tensor", table.shape, need)
    if one_table and one_each:
        # The rows of one table sum to 1, or are empty.
        sums = table.reshape(len(table), -1).sum(-1)
        one_table = np.allclose(sums, sums != 0, atol=ROUNDING)
    levels = table[None] if one_table else table
    vocab, branching = levels.shape[-1], levels.ndim - 2
    rows = levels.reshape(len(levels), vocab, vocab**branching)
    roots = np.full(vocab, 1 / vocab) if root is None else np.asarray(root, np.float64)
    good = roots.shape == (vocab,) and (roots >= 0).all() and abs(roots.sum() - 1) <= ROUNDING
    require(bool(good), "root", roots.tolist(), f"{vocab} probabilities, that sum to 1")
    rules = max(1, int((rows > 0).sum(-1).max()))
    # The m likeliest tuples of each row hold all its non-zero entries; ties and zeros follow in order.
    chosen = np.argsort(-rows, axis=-1, kind="stable")[..., :rules]
    children = np.stack(np.unravel_index(chosen, (vocab,) * branching), axis=-1)
    children = np.broadcast_to(children, (depth, *children.shape[1:]))
    of_chosen = np.broadcast_to(np.take_along_axis(rows, chosen, axis=-1), children.shape[:3])
    occurs = _can_occur(children, of_chosen, roots)
    _require_probabilities("tensor", np.broadcast_to(rows, (depth, *rows.shape[1:])), occurs)
    return Grammar(
        children=jnp.asarray(children, jnp.int32), log_prob=_log_shares(of_chosen), log_root=_log_shares(roots)
    )


def _log_shares(weights: Float[np.ndarray, "*rows m"]) -> Float[Array, "*rows m"]:
    """The logarithms of weights divided by the sum of their row; -inf in an empty one."""
    sums = weights.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(weights / np.where(sums > 0, sums, 1)), float)


def grammar_from_rules(
    children: Iterable[Any],
    weights: Iterable[Any] | None = None,
    root: ArrayLike | None = None,
    symbols: Iterable[Any] | None = None,
    *,
    vocab: int | None = None,
) -> Grammar:
    """The grammar of rule tables as others keep them: one a level, from the top, in a list or a dictionary by level.

    Levels may differ in their numbers of symbols and of rules, and symbols in their number of rules. NumPy arrays,
    tensors of torch and lists will do.

    Args:
      children: of each level, integers `(v_d, m_d, s)`, or a list with the rules of each symbol, `(m, s)`.
      weights: of each level, a weight for each rule, in the same form. A symbol's rules are drawn in proportion to
        them; one of weight 0 is none, and its children may be anything. None: all alike.
      root: a weight for each row of the top level. None: all alike.
      symbols: of each level, which symbol each row has the rules of, where rows are numbered otherwise than the
        symbols, as when there are rows for the symbols that occur alone. None, for all levels or one: row i has those
        of symbol i.
      vocab: the number of symbols at the leaves. None: as many as the largest one there asks for.

    Raises:
      ValueError: a rule has another number of children than the first, or one that is no symbol of the level below; a
        weight is negative; a symbol that can occur has no rule.

    Examples:
      The root, 0 or 1, has two rules or one, with children among three symbols.

      >>> grammar = hd.grammar_from_rules([[[[0, 1], [1, 0]], [[2, 2]]]], weights=[[[3, 1], [1]]])
      >>> grammar.vocab, grammar.leaves
      (3, 2)
    """
    given = [_levels(children), _levels(weights), _levels(symbols)]
    depth = len(given[0])
    require(depth >= 1, "children", "no level", "a table of rules for each level, from the top")
    for name, of_levels in zip(("weights", "symbols"), given[1:], strict=True):
        require(len(of_levels) in (0, depth), name, f"{len(of_levels)} levels", f"{depth}, as children have")
    levels = [_rules_of_level(d, *of_level) for d, of_level in enumerate(itertools.zip_longest(*given))]
    first, last = ([tuples for tuples, _ in x.values() if len(tuples)] for x in (levels[0], levels[-1]))
    require(bool(first and last), "children", "a level without rules", "a rule for each symbol that can occur")
    leaves = 1 + max(0, *(int(tuples.max()) for tuples in last)) if vocab is None else vocab
    require(leaves >= 1, "vocab", leaves, "an integer of at least 1")
    m = max(len(tuples) for level in levels for tuples, _ in level.values())
    shape = (depth, 1 + max(max(level) for level in levels), m)
    branching = first[0].shape[1]
    table, shares, roots = np.zeros((*shape, branching), np.int32), np.zeros(shape), np.zeros(shape[1])
    for d, level in enumerate(levels):
        below = set(levels[d + 1] if d + 1 < depth else range(leaves))
        for a, (tuples, weight) in level.items():
            of = f"of symbol {a} at level {d}"
            if len(tuples):
                require(tuples.shape[1] == branching, "children", f"{tuples[0]} {of}", f"{branching} children a rule")
            need = f"symbols of the {len(below)} of level {d + 1}; the top level comes first"
            for row in tuples.tolist():
                require(below.issuperset(row), "children", f"{row} {of}", need)
            table[d, a, : len(tuples)], shares[d, a, : len(tuples)] = tuples, weight
    roots[[*levels[0]]] = _weights("root", len(levels[0]), root, "of the rows of the top level")
    require(bool(roots.any()), "root", "weights that sum to 0", "one above 0")
    for d, a in np.argwhere(_can_occur(table, shares, roots) & (shares.sum(-1) == 0))[:1]:
        need = "a rule of a weight above 0 for each symbol that can occur"
        raise OptionError("children", f"no rule of symbol {a} at level {d}", need)
    return Grammar(jnp.asarray(table), _log_shares(shares), _log_shares(roots), leaves)


def _levels(given: Iterable[Any] | None) -> list[Any]:
    """What is given of each level, from the top."""
    return [given[d] for d in sorted(given)] if isinstance(given, Mapping) else [*(() if given is None else given)]


def _rules_of_level(d: int, table: Any, weights: Any, symbols: Any) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The rules `(m, s)` of each symbol of level `d`, and their weights; those of weight 0 are left out."""
    named = np.arange(len(table)) if symbols is None else np.asarray(symbols)
    good = named.shape == (len(table),) and np.issubdtype(named.dtype, np.integer) and named.size >= 1
    need = f"distinct integers of at least 0, one for each of the {len(table)} rows"
    require(
        good and np.unique(named).size == named.size and named.min().item() >= 0,
        "symbols",
        f"{named.tolist()} for level {d}",
        need,
    )
    weights = len(table) * [None] if weights is None else weights
    got = f"{len(weights)} rows at level {d}"
    require(len(weights) == len(table), "weights", got, f"{len(table)}, as children have")
    rules = {}
    for a, row, weight in zip(named.tolist(), table, weights, strict=True):
        of = f"of symbol {a} at level {d}"
        try:
            tuples = np.asarray(row)
        except ValueError:
            raise OptionError("children", f"{row!r} {of}", "as many children in each rule") from None
        tuples = tuples if tuples.size else np.zeros((0, 1), int)
        require(np.issubdtype(tuples.dtype, np.integer), "children", f"{tuples.dtype} {of}", "integers")
        require(tuples.ndim == 2, "children", f"the shape {tuples.shape} {of}", "the shape (m, s): its rules")
        weight = _weights("weights", len(tuples), weight, of)
        rules[a] = tuples[weight > 0], weight[weight > 0]
    return rules


def _weights(name: str, n: int, given: ArrayLike | None, of: str) -> Float[np.ndarray, " n"]:
    """Weights, not normalised; all alike where none are given."""
    weights = np.ones(n) if given is None else np.asarray(given, np.float64)
    good = weights.shape == (n,) and ((weights >= 0) & (weights < np.inf)).all()
    require(bool(good), name, f"{weights.tolist()} {of}", f"{n} numbers of at least 0")
    return weights


def save_grammar(path: Path | str, grammar: Grammar) -> None:
    """Write a grammar to one file, an npz that needs nothing of hierdiff to be read.

    Its arrays are the integers `children` (depth, w, m, s); `log_prob` (depth, w, m) and `log_root` (w), in nats and in
    the precision that the grammar has; and `vocab`, the number of symbols of the leaves. The same grammar gives the
    same bytes.

    Raises:
      OSError: the file cannot be written.

    Examples:
      >>> grammar = hd.random_grammar(jax.random.key(0), depth=2, vocab=3, rules=2)
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     hd.save_grammar(f"{folder}/grammar.npz", grammar)
      ...     read = hd.load_grammar(f"{folder}/grammar.npz")
      >>> bool((read.children == grammar.children).all())
      True
    """
    arrays: Any = {name: np.asarray(x) for name, x in vars(grammar).items()}
    # Of a path NumPy would change the ending.
    with Path(path).open("wb") as file:
        np.savez(file, **arrays)


def load_grammar(path: Path | str) -> Grammar:
    """The grammar that `save_grammar` wrote, to the bit; of double precision only where JAX has it switched on.

    Raises:
      ValueError: the file is something else.
      OSError: it cannot be read.

    Examples:
      >>> grammar = hd.random_grammar(jax.random.key(0), depth=2, vocab=3, rules=2)
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     hd.save_grammar(f"{folder}/grammar.npz", grammar)
      ...     read = hd.load_grammar(f"{folder}/grammar.npz")
      >>> bool((read.children == grammar.children).all())
      True
    """
    with Path(path).open("rb") as file:
        try:
            read = np.load(file, allow_pickle=False).items()
            arrays: Any = {name: jnp.asarray(x) if x.ndim else int(x) for name, x in read}
            return Grammar(**{field.name: arrays[field.name] for field in dataclasses.fields(Grammar)})
        # Given other bytes, NumPy and zipfile raise exceptions of nearly every kind.
        except Exception as error:
            raise OptionError("path", str(path), "a grammar, as save_grammar writes it") from error
