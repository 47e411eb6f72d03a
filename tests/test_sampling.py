"""Sampled derivations follow the grammar, and depend on the key alone."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.stats import chi2

from hierdiff.grammar import grammar_from_tensor, random_grammar
from hierdiff.noising import Gaussian, Masking, Uniform
from hierdiff.posterior import log_evidence, prior_marginals
from hierdiff.sampling import complete, data_sets, posterior_sample, sample


@pytest.mark.parametrize("sizes", [{"depth": 2, "branching": 2}, {"depth": 1, "branching": 3}])
def test_frequencies_of_whole_derivations(sizes):
    """Chi-squared over all derivations, at a false-alarm rate of 1e-4 (and the key is fixed)."""
    grammar = random_grammar(jax.random.key(0), vocab=3, rules=2, shared=False, **sizes)
    levels, log_prob = oracles.derivations(grammar)
    n = 20_000
    drawn = sample(jax.random.key(1), grammar, n)
    codes = np.concatenate([np.asarray(level) for level in drawn.levels], 1)
    table = {tuple(row): i for i, row in enumerate(np.concatenate(levels, 1))}
    counts = np.bincount([table[tuple(row)] for row in codes], minlength=len(table))
    follow(counts, n * np.exp(log_prob))


def follow(counts, expected):
    """Chi-squared at a false-alarm rate of 1e-4; outcomes that are expected less than five times are left out."""
    common = expected > 5
    assert counts[expected == 0].sum() == 0
    statistic = ((counts - expected)[common] ** 2 / expected[common]).sum()
    assert statistic < chi2.ppf(1 - 1e-4, common.sum() - 1 + (~common).any())


def test_marginals_of_every_node_at_depth_four():
    grammar = random_grammar(jax.random.key(0), sigma=1.5, shared=False)
    n = 20_000
    drawn = sample(jax.random.key(1), grammar, n)
    for level, prior in zip(drawn.levels, prior_marginals(grammar), strict=True):
        frequency = np.asarray(jax.nn.one_hot(level, grammar.vocab)).mean(0)
        error = np.sqrt(np.asarray(prior) * (1 - np.asarray(prior)) / n)
        assert (np.abs(frequency - np.asarray(prior)) <= 5 * error + 1e-4).all()


def test_every_sample_is_grammatical_and_padding_is_never_drawn():
    table = np.zeros((2, 2, 2))
    table[0, 0, 1] = 1
    table[1] = [[0.5, 0], [0.2, 0.3]]
    grammar = grammar_from_tensor(table, 3)
    leaves = sample(jax.random.key(0), grammar, 3000).leaves
    assert np.isfinite(log_evidence(grammar, jnp.log(jax.nn.one_hot(leaves, 2)))).all()


def test_data_do_not_depend_on_the_split_into_batches():
    grammar = random_grammar(jax.random.key(0), depth=3)
    whole = sample(jax.random.key(1), grammar, 100)
    parts = [sample(jax.random.key(1), grammar, n, first=first) for first, n in ((0, 7), (7, 63), (70, 30))]
    for level, *of_parts in zip(whole.levels, *(part.levels for part in parts), strict=True):
        np.testing.assert_array_equal(level, np.concatenate(of_parts))


def test_data_sets_are_disjoint_parts_of_one_stream():
    grammar = random_grammar(jax.random.key(0))
    sets = data_sets(jax.random.key(1), grammar, sets=3, size=50, held_out=20)
    stream = sample(jax.random.key(1), grammar, 170).leaves
    np.testing.assert_array_equal(np.concatenate([sets.train.reshape(150, 16), sets.held_out]), stream)
    assert sets.coincidences == 0


def test_coincidences_between_sets_are_counted():
    """One rule a symbol: two strings in all, so every set holds the same."""
    grammar = random_grammar(jax.random.key(0), depth=2, vocab=2, rules=1)
    assert data_sets(jax.random.key(1), grammar, sets=2, size=30, held_out=30).coincidences == 2


@pytest.mark.parametrize(
    ("sizes", "height", "position"),
    [
        ({"depth": 2, "vocab": 3, "branching": 2, "shared": False}, 0, 2),
        ({"depth": 2, "vocab": 3, "branching": 2, "shared": True}, 1, 1),
        ({"depth": 1, "vocab": 3, "branching": 3, "shared": True}, 0, 1),
        ({"depth": 3, "vocab": 2, "branching": 2, "shared": False}, 1, 2),
    ],
)
def test_completions_have_the_law_of_the_rest_given_the_block(sizes, height, position):
    """Chi-squared of the completed leaves against enumeration, at a false-alarm rate of 1e-4.

    The noise is so weak that the completed leaves can be read off, and x_t on the block so small that the block stays
    ambiguous.
    """
    grammar = random_grammar(jax.random.key(4), rules=2, **sizes)
    process, n = Gaussian(vocab=grammar.vocab, levels=200), 20_000
    x_t = 1e-3 * jax.random.normal(jax.random.key(1), (1, grammar.leaves, grammar.vocab))
    positions = jnp.full(n, position, jnp.int32)
    many = jnp.broadcast_to(x_t, (n, *x_t.shape[1:]))
    done = complete(jax.random.key(2), grammar, process, many, 1, height=height, position=positions)
    kept = np.arange(grammar.leaves) // grammar.branching**height == position
    np.testing.assert_array_equal(done[:, kept], many[:, kept])

    levels, log_prior = oracles.derivations(grammar)
    evidence = np.asarray(process.log_likelihood(x_t, 1), np.float64)[0]
    seen = evidence[np.arange(grammar.leaves), levels[-1]][:, kept].sum(-1)
    probability = np.exp(log_prior + seen)
    rests, which = np.unique(levels[-1][:, ~kept], axis=0, return_inverse=True)
    expected = np.bincount(which.ravel(), probability / probability.sum()) * n
    drawn = np.asarray(done.argmax(-1))[:, ~kept]
    table = {tuple(row): i for i, row in enumerate(rests)}
    counts = np.bincount([table[tuple(row)] for row in drawn], minlength=len(rests))
    follow(counts, expected)


def test_completing_is_invisible():
    """Of noised data and their completions, a non-linear statistic that couples block and rest has the same mean."""
    grammar = random_grammar(jax.random.key(4), depth=3, vocab=4, rules=3, shared=False)
    process, t, n = Gaussian(vocab=4, levels=200), 44, 20_000
    x_t = process.corrupt(jax.random.key(1), sample(jax.random.key(2), grammar, n).leaves, t)
    direction = jax.random.normal(jax.random.key(3), (1, 8, 4))
    for height in range(4):
        position = jax.random.randint(jax.random.key(5), (n,), 0, 2 ** (3 - height))
        done = complete(jax.random.key(6), grammar, process, x_t, t, height=height, position=position)
        before, after = (np.tanh(np.asarray((x * direction).sum((1, 2)))) ** 2 for x in (x_t, done))
        gap = before - after
        assert abs(gap.mean()) <= 4.5 * gap.std() / np.sqrt(n) + 1e-12
        assert (gap.std() > 0.1) == (height < 3)


RAGGED = [({"depth": 2, "branching": 2}, 1), ({"depth": 2, "branching": 3}, 21)]


@pytest.mark.parametrize(("sizes", "seed"), RAGGED)
@pytest.mark.parametrize("level", [None, 0, 1])
def test_posterior_samples_have_the_law_of_derivations_given_the_evidence(sizes, seed, level):
    grammar, n = oracles.ragged_grammar(seed, **sizes), 20_000
    ll = np.random.default_rng(0).standard_normal((1, grammar.leaves, grammar.vocab))
    ll[0, 1, grammar.vocab - 1] = -np.inf
    levels, log_prior = oracles.derivations(grammar)
    log_weight = log_prior + ll[0, np.arange(grammar.leaves), levels[-1]].sum(-1)
    labels = None
    if level is not None:
        # Those of a derivation that is possible, the last one unknown if there are several.
        labels = levels[level][[log_weight.argmax()]]
        labels[:, 1:][:, -1:] = -1
        log_weight[((labels != -1) & (labels != levels[level])).any(1)] = -np.inf
        labels = jnp.asarray(np.broadcast_to(labels, (n, labels.shape[1])), jnp.int32)
    many = jnp.broadcast_to(jnp.asarray(ll, float), (n, *ll.shape[1:]))
    drawn = posterior_sample(jax.random.key(1), grammar, many, labels)
    # By different rules one derivation may be had twice.
    outcomes, which = np.unique(np.concatenate(levels, 1), axis=0, return_inverse=True)
    table = {tuple(row): i for i, row in enumerate(outcomes.tolist())}
    found = [table[tuple(row)] for row in np.concatenate(drawn.levels, axis=1).tolist()]
    probability = np.exp(log_weight) / np.exp(log_weight).sum()
    follow(np.bincount(found, minlength=len(table)), n * np.bincount(which.ravel(), probability))
    # Each is drawn by itself.
    some = posterior_sample(jax.random.key(1), grammar, many[:70], None if labels is None else labels[:70])
    for one, all_of in zip(some.levels, drawn.levels, strict=True):
        np.testing.assert_array_equal(one, all_of[:70])


def test_of_evidence_that_cannot_be_nothing_is_drawn():
    grammar = random_grammar(jax.random.key(0), depth=2, vocab=3, rules=1)
    levels = sample(jax.random.key(1), grammar, 40).levels
    labels = levels[1].at[20:].set((levels[1][20:] + 1) % 3)
    drawn = posterior_sample(jax.random.key(2), grammar, jnp.log(jax.nn.one_hot(levels[-1], 3)), labels)
    for ours, level in zip(drawn.levels, levels, strict=True):
        np.testing.assert_array_equal(ours[:20], level[:20])
        np.testing.assert_array_equal(ours[20:], -1)


@pytest.mark.parametrize(("sizes", "seed"), RAGGED)
@pytest.mark.parametrize("noise", [Gaussian, Masking, Uniform])
def test_completions_have_the_law_of_the_rest_given_the_block_and_the_labels(noise, sizes, seed):
    """The symbols of Gaussian noise, which is weak, are read off; states of the others are what they are."""
    grammar, n = oracles.ragged_grammar(seed, **sizes), 20_000
    v, leaves, s = grammar.vocab, grammar.leaves, grammar.branching
    process, t = (noise(vocab=v, levels=200), 1) if noise is Gaussian else (noise(vocab=v, levels=10), 3)
    levels, log_prior = oracles.derivations(grammar)
    labels = np.array(levels[1][[log_prior.argmax()]])
    labels[0, 0] = -1
    if noise is Gaussian:
        x_t, kernel = 1e-3 * jax.random.normal(jax.random.key(1), (1, leaves, v)), np.eye(v)
    else:
        x_t = jnp.asarray(levels[-1][[log_prior.argmax()]], jnp.int32)
        kernel = 0.7 * np.eye(v) + 0.3 / v
        if noise is Masking:
            x_t, kernel = x_t.at[0, 0].set(v), np.concatenate([0.7 * np.eye(v), np.full((v, 1), 0.3)], 1)
    many, known = (jnp.asarray(np.broadcast_to(x, (n, *x.shape[1:])), x.dtype) for x in (x_t, labels))
    position = jnp.zeros(n, jnp.int32)
    done = complete(jax.random.key(2), grammar, process, many, t, height=1, position=position, labels=known)
    np.testing.assert_array_equal(done[:, :s], many[:, :s])

    evidence = np.asarray(process.log_likelihood(x_t, t), np.float64)[0]
    log_weight = log_prior + evidence[np.arange(s), levels[-1][:, :s]].sum(-1)
    log_weight[((labels != -1) & (labels != levels[1])).any(1)] = -np.inf
    weight = np.exp(log_weight) / np.exp(log_weight).sum()
    states = np.asarray(done.argmax(-1) if noise is Gaussian else done)[:, s:]
    outcomes = {
        rest: (weight * np.prod([kernel[levels[-1][:, s + i], a] for i, a in enumerate(rest)], 0)).sum()
        for rest in np.ndindex(*(leaves - s) * (kernel.shape[1],))
    }
    found, times = np.unique(states, axis=0, return_counts=True)
    counts = dict.fromkeys(outcomes, 0) | dict(zip(map(tuple, found.tolist()), times.tolist(), strict=True))
    follow(np.array([*counts.values()]), n * np.array([*outcomes.values()]))
