"""Attacks on members: each against the area or the rate that it has in closed form, and who is asked of whom."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nct, norm, t

from hierdiff import Gaussian, Masking, random_grammar
from hierdiff.measures.attacks import (
    likelihood_ratio,
    losses_when_masked,
    own_against_other,
    small_noise,
    subset_votes,
    there_and_back,
)
from hierdiff.measures.membership import area_under_curve, highest_others, true_positive_rate
from hierdiff.questions.attackers import Targets, needed
from hierdiff.questions.configs import MembershipConfig
from hierdiff.sampling import sample, seen
from hierdiff.worlds.finished import Run

N, LOWER, HARDER = 40_000, 1.0, 2.0
EVEN = np.full((1, 50), 1 / 50)


def statistics(references, spread=1.0, seed=0):
    """Minus the loss of a network on N members and N others, of references and of the exact denoiser.

    Sequences differ in how hard they are, members lie higher, and each network has noise of its own.
    """
    rng = np.random.default_rng(seed)
    hard = HARDER * rng.standard_normal(2 * N)
    noise = spread * rng.standard_normal((references + 1, 2 * N))
    member = np.arange(2 * N) < N
    return hard + noise[0] + LOWER * member, hard + noise[1:], hard


def area(score):
    return area_under_curve(score[:N], score[N:], groups=50).mean()


def rate(score, false_positive_rate):
    highest = highest_others(score[:N], score[N:], N, groups=50)
    return true_positive_rate(highest, EVEN, false_positive_rate=false_positive_rate)[0]


def test_a_baseline_takes_off_how_hard_a_sequence_is():
    """The area is that of two normal laws; of few references their own noise is left, of the exact loss none."""
    own, references, exact = statistics(8)
    assert area(own) == pytest.approx(norm.cdf(LOWER / np.sqrt(2 * (1 + HARDER**2))), abs=0.006)
    assert area(own - exact) == pytest.approx(norm.cdf(LOWER / np.sqrt(2)), abs=0.006)
    for number in (1, 3, 8):
        left = 2 * (1 + 1 / number)
        found = area(own_against_other(own, references[:number]))
        assert found == pytest.approx(norm.cdf(LOWER / np.sqrt(left)), abs=0.006), number


@pytest.mark.parametrize("number", [2, 4, 32])
def test_a_variance_of_its_own_costs_where_references_are_few(number):
    """In standard deviations of R references the score follows Student's law, of members the noncentral one."""
    spread: Any = np.where(np.arange(2 * N) % 2, 0.5, 2.0)
    own, references, _ = statistics(number, spread)
    score, wider = likelihood_ratio(own, references), np.sqrt(1 + 1 / number)
    for share in (0.01, 0.1):
        threshold = t.isf(share, number - 1)
        expected = np.mean([nct.sf(threshold, number - 1, LOWER / each / wider) for each in (0.5, 2.0)])
        assert rate(score, share) == pytest.approx(expected, abs=0.01), share
    # With more than two it sees what one variance for all does not.
    assert (rate(score, 0.01) > 1.5 * rate(own_against_other(own, references), 0.01)) == (number > 2)


def test_references_that_are_equal_tell_by_the_sign():
    score = likelihood_ratio(np.array([1.0, 0.0, -1.0]), np.zeros((2, 3)))
    assert np.isfinite(score).all()
    np.testing.assert_array_equal(np.sign(score), [1, 0, -1])


def test_the_noise_that_is_seen_in_clean_data():
    """Of a denoiser that answers them all that is left is the scale; of another, what it lacks."""
    process, x_0 = Gaussian(vocab=3, levels=100), jax.nn.one_hot(jnp.array([[0, 2], [1, 1]]), 3)
    ab = float(process.alpha_bar[29])
    per_leaf = ((1 - np.sqrt(ab)) / np.sqrt(1 - ab)) ** 4
    np.testing.assert_allclose(small_noise(lambda *_: x_0, process, x_0, 30), 2 * [-2 * per_leaf], rtol=1e-5)
    half = 0.5 * x_0 + 0.5 * jnp.roll(x_0, 1, -1)
    known, other = ((1 - 0.5 * np.sqrt(ab)) ** 4, (0.5 * np.sqrt(ab)) ** 4)
    expected = 2 * [-2 * (known + other) / (1 - ab) ** 2]
    np.testing.assert_allclose(small_noise(lambda *_: half, process, x_0, 30), expected, rtol=1e-5)


