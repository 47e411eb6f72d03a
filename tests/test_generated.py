"""Measures of what a network generates and knows, against plain computations and planted answers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import xarray as xr
from scipy.spatial.distance import cdist
from scipy.stats import norm

from hierdiff.grammar import random_grammar
from hierdiff.measures import neighbours
from hierdiff.measures.blocks import copies, validity
from hierdiff.measures.losses import decomposition
from hierdiff.measures.membership import area_under_curve, highest_others, true_positive_rate
from hierdiff.measures.neighbours import histogram_divergence, nearest_distances
from hierdiff.noising import corrupt, leaf_log_likelihood
from hierdiff.noising.process import cross_entropy
from hierdiff.posterior import empirical_posterior, leaf_posterior
from hierdiff.sampling import sample
from hierdiff.statistics.replicates import replicate

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
    members, others = rng.integers(0, 8, 61).astype(float) + 2, rng.integers(0, 8, 93).astype(float)
    pairs = (members[:, None] > others[None]) + 0.5 * (members[:, None] == others[None])
    by_group = area_under_curve(members, others, groups=10)
    assert by_group.mean() == pytest.approx(pairs.mean())
    assert area_under_curve(np.zeros(50), np.zeros(53), groups=10).mean() == 0.5


def test_the_spread_of_the_area_over_groups_is_the_error_that_the_others_make():
    rng = np.random.default_rng(1)
    members, areas, errors = rng.normal(1, 1, 100), [], []
    for _ in range(300):
        by_group = area_under_curve(members, rng.normal(0, 1, 490), groups=50)
        areas.append(by_group.mean())
        errors.append(by_group.std(ddof=1) / np.sqrt(50))
    assert np.mean(areas) == pytest.approx(norm.cdf(members).mean(), abs=0.003)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(areas), rel=0.15)


def test_intervals_of_the_area_count_the_sampling_of_members_once():
    """Four sets, each of a strength of its own: 95% intervals hold the truth in 93.5 to 96.5% of 2,000 experiments.

    That is three standard errors of such a share.
    """
    rng, experiments, sets, spread = np.random.default_rng(2), 2000, 4, 0.05
    strength = rng.normal(0.5, spread, (experiments, sets, 1))
    members, others = strength + rng.standard_normal((experiments, sets, 100)), rng.standard_normal((experiments, 200))
    areas = [[area_under_curve(x, other, groups=50) for x in own] for own, other in zip(members, others, strict=True)]
    dims = ("experiment", "network", "group")
    found = replicate({"area": xr.DataArray(areas, dims=dims)}, {"network": np.arange(sets)[:, None]}).curves()
    error = found.area - norm.cdf(0.5 / np.sqrt(2 + spread**2))
    assert np.sqrt((found.area_error**2).mean()) == pytest.approx(float(error.std()), rel=0.05)
    assert (abs(error) <= found.area_half).mean() == pytest.approx(0.95, abs=0.015)


def rate_of(members, others, weight, *, false_positive_rate, most=None):
    highest = highest_others(members, others, most or len(others), groups=weight.shape[1])
    return true_positive_rate(highest, weight, false_positive_rate=false_positive_rate)


def test_the_rate_of_true_positives():
    others = np.arange(999.0)[np.random.default_rng(0).permutation(999)]
    members = np.concatenate([np.full(300, 995.5), np.full(700, 500.0)])
    weight = np.full((1, 50), 1 / 50)
    assert rate_of(members, others, weight, false_positive_rate=0.01)[0] == pytest.approx(0.3)
    # The threshold is the 10th highest of the others, 989: of all, ten in a thousand lie above, on average.
    above = np.where(np.arange(1000) < 500, 989.5, 988.5)
    assert rate_of(above, others, weight, false_positive_rate=0.01)[0] == pytest.approx(0.5)
    # At 1.05% half of the way to the 11th.
    assert rate_of(above, others, weight, false_positive_rate=0.0105)[0] == pytest.approx(0.75)


@pytest.mark.parametrize("n", [99, 150, 1000])
def test_the_rate_of_true_positives_is_that_at_the_false_positives_named(n):
    rng, weight = np.random.default_rng(n), np.full((1, 50), 1 / 50)
    rates = [
        rate_of(rng.normal(0.2, 1, 400), rng.normal(0, 1, n), weight, false_positive_rate=0.01) for _ in range(8000)
    ]
    assert np.mean(rates) == pytest.approx(norm.sf(norm.isf(0.01) - 0.2), abs=0.001)


def test_groups_of_others_that_weigh_twice_count_twice_and_members_once():
    rng = np.random.default_rng(3)
    members, others, times = rng.normal(1, 1, 300), rng.normal(0, 1, 500), np.array([2, 0, 1, 1, 3, 1, 0, 0, 1, 1])
    drawn, even = np.repeat(others.reshape(10, 50), times, axis=0).ravel(), np.full((1, 10), 1 / 10)
    found = rate_of(members, others, times[None] / 10, false_positive_rate=0.03)
    np.testing.assert_allclose(found, rate_of(members, drawn, even, false_positive_rate=0.03))
    assert not np.allclose(found, rate_of(members, others, even, false_positive_rate=0.03))
    # Three times as many as pass are enough.
    np.testing.assert_array_equal(found, rate_of(members, others, times[None] / 10, false_positive_rate=0.03, most=45))


def test_too_few_others_tell_no_rate():
    rng, weight = np.random.default_rng(4), np.full((2, 50), 1 / 50)
    assert np.isnan(rate_of(np.ones(9), rng.normal(size=98), weight, false_positive_rate=0.01)).all()
    assert (rate_of(np.full(9, 9.0), rng.normal(size=99), weight, false_positive_rate=0.01) == 1).all()


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
