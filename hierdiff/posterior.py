"""Exact posteriors of the leaves and inner nodes of a grammar, given log-likelihoods at the leaves.

One upward recursion in the log domain gives the log-evidence, and **every marginal is its gradient** with
respect to a field added at the node. Inputs are leaf log-likelihoods `(n, L, v)` in nats, finite or -inf,
each leaf up to a constant of its own in all but `log_evidence`. Evidence of probability zero has
log-evidence -inf, and its posterior, which does not exist, is returned as zeros (they sum to 0, not 1).

Accuracy: forbidden rules and symbols are exact zeros, there is no floor. The result is the exact posterior of
log-likelihoods moved by a few units in their last place: in float32 to within 2e-5 for data of the grammar,
and to within 1e-6 times the largest difference of log-likelihoods within a leaf for any other input, of up to
1e37 nats (beyond which sums over the leaves overflow).

Derivatives: all of these can be differentiated, forward (`jax.jvp`) and in reverse, with respect to the
log-likelihoods and to the `log_prob` and `log_root` of the grammar, which are then free numbers. The derivatives are
finite: zero for a rule, a symbol or evidence of probability zero.

Memory: a batch is worked through in chunks, so that above the input, the output and copies of both at most
`16 * chunks.chunk(L) * L * v * max(m, v)` bytes are alive.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from hierdiff.chunks import chunk
from hierdiff.errors import OptionError, require
from hierdiff.grammar import Grammar
from hierdiff.noising import Denoiser, Gaussian, Process, leaf_log_likelihood
from hierdiff.noising.process import require_range

# Inside this file the batch is the last axis, so that gathers over symbols and rules move whole rows:
# messages are (w, nodes, n), at the leaves (v, nodes, n), and those of one level's rules (w, m, nodes, n).
LogLikelihood = Float[Array, "n L v"]
Posterior = Float[Array, "n L v"]


@functools.partial(jax.jit, static_argnames="filtered")
def log_evidence(grammar: Grammar, log_likelihood: LogLikelihood, *, filtered: int = 0) -> Float[Array, " n"]:
    """Log p(evidence) in nats; `filtered` as in `leaf_posterior`."""
    _check(grammar, log_likelihood, filtered=filtered)
    return _by_chunks(lambda ll: _log_evidence(grammar, ll, filtered), log_likelihood)


@functools.partial(jax.jit, static_argnames="filtered")
def leaf_posterior(grammar: Grammar, log_likelihood: LogLikelihood, *, filtered: int = 0) -> Posterior:
    """p(x_0,i | evidence), by belief propagation (`filtered=0`, exact) or its filtered version BP_k.

    For BP_k (`filtered=k`, arXiv 2603.03469) the top k levels are replaced by `s**k` channels that are
    independent given the root, channel j being the product of the marginal transitions along its path.
    """
    _check(grammar, log_likelihood, filtered=filtered)
    return _by_chunks(jax.grad(lambda ll: _log_evidence(grammar, ll, filtered).sum()), log_likelihood)


@jax.jit
def node_posteriors(grammar: Grammar, log_likelihood: LogLikelihood) -> tuple[Float[Array, "n _ _"], ...]:
    """p(symbol of each node | evidence), level by level from the root: entry d is `(n, s**d, w)`, the last has v."""
    _check(grammar, log_likelihood)

    def posteriors(ll):
        shapes = [(grammar.symbols[d], grammar.branching**d, ll.shape[-1]) for d in range(grammar.depth)]
        fields = [jnp.zeros(shape, ll.dtype) for shape in shapes]
        return jax.grad(lambda fields: _log_evidence(grammar, fields[-1], 0, fields[:-1]).sum())([*fields, ll])

    return tuple(_by_chunks(posteriors, log_likelihood))


def prior_marginals(grammar: Grammar) -> tuple[Float[Array, "_ _"], ...]:
    """p(symbol of each node) without evidence, level by level from the root: entry d is `(s**d, w)`, the last has v."""
    return tuple(level[0] for level in _descend(grammar, jnp.exp(grammar.log_root)[None], grammar.depth))


@functools.partial(jax.jit, static_argnames="height")
def window_posterior(grammar: Grammar, log_likelihood: LogLikelihood, *, height: int) -> Posterior:
    """w_h(i) = p(x_0,i | evidence on the height-h block that holds leaf i).

    The recursion stops at height h, where the prior marginal of the block's root node is added.
    `height=depth` is the exact posterior, `height=-1` the prior marginal.
    """
    _check(grammar, log_likelihood, height=height)
    if height == -1:
        return jnp.broadcast_to(prior_marginals(grammar)[-1], log_likelihood.shape)
    prior = _log_prior(grammar, height)

    def block_log_evidence(ll):
        messages, offset = _upward(grammar, ll, grammar.depth - height)
        return (_logsumexp(prior + messages, 0) + offset).sum()

    return _by_chunks(jax.grad(block_log_evidence), log_likelihood)


@functools.partial(jax.jit, static_argnames="height")
def block_root_posterior(grammar: Grammar, log_likelihood: LogLikelihood, *, height: int) -> Float[Array, "n _ _"]:
    """p(root symbol of each height-h block | evidence on that block), `(n, s**(depth - h), w)`, of a leaf v."""
    _check(grammar, log_likelihood)
    require(0 <= height <= grammar.depth, "height", height, f"an integer from 0 to {grammar.depth}")
    prior = _log_prior(grammar, height)

    def posterior(ll):
        joint = prior + _upward(grammar, ll, grammar.depth - height)[0]
        log_evidence = _logsumexp(joint, 0)
        return jnp.exp(joint - jnp.where(log_evidence == -jnp.inf, 0, log_evidence)[None])

    return _by_chunks(posterior, log_likelihood)


def memorizer(train: Int[Array, "P L"], log_likelihood: LogLikelihood) -> Posterior:
    """E[x_0 | x_t] under the uniform law on the sequences of `train`: softmax of their summed log-likelihoods.

    Zeros where x_t can come from none of them. Two matrix products for each chunk of inputs, with at most
    `max(P, 2**24)` weights alive at a time.
    """
    _, leaves, vocab = log_likelihood.shape
    require(train.shape[1:] == (leaves,), "train", train.shape, f"the shape (P, {leaves})")
    require(len(train) >= 1, "train", train.shape, "at least one sequence")
    require_range("train", train, vocab - 1)
    return _memorizer(train, log_likelihood)


@jax.jit
def _memorizer(train, log_likelihood):
    one_hot = jax.nn.one_hot(train, log_likelihood.shape[-1], dtype=log_likelihood.dtype)

    def posterior(ll):
        # A product of zero and -inf is not a number.
        possible = jnp.maximum(ll - _finite_max(ll), IMPOSSIBLE)
        fit = jnp.einsum("plv,vln->pn", one_hot, possible, precision="highest")
        weight = jnp.where(fit.max(0) > 0.1 * IMPOSSIBLE, jax.nn.softmax(fit, axis=0), 0)
        return jnp.einsum("plv,pn->vln", one_hot, weight, precision="highest")

    return _by_chunks(posterior, log_likelihood, size=max(1, 2**24 // len(train)))


# In nats, for -inf, where it is to be multiplied; no sequence of data comes near it.
IMPOSSIBLE = -1e30


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
    """The exact posterior, or its filtered version BP_k."""
    return lambda x_t, t: leaf_posterior(grammar, process.log_likelihood(x_t, t), filtered=filtered)


# Numbers of the log-likelihoods of sequences that are checked at a time.
CHECKED = 2**22


def check_data(grammar: Grammar, tokens: ArrayLike) -> None:
    """Raise `OptionError` unless the grammar can produce all of these sequences, integers `(n, L)`.

    It names the first sequence that it cannot produce, and the first of its lowest blocks that cannot stand at their
    place; and says so if the grammar with its levels in the other order can produce all of them.
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


