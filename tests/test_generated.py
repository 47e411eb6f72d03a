"""Measures of what a network generates and knows, against plain computations and planted answers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.spatial.distance import cdist

from hierdiff.grammar import random_grammar
from hierdiff.measures import neighbours
from hierdiff.measures.blocks import copies, validity
from hierdiff.measures.losses import decomposition
from hierdiff.measures.membership import area_under_curve, true_positive_rate
from hierdiff.measures.neighbours import histogram_divergence, nearest_distances
from hierdiff.noising import corrupt, leaf_log_likelihood
from hierdiff.noising.process import cross_entropy
from hierdiff.posterior import empirical_posterior, leaf_posterior
from hierdiff.sampling import sample

GRAMMAR = random_grammar(jax.random.key(0), depth=3, vocab=4, rules=2)
LARGE = random_grammar(jax.random.key(0), depth=4)


@pytest.mark.parametrize("products", [2**23, 300], ids=["one chunk", "chunks"])
def test_nearest_distances_equal_scipys(products, monkeypatch):
    monkeypatch.setattr(neighbours, "PRODUCTS", products)
    a, b = (sample(jax.random.key(k), GRAMMAR, n).leaves for k, n in ((1, 101), (2, 57)))
    b = jnp.concatenate([b, a[:3]])
    expected = np.rint(cdist(a, b, "hamming").min(1) * GRAMMAR.leaves)
    compiled_anew: Any = nearest_distances
    found = jax.jit(lambda a, b: compiled_anew.__wrapped__(a, b, vocab=4))(a, b)
    np.testing.assert_array_equal(found, expected)
    assert expected.min() == 0 < expected.max()


def test_the_divergence_of_histograms():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.5, 0.25])
    assert histogram_divergence(p, p, n=100) == 0
    smooth = [(100 * x + 0.5) / 101.5 for x in (p, q)]
    assert histogram_divergence(p, q, n=100) == pytest.approx((smooth[0] * np.log(smooth[0] / smooth[1])).sum())
    assert np.isfinite(histogram_divergence(q, p, n=100))
    # With ever more samples it is the divergence of the laws.
    assert histogram_divergence(p, q, n=10**9) == pytest.approx(0.5 * np.log(2), rel=1e-6)


def test_copies_of_a_memorizer_and_of_the_grammar():
    """A memorizer copies at every height; sequences of the grammar as often from one set as from another."""
    train, other = (sample(jax.random.key(k), LARGE, 10).leaves for k in (1, 2))
    memorized = train[jax.random.randint(jax.random.key(3), (400,), 0, 10)]
    np.testing.assert_array_equal(copies(LARGE, memorized, train), 1)
    gap = copies(LARGE, memorized, train) - copies(LARGE, memorized, other)
    assert (np.asarray(gap).mean(1) > 0.05).all()
    # Over many pairs of sets, for the two sets are what makes a difference here.
    fresh, gaps = sample(jax.random.key(4), GRAMMAR, 400).leaves, []
    for k in range(20):
        a, b = (sample(jax.random.key(100 + 2 * k + i), GRAMMAR, 150).leaves for i in (0, 1))
        gaps.append(np.asarray(copies(GRAMMAR, fresh, a) - copies(GRAMMAR, fresh, b)).mean(1))
    mean, error = np.mean(gaps, 0), np.std(gaps, 0, ddof=1) / np.sqrt(20)
    assert (np.abs(mean) <= 4 * error + 1e-9).all()


def test_copies_and_validity_equal_plain_counts():
    rng = np.random.default_rng(0)
    train, tokens = rng.integers(0, 4, (40, 8)), rng.integers(0, 4, (60, 8))
    found = copies(GRAMMAR, jnp.asarray(tokens), jnp.asarray(train))
    grammar_levels, _ = oracles.derivations(random_grammar(jax.random.key(0), depth=2, vocab=4, rules=2))
    small = random_grammar(jax.random.key(0), depth=2, vocab=4, rules=2)
    valid = validity(small, jnp.asarray(tokens[:, :4]))
    for height in range(4):
        width = 2**height
        for i, row in enumerate(tokens):
            blocks = range(0, 8, width)
            same = [any((row[b : b + width] == other[b : b + width]).all() for other in train) for b in blocks]
            assert found[height, i] == pytest.approx(np.mean(same))
    for height in range(3):
        width = 2**height
        for i, row in enumerate(tokens[:, :4]):
            known = [
                any((row[b : b + width] == other[b : b + width]).all() for other in grammar_levels[-1])
                for b in range(0, 4, width)
            ]
            assert valid[height, i] == pytest.approx(np.mean(known))
    assert 0 < np.asarray(valid[2]).mean() < 1


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    members, others = rng.integers(0, 8, 60).astype(float) + 2, rng.integers(0, 8, 90).astype(float)
    pairs = (members[:, None] > others[None]) + 0.5 * (members[:, None] == others[None])
    by_group = area_under_curve(members, others, groups=10)
    assert by_group.mean() == pytest.approx(pairs.mean())
    assert area_under_curve(np.zeros(50), np.zeros(50), groups=10).mean() == 0.5


def test_the_spread_of_the_area_over_groups_is_its_error():
    rng = np.random.default_rng(1)
    areas, errors = [], []
    for _ in range(300):
        by_group = area_under_curve(rng.normal(1, 1, 500), rng.normal(0, 1, 500), groups=50)
        areas.append(by_group.mean())
        errors.append(by_group.std(ddof=1) / np.sqrt(50))
    assert np.mean(areas) == pytest.approx(0.7602, abs=0.003)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(areas), rel=0.15)


def test_the_rate_of_true_positives():
    others = np.arange(1000.0)[np.random.default_rng(0).permutation(1000)]
    members = np.concatenate([np.full(300, 995.5), np.full(700, 500.0)])
    weight = np.full((1, 50), 1 / 50)
    assert true_positive_rate(members, others, weight, false_positive_rate=0.01)[0] == pytest.approx(0.3)
    # The threshold lies at the 11th highest of the others, 989, so that ten of them pass.
    above = np.where(np.arange(1000) < 500, 989.5, 988.5)
    assert true_positive_rate(above, others, weight, false_positive_rate=0.01)[0] == pytest.approx(0.5)


def test_membership_is_told_of_a_memorizer_and_not_of_the_exact_denoiser():
    """The exact denoiser is given noise of its own, so that its calibrated score is not zero throughout."""
    leaves = sample(jax.random.key(1), LARGE, 400).leaves
    members = {"memory": 20, "exact": 200, "loss": 200}
    score = {name: np.zeros(400) for name in members}
    for key in jax.random.split(jax.random.key(2), 4):
        x_t = corrupt(key, leaves, 0.2, LARGE.vocab)
        exact = leaf_posterior(LARGE, leaf_log_likelihood(x_t, 0.2))
        memory = 0.999 * empirical_posterior(leaves[:20], x_t, 0.2) + 0.001 / LARGE.vocab
        near = jax.nn.log_softmax(jnp.log(exact) + 0.1 * jax.random.normal(key, exact.shape))
        bayes = np.asarray(cross_entropy(leaves, jnp.log(exact)))
        score["memory"] += bayes - np.asarray(cross_entropy(leaves, jnp.log(memory)))
        score["exact"] += bayes - np.asarray(cross_entropy(leaves, near))
        score["loss"] -= bayes
    area = {name: area_under_curve(x[: members[name]], x[members[name] :], groups=10) for name, x in score.items()}
    assert area["memory"].mean() > 0.97
    for name in ("exact", "loss"):
        assert score[name].std() > 0.01
        assert abs(area[name].mean() - 0.5) < 4 * area[name].std() / np.sqrt(10)


def test_the_loss_is_the_sum_of_its_parts_and_the_residual_of_new_sequences_vanishes():
    n = 40_000
    leaves = sample(jax.random.key(1), GRAMMAR, n).leaves
    x_t = corrupt(jax.random.key(2), leaves, 0.3, GRAMMAR.vocab)
    exact = leaf_posterior(GRAMMAR, leaf_log_likelihood(x_t, 0.3))
    log_f = jnp.log(0.7 * leaf_posterior(GRAMMAR, leaf_log_likelihood(x_t, 0.5)) + 0.3 / GRAMMAR.vocab)
    to_exact, residual = (np.asarray(x, np.float64) for x in decomposition(leaves, exact, log_f))
    np.testing.assert_allclose(to_exact + residual, cross_entropy(leaves, log_f), rtol=1e-4)
    assert residual.std() > 0.1
    assert abs(residual.mean()) < 4 * residual.std() / np.sqrt(n)
    few = slice(0, 20)
    memory = 0.999 * empirical_posterior(leaves[few], x_t[few], 0.3) + 0.001 / GRAMMAR.vocab
    _, known = decomposition(leaves[few], exact[few], jnp.log(memory))
    assert np.asarray(known).mean() < -1