def test_there_and_back_of_normal_data():
    """The exact denoiser is linear, each step a factor; of one that says the same everywhere nothing is lost."""
    process, variance, times = Gaussian(levels=200), 0.3, np.array([1, 10, 20, 30])
    ab = np.append(1.0, np.asarray(process.alpha_bar, float))
    x_0 = jax.random.normal(jax.random.key(0), (7, 5))

    def shrink(level):
        return np.sqrt(ab)[level] * variance / (ab[level] * variance + 1 - ab[level])

    def denoiser(x, level):
        return jnp.asarray(shrink(np.arange(201)), float)[level][:, None] * x

    def factor(a, b):
        noise = (1 - np.sqrt(ab[a]) * shrink(a)) / np.sqrt(1 - ab[a])
        return np.sqrt(ab[b]) * shrink(a) + np.sqrt(1 - ab[b]) * noise

    there = factor(1, 10) * factor(10, 20)
    lost = there * (factor(20, 30) * factor(30, 20) - 1)
    expected = -np.square(lost * np.asarray(x_0, float)).sum(1)
    np.testing.assert_allclose(there_and_back(denoiser, process, x_0, times), expected, rtol=0.01)
    np.testing.assert_allclose(there_and_back(lambda x, _: 0 * x + 0.2, process, x_0, times), 0, atol=1e-9)


def test_losses_are_those_of_leaves_as_they_are_masked():
    process, tokens = Masking(vocab=2, levels=8), jnp.array([[0, 1, 1, 0]])
    order = jnp.array([[2, 0, 3, 1]])
    states = []

    def log_posterior(x_t, level):
        states.append((x_t.tolist(), level.tolist()))
        # The loss is the number of masked leaves, and a tenth of the place.
        masked = (x_t == 2).sum(1)[:, None, None].astype(float) + jnp.arange(4.0)[None, :, None] / 10
        return -jnp.broadcast_to(masked, (1, 4, 2))

    losses = losses_when_masked(log_posterior, process, tokens, order, (1, 3))
    np.testing.assert_allclose(losses, [[1.2, 3.0, 3.3]])
    assert states == [([[0, 1, 2, 0]], [2]), ([[2, 1, 2, 2]], [6])]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=5, max_size=5))
def test_votes_are_the_share_of_pairs(gains):
    counts, weights = (1, 2, 5), np.array([6, 3, 2]) / 11
    shares = [float(gains[0] > 0), float(sum(gains[:2]) > 0)]
    shares.append(float(np.mean([a + b > 0 for a, b in itertools.combinations(gains, 2)])))
    found = subset_votes(np.zeros((1, 5)), np.array([gains], float), counts)
    np.testing.assert_allclose(found, [weights @ shares])


def test_votes_of_noise_alone_find_no_member():
    gain = np.random.default_rng(0).standard_normal((2, N, 4))
    score = subset_votes(np.zeros((2 * N, 4)), gain.reshape(2 * N, 4), (1, 2, 4))
    assert area(score) == pytest.approx(0.5, abs=0.006)


@pytest.mark.parametrize(("sets", "seeds", "behind"), [(4, 1, 8), (4, 1, 2), (3, 2, 1), (2, 1, 0)])
def test_members_and_others_have_the_same_references_that_never_saw_them(sets, seeds, behind):
    grammar = random_grammar(jax.random.key(0), depth=2, vocab=5, rules=4)
    train = sample(jax.random.key(1), grammar, 200).leaves.reshape(4, 50, -1)[:sets]
    set_of = np.repeat(np.arange(sets), seeds)
    run = Run(Path(), None, SimpleNamespace(train=train, set_of=set_of, grammar=grammar), [1])
    config = MembershipConfig(targets=50, others=70, references=behind)
    targets = Targets.draw(run, jax.random.key(2), config)
    assert targets.reference.shape == (sets * seeds, seeds * min(behind, sets - 1))
    assert (set_of[targets.reference] != set_of[:, None]).all()
    tokens = np.asarray(targets.tokens)
    # What each network was asked of, as a mark of network, row and number.
    mark = np.stack([i * 1e6 + row[:, None] * 1e3 + np.arange(50) for i, row in enumerate(targets.asked)])
    own, of = targets.own(mark), targets.of_references(mark)
    assert own.shape == (sets * seeds, 120)
    np.testing.assert_array_equal(own % 1e6, np.broadcast_to(own % 1e6, of.shape)[0] if len(of) else own % 1e6)
    np.testing.assert_array_equal(of % 1e6, np.broadcast_to(own % 1e6, of.shape))
    np.testing.assert_array_equal(of // 1e6, np.broadcast_to(targets.reference.T[..., None], of.shape))
    np.testing.assert_array_equal(own[:, :50] // 1e3 % 1e3, np.broadcast_to(set_of[:, None], (len(own), 50)))
    others = tokens[sets:].reshape(-1, grammar.leaves)[:70]
    assert not seen(others, train).any()
    for i, own_set in enumerate(set_of):
        elsewhere = seen(train[own_set], np.delete(np.asarray(train), own_set, 0))
        np.testing.assert_array_equal(targets.fair[i], ~elsewhere)
        assert elsewhere.any()


def test_what_an_attacker_has():
    of_each = {
        "one network": ("uncalibrated", "SimA", "SimA-0.3", "SecMI"),
        "reference networks": ("reference-1", "LiRA-8", "SimA-0.3-reference-3", "SAMA"),
        "the exact denoiser": ("calibrated", "conditional", "SimA-exact", "SAMA-exact"),
    }
    for has, attacks in of_each.items():
        assert {needed(attack) for attack in attacks} == {has}