def _check(grammar: Grammar, log_likelihood: Array, *, filtered: int = 0, height: int = 0) -> None:
    shape = log_likelihood.shape
    wanted = (grammar.leaves, grammar.vocab)
    require(
        len(shape) == 3 and shape[1:] == wanted,
        "log_likelihood",
        shape,
        f"the shape (n, {wanted[0]}, {wanted[1]})",
    )
    require(0 <= filtered <= grammar.depth, "filtered", filtered, f"an integer from 0 to {grammar.depth}")
    require(-1 <= height <= grammar.depth, "height", height, f"an integer from -1 to {grammar.depth}")


def _log_evidence(grammar: Grammar, ll: Array, filtered: int, fields: Sequence[Array] = ()) -> Array:
    """`(v, L, n) -> (n,)`; `fields[d]` is added to the messages of level d."""
    messages, offset = _upward(grammar, ll, filtered, fields)
    channels = _descend(grammar, jnp.eye(grammar.symbols[0], dtype=grammar.log_prob.dtype), filtered)[-1]
    root = _logsumexp(_log(channels).swapaxes(1, 2)[..., None] + messages[None], 1).sum(1)
    return _logsumexp(grammar.log_root[:, None] + root, 0) + offset.sum(0)


def _log_prior(grammar: Grammar, height: int) -> Array:
    return _log(prior_marginals(grammar)[grammar.depth - height]).T[:, :, None]


