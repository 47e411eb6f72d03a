"""Exact posteriors of the leaves and inner nodes of a grammar, given log-likelihoods at the leaves.

One upward recursion in the log domain gives the log-evidence, and **every marginal is its gradient** with
respect to a field added at the node. Inputs are leaf log-likelihoods `(n, L, v)` in nats, finite or -inf,
each leaf up to a constant of its own in all but `log_evidence`. Evidence of probability zero has
log-evidence -inf, and its posterior, which does not exist, is returned as zeros (they sum to 0, not 1).

Evidence may sit at inner nodes too: `labels`, integers `(n, s**d)`, are the symbols of all nodes of a level d from 0 to
depth - 1, with -1 where one is unknown; their number tells the level. A `root`, `(n, w)`, is a law of the root for each
sequence, in place of the grammar's. Labels that contradict each other or the log-likelihoods are evidence of
probability zero.

Accuracy: forbidden rules and symbols are exact zeros, there is no floor. The result is the exact posterior of
log-likelihoods moved by a few units in their last place: in float32 to within 2e-5 for data of the grammar,
and to within 1e-6 times the largest difference of log-likelihoods within a leaf for any other input, of up to
1e37 nats (beyond which sums over the leaves overflow).

Derivatives: all of these can be differentiated, forward (`jax.jvp`) and in reverse, with respect to the
log-likelihoods and to the `log_prob` and `log_root` of the grammar, which are then free numbers. The derivatives are
finite: zero for a rule, a symbol or evidence of probability zero.

Memory: a batch is worked through in chunks, so that above the input, the output and copies of both at most
`16 * chunks.chunk(L, v) * L * v * max(m, v)` bytes are alive.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from hierdiff.chunks import chunk
from hierdiff.errors import OptionError, require
from hierdiff.grammar import ROUNDING, Grammar
from hierdiff.noising import Denoiser, Gaussian, Process, leaf_log_likelihood
from hierdiff.noising.process import require_range

# Inside this file the batch is the last axis, so that gathers over symbols and rules move whole rows:
# messages are (w, nodes, n), at the leaves (v, nodes, n), and those of one level's rules (w, m, nodes, n).
LogLikelihood = Float[Array, "n L v"]
Posterior = Float[Array, "n L v"]
Labels = Int[Array, "n nodes"]
Roots = Float[Array, "n w"]
Function = TypeVar("Function", bound=Callable)


def _compiled(*static: str) -> Callable[[Function], Function]:
    """Compiles a function of a grammar and evidence, which are checked before that, while they have values."""

    def decorate(function: Function) -> Function:
        compiled = jax.jit(function, static_argnames=static)

        @functools.wraps(function)
        def checked(grammar, log_likelihood, **options):
            check(grammar, log_likelihood, **options)
            return compiled(grammar, log_likelihood, **options)

        return cast(Function, checked)

    return decorate


@_compiled("filtered")
def log_evidence(
    grammar: Grammar,
    log_likelihood: LogLikelihood,
    *,
    filtered: int = 0,
    labels: Labels | None = None,
    root: Roots | None = None,
) -> Float[Array, " n"]:
    """Log p(evidence) in nats, that of the labels included; `filtered` as in `leaf_posterior`.

    Examples:
      Of 0 1 and 1 0, which are all that this grammar can produce, and of 0 0.

      >>> grammar = hd.grammar_from_rules([[[[0, 1]], [[1, 0]]]])
      >>> known = jnp.log(jax.nn.one_hot(jnp.array([[0, 1], [1, 0], [0, 0]]), 2))
      >>> jnp.exp(hd.log_evidence(grammar, known)).tolist()
      [0.5, 0.5, 0.0]
    """
    return by_chunks(functools.partial(_log_evidence, grammar, filtered), log_likelihood, labels, root)


@_compiled("filtered")
def leaf_posterior(
    grammar: Grammar,
    log_likelihood: LogLikelihood,
    *,
    filtered: int = 0,
    labels: Labels | None = None,
    root: Roots | None = None,
) -> Posterior:
    """p(x_0,i | evidence), by belief propagation (`filtered=0`, exact) or its filtered version BP_k.

    For BP_k (`filtered=k`, arXiv 2603.03469) the top k levels are replaced by `s**k` channels that are
    independent given the root, channel j being the product of the marginal transitions along its path. A label above
    level k counts once: its node hangs on the root by the product of the transitions along its own path, and the
    channels below it are independent given its symbol. Those below an unknown node come from the root.

    Examples:
      One leaf of two is masked, and the other tells it; BP_1 takes the two children of a rule for independent.

      >>> grammar, process = hd.grammar_from_rules([[[[0, 1], [1, 0]]]]), hd.Masking(vocab=2)
      >>> seen = process.log_likelihood(jnp.array([[0, 2]]), 250)
      >>> hd.leaf_posterior(grammar, seen).tolist()
      [[[1.0, 0.0], [0.0, 1.0]]]
      >>> hd.leaf_posterior(grammar, seen, filtered=1).tolist()
      [[[1.0, 0.0], [0.5, 0.5]]]
    """
    of_leaves = jax.grad(lambda *evidence: _log_evidence(grammar, filtered, *evidence).sum())
    return by_chunks(of_leaves, log_likelihood, labels, root)


@_compiled()
def node_posteriors(
    grammar: Grammar, log_likelihood: LogLikelihood, *, labels: Labels | None = None, root: Roots | None = None
) -> tuple[Float[Array, "n _ _"], ...]:
    """p(symbol of each node | evidence), level by level from the root: entry d is `(n, s**d, w)`, the last has v.

    Examples:
      >>> grammar, process = hd.grammar_from_rules([[[[0, 1]], [[1, 0]]]]), hd.Masking(vocab=2)
      >>> root, leaves = hd.node_posteriors(grammar, process.log_likelihood(jnp.array([[2, 0]]), 250))
      >>> root.tolist()
      [[[0.0, 1.0]]]
    """

    def posteriors(ll, labels, root):
        shapes = [(grammar.symbols[d], grammar.branching**d, ll.shape[-1]) for d in range(grammar.depth)]
        fields = [jnp.zeros(shape, ll.dtype) for shape in shapes]
        return jax.grad(lambda x: _log_evidence(grammar, 0, x[-1], labels, root, x[:-1]).sum())([*fields, ll])

    return tuple(by_chunks(posteriors, log_likelihood, labels, root))


def class_posterior(
    grammar: Grammar, log_likelihood: LogLikelihood, *, labels: Labels | None = None, root: Roots | None = None
) -> Roots:
    """p(symbol of the root | evidence).

    Examples:
      >>> grammar, process = hd.grammar_from_rules([[[[0, 1]], [[1, 0]]]]), hd.Masking(vocab=2)
      >>> hd.class_posterior(grammar, process.log_likelihood(jnp.array([[2, 0], [2, 2]]), 250)).tolist()
      [[0.0, 1.0], [0.5, 0.5]]
    """
    return block_root_posterior(grammar, log_likelihood, height=grammar.depth, labels=labels, root=root)[:, 0]


def prior_marginals(grammar: Grammar) -> tuple[Float[Array, "_ _"], ...]:
    """p(symbol of each node) without evidence, level by level from the root: entry d is `(s**d, w)`, the last has v."""
    return tuple(level[0] for level in _descend(grammar, jnp.exp(grammar.log_root)[None], grammar.depth))


@_compiled("height")
def window_posterior(
    grammar: Grammar,
    log_likelihood: LogLikelihood,
    *,
    height: int,
    labels: Labels | None = None,
    root: Roots | None = None,
) -> Posterior:
    """w_h(i) = p(x_0,i | evidence on the height-h block that holds leaf i, and all labels).

    The recursion stops at height h, where what the rest of the tree says of the block's root node is added: its prior
    marginal, given the labels outside the block. `height=depth` is the exact posterior, `height=-1` what the labels
    alone say, the prior marginal if there are none.

    Examples:
      A window of height 0 reads one leaf.

      >>> grammar, process = hd.grammar_from_rules([[[[0, 1]], [[1, 0]]]]), hd.Masking(vocab=2)
      >>> hd.window_posterior(grammar, process.log_likelihood(jnp.array([[0, 2]]), 250), height=0).tolist()
      [[[1.0, 0.0], [0.5, 0.5]]]
    """
    if height == -1:
        if labels is None and root is None:
            return jnp.broadcast_to(prior_marginals(grammar)[-1], log_likelihood.shape)
        return leaf_posterior(grammar, jnp.zeros_like(log_likelihood), labels=labels, root=root)

    def block_log_evidence(ll, labels, root):
        joint, offset = _blocks(grammar, grammar.depth - height, ll, labels, root)
        return (_logsumexp(joint, 0) + offset).sum()

    return by_chunks(jax.grad(block_log_evidence), log_likelihood, labels, root)


@_compiled("height")
def block_root_posterior(
    grammar: Grammar,
    log_likelihood: LogLikelihood,
    *,
    height: int,
    labels: Labels | None = None,
    root: Roots | None = None,
) -> Float[Array, "n _ _"]:
    """p(root symbol of each height-h block | evidence on that block, and all labels), `(n, s**(depth - h), w)`.

    Of a leaf, v symbols.
    """
    require(height >= 0, "height", height, f"an integer from 0 to {grammar.depth}")

    def posterior(ll, labels, root):
        joint, _ = _blocks(grammar, grammar.depth - height, ll, labels, root)
        log_evidence = _logsumexp(joint, 0)
        return jnp.exp(joint - jnp.where(log_evidence == -jnp.inf, 0, log_evidence)[None])

    return by_chunks(posterior, log_likelihood, labels, root)


def memorizer(
    train: Int[Array, "P L"],
    log_likelihood: LogLikelihood,
    *,
    train_labels: Int[Array, "P nodes"] | None = None,
    labels: Labels | None = None,
) -> Posterior:
    """E[x_0 | x_t] under the uniform law on the sequences of `train`: softmax of their summed log-likelihoods.

    With `labels`, of inputs, sequences whose `train_labels` are others have no weight; -1 is unknown, and any will do.
    These may be any integers, of any number.

    Zeros where x_t can come from none of them. Two matrix products for each chunk of inputs, with at most
    `max(P, 2**24)` weights alive at a time; where the training set would fill more than 2**26 numbers if it were
    one-hot, it is looked up leaf by leaf, which is slower, and memory does not grow with P times v.

    Examples:
      >>> train, process = jnp.array([[0, 1, 1], [0, 1, 0]]), hd.Masking(vocab=2)
      >>> hd.memorizer(train, process.log_likelihood(jnp.array([[0, 2, 2]]), 250)).tolist()
      [[[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]]
    """
    n, leaves, vocab = log_likelihood.shape
    require(train.shape[1:] == (leaves,), "train", train.shape, f"the shape (P, {leaves})")
    require(len(train) >= 1, "train", train.shape, "at least one sequence")
    require_range("train", train, vocab - 1)
    if train_labels is not None or labels is not None:
        given = [() if x is None else x.shape for x in (train_labels, labels)]
        good = [x[:1] for x in given] == [(len(train),), (n,)] and given[0][1:] == given[1][1:]
        need = f"those of the training sequences and of the inputs, ({len(train)}, k) and ({n}, k)"
        require(good, "labels", given, need)
    return _memorizer(train, log_likelihood, train_labels, labels)


# In nats, for -inf, where it is to be multiplied; no sequence of data comes near it.
IMPOSSIBLE = -1e30
# Numbers of a training set that is made one-hot.
ONE_HOT = 2**26


@jax.jit
def _memorizer(train, log_likelihood, train_labels, labels):
    _, leaves, vocab = log_likelihood.shape
    of_train, mean = _one_hot(train, vocab) if train.size * vocab <= ONE_HOT else _looked_up(train, vocab)

    def posterior(ll, labels):
        # A product of zero and -inf is not a number.
        fit = of_train(jnp.maximum(ll - _finite_max(ll), IMPOSSIBLE))
        if labels is not None:
            agrees = (labels[None] < 0) | (labels[None] == train_labels[:, :, None].astype(labels.dtype))
            fit = jnp.where(agrees.all(1), fit, IMPOSSIBLE)
        return mean(jnp.where(fit.max(0) > 0.1 * IMPOSSIBLE, jax.nn.softmax(fit, axis=0), 0))

    alive = max(len(train) if labels is None else train_labels.size, leaves * vocab // 4)
    return by_chunks(posterior, log_likelihood, labels, size=max(1, 2**24 // alive))


def _one_hot(train: Array, vocab: int) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Of log-likelihoods `(v, L, n)` the sums on each training sequence, and of their weights `(P, n)` the mean one."""
    one_hot = jax.nn.one_hot(train, vocab, dtype=float)
    return (
        lambda ll: jnp.einsum("plv,vln->pn", one_hot.astype(ll.dtype), ll, precision="highest"),
        lambda weight: jnp.einsum("plv,pn->vln", one_hot.astype(weight.dtype), weight, precision="highest"),
    )


def _looked_up(train: Array, vocab: int) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """The same, leaf by leaf."""

    def sums(ll):
        def add(fit, leaf):
            of_leaf, symbols = leaf
            return fit + of_leaf[symbols], None

        return jax.lax.scan(add, jnp.zeros((len(train), ll.shape[-1]), ll.dtype), (ll.swapaxes(0, 1), train.T))[0]

    def mean(weight):
        empty = jnp.zeros((vocab, weight.shape[-1]), weight.dtype)
        return jax.lax.map(lambda symbols: empty.at[symbols].add(weight), train.T).swapaxes(0, 1)

    return sums, mean


def empirical_posterior(
    train: Int[Array, "P L"], x_t: Float[Array, "n L v"], alpha_bar: float | Float[Array, "*n"]
) -> Posterior:
    """The memorizer of Gaussian noise: `sum_mu softmax_mu(-|x_t - sqrt(ab) x^mu|^2 / 2(1 - ab)) x^mu`."""
    return memorizer(train, leaf_log_likelihood(x_t, alpha_bar))


@jax.jit
def memorizer_of_numbers(
    process: Gaussian, train: Float[Array, " P *shape"], x_t: Float[Array, " n *shape"], t: int | Int[Array, "*n"]
) -> Float[Array, " n *shape"]:
    """The memorizer of data that are no symbols: E[x_0 | x_t] under the uniform law on `train`; n P weights."""
    require(len(train) >= 1, "train", train.shape, "at least one sample")
    weight = jax.nn.softmax(process.log_density(x_t, train, t), axis=-1)
    return jnp.einsum("np,p...->n...", weight, train, precision="highest")


def exact_denoiser(grammar: Grammar, process: Process, *, filtered: int = 0) -> Denoiser:
    """The exact posterior, or its filtered version BP_k.

    Examples:
      >>> grammar, process = hd.grammar_from_rules([[[[0, 1]], [[1, 0]]]]), hd.Masking(vocab=2)
      >>> hd.exact_denoiser(grammar, process)(jnp.array([[2, 1]]), 250).tolist()
      [[[1.0, 0.0], [0.0, 1.0]]]
    """
    return lambda x_t, t: leaf_posterior(grammar, process.log_likelihood(x_t, t), filtered=filtered)


# Numbers of the log-likelihoods of sequences that are checked at a time.
CHECKED = 2**22


def check_data(grammar: Grammar, tokens: ArrayLike) -> None:
    """Raise `OptionError` unless the grammar can produce all of these sequences, integers `(n, L)`.

    It names the first sequence that it cannot produce, and the first of its lowest blocks that cannot stand at their
    place; and says so if the grammar with its levels in the other order can produce all of them.

    Examples:
      >>> hd.check_data(hd.grammar_from_rules([[[[0, 1]], [[1, 0]]]]), np.array([[0, 1], [1, 1]]))
      Traceback (most recent call last):
      hierdiff.errors.OptionError: tokens: got 'sequence 1 with [1, 1] at leaves 0 to 1, block 0 of height 1', needs ...
    """
    x = np.asarray(tokens)
    good = x.ndim == 2 and x.shape[1] == grammar.leaves
    require(good, "tokens", x.shape, f"the shape (n, {grammar.leaves}), as the grammar's sequences have")
    require_range("tokens", x, grammar.vocab - 1)
    first = _first_impossible(grammar, x)
    if first is None:
        return
    known, heights = _known(grammar, x[first : first + 1]), range(grammar.depth + 1)
    impossible = (block_root_posterior(grammar, known, height=height)[0].sum(-1) < 0.5 for height in heights)
    height, block = next((height, int(blocks.argmax())) for height, blocks in enumerate(impossible) if blocks.any())
    size = grammar.branching**height
    leaves = slice(block * size, (block + 1) * size)
    got = f"sequence {first} with {x[first, leaves].tolist()} at leaves {leaves.start} to {leaves.stop - 1}"
    need = "sequences that the grammar can produce"
    if _could_in_the_other_order(grammar, x):
        need += "; with its levels in the other order it can produce these: the top level comes first"
    raise OptionError("tokens", f"{got}, block {block} of height {height}", need)


def _known(grammar: Grammar, tokens: np.ndarray) -> LogLikelihood:
    return jnp.log(jax.nn.one_hot(tokens, grammar.vocab))


def _first_impossible(grammar: Grammar, tokens: np.ndarray) -> int | None:
    """The number of the first sequence that the grammar cannot produce."""
    size = max(1, CHECKED // (grammar.leaves * grammar.vocab))
    for start in range(0, len(tokens), size):
        impossible = np.isneginf(log_evidence(grammar, _known(grammar, tokens[start : start + size])))
        if impossible.any():
            return start + int(impossible.argmax())
    return None


def _could_in_the_other_order(grammar: Grammar, tokens: np.ndarray) -> bool:
    """Whether it could produce all of these, were the top level the lowest, whatever the root."""
    children, log_prob = grammar.children[::-1], grammar.log_prob[::-1]
    root = jax.nn.log_softmax(jnp.where((log_prob[0] > -jnp.inf).any(-1), 0.0, -jnp.inf))
    try:
        other = Grammar(children, log_prob, root, grammar.vocab)
    except OptionError:
        return False
    return _first_impossible(other, tokens) is None


def check(
    grammar: Grammar,
    log_likelihood: Array,
    *,
    filtered: int = 0,
    height: int = 0,
    labels: Array | None = None,
    root: Array | None = None,
) -> None:
    """Raise `OptionError` unless these fit the grammar."""
    depth, shape = grammar.depth, log_likelihood.shape
    wanted = (grammar.leaves, grammar.vocab)
    require(
        len(shape) == 3 and shape[1:] == wanted,
        "log_likelihood",
        shape,
        f"the shape (n, {wanted[0]}, {wanted[1]})",
    )
    need = "log-likelihoods, as process.log_likelihood(x_t, t) gives them, or the logarithm of one-hot sequences"
    kind = log_likelihood.dtype
    require(jnp.issubdtype(kind, jnp.floating), "log_likelihood", f"numbers of the type {kind}", need)
    if shape[0] and not isinstance(log_likelihood, Tracer):
        first = np.asarray(log_likelihood[0])
        one_hot = bool(((first == 0) | (first == 1)).all() and (first.sum(-1) == 1).all())
        require(not one_hot, "log_likelihood", "one-hot rows", need)
    require(0 <= filtered <= depth, "filtered", filtered, f"an integer from 0 to {depth}")
    require(-1 <= height <= depth, "height", height, f"an integer from -1 to {depth}")
    if labels is not None:
        shapes = [(shape[0], grammar.branching**d) for d in range(depth)]
        need = f"{shape[0]} rows, with as many labels as there are nodes in a level above the leaves: "
        require(labels.shape in shapes, "labels", labels.shape, need + ", ".join(str(k) for _, k in shapes))
        require_range("labels", labels, grammar.symbols[0] - 1, first=-1)
    if root is not None:
        wanted = (shape[0], grammar.symbols[0])
        require(root.shape == wanted, "root", root.shape, f"the shape {wanted}")
        if not isinstance(root, Tracer):
            law = np.asarray(root)
            bad = ~((law >= 0).all(-1) & (np.abs(law.sum(-1) - 1) <= ROUNDING))
            for i in np.flatnonzero(bad)[:1]:
                raise OptionError("root", f"{law[i].tolist()} of sequence {i}", "probabilities, that sum to 1")


def label_fields(grammar: Grammar, labels: Array | None) -> dict[int, Array]:
    """Labels `(nodes, n)` as what is added to the messages of their level: 0 for the symbol, -inf for all others."""
    if labels is None:
        return {}
    level = [grammar.branching**d for d in range(grammar.depth)].index(len(labels))
    symbols = jnp.arange(grammar.symbols[level], dtype=labels.dtype)
    fits = (labels[None] < 0) | (labels[None] == symbols[:, None, None])
    return {level: jnp.where(fits, jnp.zeros((), grammar.log_prob.dtype), -jnp.inf)}


def _log_evidence(
    grammar: Grammar,
    filtered: int,
    ll: Array,
    labels: Array | None = None,
    root: Array | None = None,
    added: Sequence[Array] = (),
) -> Array:
    """`(v, L, n) -> (n,)`; `added[d]` is added to the messages of level d."""
    fields = label_fields(grammar, labels)
    of_levels = {**fields, **{d: field + fields.get(d, 0) for d, field in enumerate(added)}}
    messages, offset = upward(grammar, ll, filtered, of_levels)
    of_root = _through_channels(grammar, messages[0], 0, filtered)
    for d, field in fields.items():
        if labels is not None and d < filtered:
            unknown, below = (
                x.reshape(*field.shape[:2], -1, ll.shape[-1]).sum(2)
                for x in (of_root, _through_channels(grammar, messages[0], d, filtered))
            )
            of_root = jnp.where(labels[None] >= 0, _through_channels(grammar, below + field, 0, d), unknown)
    return _logsumexp(_log_root(grammar, root) + of_root.sum(1), 0) + offset.sum(0)


def _log_root(grammar: Grammar, root: Array | None) -> Array:
    return grammar.log_root[:, None] if root is None else _log(root)


def _blocks(grammar: Grammar, level: int, ll: Array, labels: Array | None, root: Array | None) -> tuple[Array, Array]:
    """Of each node of `level`, log p(symbol, evidence on its block | labels outside), and what is taken off."""
    messages, offset = upward(grammar, ll, level, label_fields(grammar, labels))
    return _log_outside(grammar, level, labels, root) + messages[0], offset


def _log_outside(grammar: Grammar, level: int, labels: Array | None, root: Array | None) -> Array:
    """What the rest of the tree, without other evidence than labels, says of the nodes of `level`, `(w, s**level, _)`.

    Their posterior given all labels, less what those in their own blocks say; up to a constant of the node.
    """
    if labels is None and root is None:
        return _log(prior_marginals(grammar)[level]).T[:, :, None]
    if level == 0:
        return _log_root(grammar, root)[:, None]
    fields = label_fields(grammar, labels)
    start, (n, *_) = max(level, *fields, 0), (x.shape[-1] for x in (labels, root) if x is not None)
    nothing = jnp.zeros((grammar.symbols[start], grammar.branching**start, n), grammar.log_prob.dtype)
    inside = upward(grammar, nothing + fields.get(start, 0), level, fields, start)[0][0]

    def of_labels(field):
        messages, offset = upward(grammar, inside + field, 0, fields, level)
        return (_logsumexp(_log_root(grammar, root) + messages[0][:, 0], 0) + offset.sum(0)).sum()

    return _log(jax.grad(of_labels)(jnp.zeros_like(inside))) - jnp.where(inside == -jnp.inf, 0, inside)


def upward(
    grammar: Grammar, messages: Array, level: int, fields: Mapping[int, Array], start: int | None = None
) -> tuple[list[Array], Array]:
    """Messages `(w, s**d, n)` of the nodes of each level d from `level` to `start`, or the leaves, which are given.

    `fields[d]` is added to those of level d, between them. The largest message of a node is taken off and carried
    apart, for `level` as `(s**level, n)`: what float32 must resolve is then how much the evidence disagrees, not how
    much of it there is. It is not taken off at `level` itself.
    """
    levels, offset = [], jnp.zeros_like(messages[0])
    for d in reversed(range(level, grammar.depth if start is None else start)):
        top = _finite_max(messages)
        levels.append(messages - top)
        children = levels[-1].reshape(len(messages), -1, grammar.branching, messages.shape[-1])
        offset = (offset + top[0]).reshape(children.shape[1:]).sum(1)
        rules: Array = grammar.log_prob[d, :, :, None, None]
        for c in range(grammar.branching):
            rules = rules + _take(children[:, :, c], grammar.children[d, :, :, c])
        messages = _logsumexp(rules, 1)
        if d in fields:
            messages = messages + fields[d]
    return [messages, *reversed(levels)], offset


def _through_channels(grammar: Grammar, messages: Array, top: int, level: int) -> Array:
    """What each node of `level` says of its ancestor at level `top`, `(w, s**level, n)`.

    Through the product of the marginal transitions between them, if any.
    """
    if level == top:
        return messages
    channels = _descend(grammar, jnp.eye(grammar.symbols[top], dtype=grammar.log_prob.dtype), level, top)[-1]
    channels = jnp.tile(channels, (1, grammar.branching**top, 1))
    return _logsumexp(_log(channels).swapaxes(1, 2)[..., None] + messages[None], 1)


def _descend(grammar: Grammar, top: Float[Array, "a w"], level: int, start: int = 0) -> list[Array]:
    """p(symbol b of node j) at the levels `start`..`level`, each `(a, s**(d - start), b)`, of a tree from `start` on.

    The product of the marginal transitions on j's path, for each law `top[a]` of the top node.
    """
    tuples = jax.nn.one_hot(grammar.children, max(grammar.symbols), dtype=grammar.log_prob.dtype)
    transition = jnp.einsum("dar,darcb->dacb", jnp.exp(grammar.log_prob), tuples, precision="highest")
    levels = [top[:, None]]
    for d in range(start, level):
        symbols = grammar.symbols[d + 1]
        below = jnp.einsum("aje,ecb->ajcb", levels[-1], transition[d, :, :, :symbols], precision="highest")
        levels.append(below.reshape(len(top), -1, symbols))
    return levels


def _finite_max(x: Array, axis: int = 0) -> Array:
    """The largest entry along `axis`, which is kept, and 0 where all are -inf; a constant to the gradient."""
    top = jax.lax.stop_gradient(x).max(axis, keepdims=True)
    return jnp.where(top == -jnp.inf, 0, top)


def _logsumexp(x: Array, axis: int) -> Array:
    """Log sum exp, whose gradient is 0 (not 0/0) where all of x is -inf."""
    top = _finite_max(x, axis)
    return (_log(jnp.exp(x - top).sum(axis, keepdims=True)) + top).squeeze(axis)


def _log(p: Array) -> Array:
    """Log p, whose gradient is 0 (not 1/0) where p is 0."""
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), -jnp.inf)


