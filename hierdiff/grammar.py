"""Random hierarchical grammars on a regular tree.

Axis letters used throughout hierdiff: `n` batch, `L = s**depth` leaves, `v` vocabulary, `m` rules per
symbol, `s` branching, `d` level (0 is the root, `depth` the leaves), `h = depth - d` height.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hierdiff.errors import require
from hierdiff.grammar_config import GrammarConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Grammar:
    """Rule probabilities of a tree of `depth` levels, level by level.

    Symbol `a` at level `d` becomes the tuple `children[d, a, r]` with log-probability `log_prob[d, a, r]`;
    the root is drawn from `log_root`. A symbol with fewer than `m` rules is padded with `log_prob = -inf`.
    """

    children: Int[Array, "depth v m s"]
    log_prob: Float[Array, "depth v m"]
    log_root: Float[Array, " v"]

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
    fewer rules than another is padded with -inf.

    Raises:
      ValueError: the axes differ in length, an entry is negative, or a row does not sum to 1.
    """
    require(depth >= 1, "depth", depth, "an integer of at least 1")
    table = np.asarray(tensor, np.float64)
    # The rows of one table sum to 1; where every axis has the same length, this tells the two forms apart.
    one_table = np.allclose(table.reshape(len(table), -1).sum(-1), 1, atol=1e-4)
    levels = table[None] if one_table else table
    vocab, branching = levels.shape[-1], levels.ndim - 2
    good_shape = branching >= 2 and set(levels.shape[1:]) == {vocab} and len(levels) in (1, depth)
    require(
        good_shape,
        "tensor",
        table.shape,
        f"shape (v, v, ..., v) or ({depth}, v, v, ..., v), rows that sum to 1",
    )
    rows = levels.reshape(-1, vocab, vocab**branching)
    sums = rows.sum(-1)
    good_rows = (rows >= 0).all() and np.allclose(sums, 1, atol=1e-4)
    require(bool(good_rows), "tensor", f"rows that sum to {sums.min():.6g} .. {sums.max():.6g}", "probabilities")
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