def _upward(grammar: Grammar, ll: Array, level: int, fields: Sequence[Array] = ()) -> tuple[Array, Array]:
    """Messages `(w, s**level, n)` of the nodes of `level`, and what has been taken off them `(s**level, n)`.

    The largest message of a node is taken off and carried apart: what float32 must resolve is then how much
    the evidence disagrees, not how much of it there is.
    """
    messages, offset = ll, jnp.zeros_like(ll[0])
    for d in reversed(range(level, grammar.depth)):
        top = _finite_max(messages)
        children = (messages - top).reshape(len(messages), -1, grammar.branching, ll.shape[-1])
        offset = (offset + top[0]).reshape(children.shape[1:]).sum(1)
        rules: Array = grammar.log_prob[d, :, :, None, None]
        for c in range(grammar.branching):
            rules = rules + _take(children[:, :, c], grammar.children[d, :, :, c])
        messages = _logsumexp(rules, 1)
        if fields:
            messages = messages + fields[d]
    return messages, offset


def _descend(grammar: Grammar, top: Float[Array, "a w"], level: int) -> list[Array]:
    """p(symbol b of node j) at the levels 0..`level`, each `(a, s**d, b)`, for each law `top[a]` of the root.

    The product of the marginal transitions on j's path.
    """
    tuples = jax.nn.one_hot(grammar.children, max(grammar.symbols), dtype=grammar.log_prob.dtype)
    transition = jnp.einsum("dar,darcb->dacb", jnp.exp(grammar.log_prob), tuples, precision="highest")
    levels = [top[:, None]]
    for d in range(level):
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


def _by_chunks(function: Callable, log_likelihood: Float[Array, "n L v"], size: int = 0):
    """Apply `function`, which maps `(v, L, n)` to `(..., n)`, chunk by chunk; the batch comes back first."""
    n, leaves, _ = log_likelihood.shape
    size = min(max(n, 1), size or chunk(leaves))
    # Of no sequences there is one chunk too, all padding.
    padding = -n % size if n else size
    padded = jnp.pad(log_likelihood, ((0, padding), (0, 0), (0, 0)))
    chunks = padded.reshape(-1, size, *padded.shape[1:]).transpose(0, 3, 2, 1)

    # Each chunk is loaded while the one before it is worked on: it then lies in the cache as a whole, where XLA would
    # otherwise fetch its entries one by one from among all others, several times.
    def step(ll, following):
        return following, jax.tree.map(jnp.transpose, function(ll))

    _, results = jax.lax.scan(step, chunks[0], jnp.roll(chunks, -1, axis=0))
    return jax.tree.map(lambda x: x.reshape(n + padding, *x.shape[2:])[:n], results)