@jax.custom_jvp
def _take(x: Array, indices: Array) -> Array:
    """`x[indices]`, whose derivative is a matrix product: what XLA derives, a scatter, is a serial loop."""
    return x[indices]


@_take.defjvp
def _take_forward(primals, tangents):
    (x, indices), (dx, _) = primals, tangents
    # As a product of two matrices; of more axes XLA makes a slower one.
    one_hot = jax.nn.one_hot(indices.ravel(), len(x), dtype=dx.dtype)
    product = jnp.matmul(one_hot, dx.reshape(len(x), -1), precision="highest")
    return x[indices], product.reshape(*indices.shape, *x.shape[1:])


def by_chunks(function: Callable, log_likelihood: Float[Array, "n L v"], *others: Array | None, size: int = 0):
    """Apply `function` to the log-likelihoods and other arrays, chunk by chunk.

    Within it the batch, which is the first axis outside, is the last: `function` maps `(v, L, n)`, ... to `(..., n)`.
    """
    n, leaves, symbols = log_likelihood.shape
    size = min(max(n, 1), size or chunk(leaves, symbols))
    # Of no sequences there is one chunk too, all padding.
    padding = -n % size if n else size

    def in_chunks(x):
        padded = jnp.pad(x, ((0, padding), *[(0, 0)] * (x.ndim - 1))).reshape(-1, size, *x.shape[1:])
        return padded.transpose(0, *reversed(range(1, padded.ndim)))

    chunks = jax.tree.map(in_chunks, (log_likelihood, *others))

    # Each chunk is loaded while the one before it is worked on: it then lies in the cache as a whole, where XLA would
    # otherwise fetch its entries one by one from among all others, several times.
    def step(given, following):
        return following, jax.tree.map(jnp.transpose, function(*given))

    first, following = (jax.tree.map(of, chunks) for of in (lambda x: x[0], lambda x: jnp.roll(x, -1, axis=0)))
    _, results = jax.lax.scan(step, first, following)
    return jax.tree.map(lambda x: x.reshape(n + padding, *x.shape[2:])[:n], results)
