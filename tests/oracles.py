"""Slow, plain, independent computations of what hierdiff computes fast. NumPy float64 throughout."""

import itertools

import jax.numpy as jnp
import numpy as np
import opt_einsum
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from hierdiff.grammar import Grammar, grammar_from_rules


def ragged_grammar(seed: int, *, depth: int, branching: int, most: int = 3) -> Grammar:
    """Up to `most` symbols at each level and three rules a symbol; every third rule or root has weight 0."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most + 1, depth + 1)
    children = [
        [rng.integers(0, below, (rng.integers(1, 4), branching)) for _ in range(size)]
        for size, below in itertools.pairwise(sizes)
    ]

    def weights(n):
        some = rng.random(n) < 2 / 3
        some[rng.integers(n)] = True
        return some * rng.lognormal(size=n)

    weight = [[weights(len(rows)) for rows in level] for level in children]
    return grammar_from_rules(children, weight, weights(sizes[0]), vocab=int(sizes[-1]))


def dense_tables(grammar: Grammar) -> list[np.ndarray]:
    """P(children | parent) of each level, `(w, w, ..., w)`, at the lowest `(w, v, ..., v)`."""
    tables = []
    for d, (children, log_prob) in enumerate(zip(*map(np.asarray, (grammar.children, grammar.log_prob)), strict=True)):
        table = np.zeros((grammar.symbols[d], *grammar.branching * grammar.symbols[d + 1 : d + 2]))
        for a, (tuples, logs) in enumerate(zip(children, log_prob, strict=True)):
            for children_of_a, log in zip(tuples, logs, strict=True):
                if log > -np.inf:
                    table[(a, *children_of_a)] += np.exp(np.float64(log))
        tables.append(table)
    return tables


def derivations(grammar: Grammar) -> tuple[list[np.ndarray], np.ndarray]:
    """Every derivation: the symbols of each level, `(count, s**d)`, and the log-probabilities, `(count,)`."""
    children = np.asarray(grammar.children)
    log_prob = np.asarray(grammar.log_prob, np.float64)
    roots = np.flatnonzero(np.asarray(grammar.log_root) > -np.inf)
    states = [([np.array([a])], np.float64(grammar.log_root[a])) for a in roots]
    for d in range(grammar.depth):
        grown = []
        for levels, log in states:
            for rules in itertools.product(range(log_prob.shape[2]), repeat=len(levels[-1])):
                symbols = np.concatenate([children[d, a, r] for a, r in zip(levels[-1], rules, strict=True)])
                step = sum(log_prob[d, a, r] for a, r in zip(levels[-1], rules, strict=True))
                if step > -np.inf:
                    grown.append(([*levels, symbols], log + step))
        states = grown
    levels = [np.stack([state[0][d] for state in states]) for d in range(grammar.depth + 1)]
    return levels, np.array([state[1] for state in states])


def enumerated(
    grammar: Grammar, log_likelihood: ArrayLike, labels: ArrayLike | None = None, root: ArrayLike | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Log-evidence `(n,)` and the marginals of every level, `(n, s**d, v)`, by summing over derivations."""
    ll = np.asarray(log_likelihood, np.float64)
    levels, log_prior = derivations(grammar)
    log_joint = log_prior + ll[:, np.arange(grammar.leaves), levels[-1]].sum(-1)
    if labels is not None:
        known = np.asarray(labels)[:, None]
        (level,) = [x for x in levels[:-1] if x.shape[1] == known.shape[2]]
        log_joint = np.where(((known == level) | (known == -1)).all(-1), log_joint, -np.inf)
    if root is not None:
        with np.errstate(divide="ignore"):
            log_joint = log_joint + np.log(np.asarray(root))[:, levels[0][:, 0]]
        log_joint = log_joint - np.asarray(grammar.log_root, np.float64)[levels[0][:, 0]]
    weights = _softmax(log_joint)
    one_hot = [np.eye(symbols)[level] for symbols, level in zip(grammar.symbols, levels, strict=True)]
    return np.asarray(logsumexp(log_joint, axis=1)), [np.einsum("nc,cia->nia", weights, level) for level in one_hot]


def contracted(grammar: Grammar, likelihood: ArrayLike) -> tuple[float, np.ndarray]:
    """Evidence and leaf marginals `(L, v)` of one sequence, as contractions of the factor graph by opt_einsum."""
    likelihood = np.asarray(likelihood, np.float64)
    tables = dense_tables(grammar)
    operands: list = [np.exp(np.asarray(grammar.log_root, np.float64)), [0]]
    parents, fresh = [0], 1
    for table in tables:
        next_parents = []
        for parent in parents:
            slots = list(range(fresh, fresh + grammar.branching))
            fresh += grammar.branching
            operands += [table, [parent, *slots]]
            next_parents += slots
        parents = next_parents
    for leaf, index in enumerate(parents):
        operands += [likelihood[leaf], [index]]
    evidence = float(opt_einsum.contract(*operands, []))
    marginals = np.stack([opt_einsum.contract(*operands, [index]) for index in parents]) / evidence
    return evidence, marginals


def filtered_by_channels(
    grammar: Grammar, log_likelihood: ArrayLike, k: int, labels: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Log-evidence `(n,)` and BP_k `(n, L, v)` by enumeration of the derivations of each of the s**k subtrees.

    They are independent given the root, or given the labelled node above them, which is itself a channel of the root.
    """
    ll = np.asarray(log_likelihood, np.float64)
    n, s, width = len(ll), grammar.branching, grammar.branching ** (grammar.depth - k)
    known = np.full((n, 1), -1) if labels is None else np.asarray(labels)
    level = int(np.rint(np.log(known.shape[1]) / np.log(s)))
    above, below = (known, None) if level < k else (np.full((n, 1), -1), known.reshape(n, s**k, -1))
    log_weight = np.broadcast_to(np.asarray(grammar.log_root, np.float64), (n, grammar.symbols[0]))
    with np.errstate(divide="ignore"):
        for j in range(above.shape[1]):
            of_node = np.log(_channel(grammar, 0, level, j)).T[np.maximum(above[:, j], 0)]
            log_weight = log_weight + np.where(above[:, [j]] >= 0, of_node, 0)
        parts = []
        for j in range(s**k):
            part = ll[:, j * width : (j + 1) * width]
            within = None if below is None else below[:, j]
            symbols = range(grammar.symbols[k])
            logs, leaves = zip(*[_subtree(grammar, k, a, part, within) for a in symbols], strict=True)
            channel = np.broadcast_to(_channel(grammar, 0, k, j), (n, grammar.symbols[0], grammar.symbols[k]))
            if level < k:
                node, within_node = divmod(j, s ** (k - level))
                of_label = _channel(grammar, level, k, within_node)[np.maximum(above[:, node], 0)]
                channel = np.where((above[:, node] >= 0)[:, None, None], of_label[:, None], channel)
            joint = np.log(channel) + np.stack(logs, -1)[:, None]
            log_weight = log_weight + logsumexp(joint, axis=-1)
            parts.append(np.einsum("nab,bnic->naic", _softmax(joint), np.stack(leaves)))
    evidence = np.asarray(logsumexp(log_weight, axis=-1))
    return evidence, np.einsum("na,naic->nic", _softmax(log_weight), np.concatenate(parts, 2))


def _channel(grammar: Grammar, top: int, level: int, node: int) -> np.ndarray:
    """P(symbol of the `node`-th descendant at `level` | symbol at level `top`), by marginal transitions."""
    channel, tables, s = np.eye(grammar.symbols[top]), dense_tables(grammar), grammar.branching
    for d in range(top, level):
        slot = node // s ** (level - d - 1) % s
        channel = channel @ tables[d].sum(tuple(1 + c for c in range(s) if c != slot))
    return channel


def _subtree(
    grammar: Grammar, level: int, symbol: int, ll: np.ndarray, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Log-evidence and leaf marginals of a subtree whose root, at `level`, has the given symbol."""
    if level == grammar.depth:
        return ll[:, 0, symbol], np.broadcast_to(np.eye(grammar.vocab)[symbol], (len(ll), 1, grammar.vocab))
    with np.errstate(divide="ignore"):
        log_root = np.log(np.eye(grammar.symbols[0])[symbol])
    if np.isneginf(grammar.log_prob[level, symbol]).all():
        return np.full(len(ll), -np.inf), np.zeros((len(ll), ll.shape[1], grammar.vocab))
    below = Grammar(grammar.children[level:], grammar.log_prob[level:], jnp.asarray(log_root), grammar.vocab)
    evidence, marginals = enumerated(below, ll, labels)
    return evidence, marginals[-1]


def _softmax(log_weight: np.ndarray) -> np.ndarray:
    """Over the last axis; zeros where all weights are."""
    top = log_weight.max(-1, keepdims=True)
    weight = np.exp(log_weight - np.where(top == -np.inf, 0, top))
    return weight / np.where(top == -np.inf, 1, weight.sum(-1, keepdims=True))
