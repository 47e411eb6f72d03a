"""Reverse diffusion: with the exact score it draws from the grammar, with the memorizer from the training set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierdiff.grammar import random_grammar
from hierdiff.measures.blocks import validity
from hierdiff.noising import Gaussian, respaced, reverse, u_turn
from hierdiff.noising.reversal import reverse_state
from hierdiff.posterior import exact_denoiser, memorizer, window_posterior
from hierdiff.sampling import sample

PROCESS = Gaussian(vocab=3, levels=200)
GRAMMAR = random_grammar(jax.random.key(3), depth=2, vocab=3, rules=2, sigma=1.0)


exact = exact_denoiser(GRAMMAR, PROCESS)


def start(n, grammar=GRAMMAR, key=0):
    return jax.random.normal(jax.random.key(key), (n, grammar.leaves, grammar.vocab))


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_memorizer_returns_training_sequences(deterministic):
    train = sample(jax.random.key(5), GRAMMAR, 6).leaves

    def of_train(x_t, t):
        return memorizer(train, PROCESS.log_likelihood(x_t, t))

    times = respaced(PROCESS.levels, 50)
    tokens = reverse(jax.random.key(1), of_train, PROCESS, start(200), times, deterministic=deterministic)
    known = (np.asarray(tokens)[:, None] == np.asarray(train)[None]).all(-1)
    assert known.any(1).all()
    assert known.any(0).sum() > 1


def test_noise_is_shared_and_does_not_depend_on_the_split_into_batches():
    times = respaced(PROCESS.levels, 20)
    whole = reverse(jax.random.key(1), exact, PROCESS, start(30), times)
    small = reverse(jax.random.key(1), exact, PROCESS, start(30), times, batch=7)
    np.testing.assert_array_equal(whole, small)
    part = reverse(jax.random.key(1), exact, PROCESS, start(30)[10:], times, first=10)
    np.testing.assert_array_equal(whole[10:], part)
    other = reverse(jax.random.key(2), exact, PROCESS, start(30), times)
    assert (np.asarray(whole) != np.asarray(other)).any()


def test_batches_are_of_equal_sizes():
    seen = []

    def denoiser(x_t, t):
        seen.append(x_t.shape[0])
        return exact(x_t, t)

    reverse(jax.random.key(1), denoiser, PROCESS, start(30), respaced(PROCESS.levels, 2), batch=25)
    assert set(seen) == {15}


def test_the_deterministic_variant_depends_on_its_start_alone():
    times = respaced(PROCESS.levels, 20)
    a, b = (reverse(jax.random.key(k), exact, PROCESS, start(30), times, deterministic=True) for k in (1, 2))
    np.testing.assert_array_equal(a, b)


def test_a_way_may_end_on_the_way():
    """And go on from there: without noise, as if it had not."""
    times, key = respaced(PROCESS.levels, 9), jax.random.key(1)
    half = reverse_state(key, exact, PROCESS, start(30), times[:4], end=int(times[4]), deterministic=True)
    whole = reverse_state(key, exact, PROCESS, start(30), times, deterministic=True)
    on = reverse_state(key, exact, PROCESS, half, times[4:], deterministic=True)
    np.testing.assert_allclose(on, whole, atol=1e-4)
    assert abs(half - whole).max() > 0.1


def test_one_step_draws_from_the_gaussian_posterior():
    """Of q(x_s | x_t, x_0) for a known x_0: mean and variance, by linear regression of x_t and noise (Bayes' rule)."""
    x_0 = jnp.zeros(3).at[1].set(1.0)
    t, s = 100, 40
    ab_t, ab_s = (float(PROCESS.alpha_bar[i - 1]) for i in (t, s))
    seen = []

    def denoiser(x_t, t):
        jax.debug.callback(lambda x: seen.append(np.array(x)), x_t, ordered=True)
        return jnp.broadcast_to(x_0, x_t.shape)

    n = 20_000
    tokens = jnp.ones((n, 1), jnp.int32)
    x_t = PROCESS.corrupt(jax.random.key(0), tokens, t)
    reverse(jax.random.key(1), denoiser, PROCESS, x_t, np.array([t, s], np.int32), batch=n)
    jax.effects_barrier()
    before, after = (x.reshape(n, 3) for x in seen)
    # If x_t has the law of noised data at t, then x_s has the law of noised data at s.
    np.testing.assert_allclose(after.mean(0), np.sqrt(ab_s) * np.asarray(x_0), atol=5 / np.sqrt(n))
    np.testing.assert_allclose(after.var(0), 1 - ab_s, rtol=0.05)
    noise = before - np.sqrt(ab_t) * np.asarray(x_0)
    covariance = (noise * (after - np.sqrt(ab_s) * np.asarray(x_0))).mean()
    assert covariance == pytest.approx(np.sqrt(ab_t / ab_s) * (1 - ab_s), rel=0.05)


def test_a_u_turn_depends_on_the_number_of_the_sequence():
    tokens = sample(jax.random.key(2), GRAMMAR, 40).leaves
    whole = u_turn(jax.random.key(3), exact, PROCESS, tokens, respaced(100, 10))
    part = u_turn(jax.random.key(3), exact, PROCESS, tokens[15:], respaced(100, 10), first=15)
    np.testing.assert_array_equal(whole[15:], part)


def test_a_short_u_turn_comes_back_and_a_long_one_forgets():
    tokens = sample(jax.random.key(2), GRAMMAR, 400).leaves
    shares = []
    for level in (5, 60, 200):
        back = u_turn(jax.random.key(3), exact, PROCESS, tokens, respaced(level, 30))
        shares.append(float((back == tokens).mean()))
    assert shares[0] > 0.999
    assert shares[0] > shares[1] > shares[2] + 0.05
    agree_by_chance = np.mean([(np.asarray(tokens)[i] == np.asarray(tokens)[i - 7]).mean() for i in range(400)])
    assert shares[2] == pytest.approx(agree_by_chance, abs=0.08)


def test_windows_and_filtered_posteriors_draw_grammatical_blocks():
    """A window of height 1 and BP_1 know the blocks of height 1, and nothing of what holds them together."""

    def window(x_t, t):
        return window_posterior(GRAMMAR, PROCESS.log_likelihood(x_t, t), height=1)

    for denoiser in (window, exact_denoiser(GRAMMAR, PROCESS, filtered=1)):
        tokens = reverse(jax.random.key(1), denoiser, PROCESS, start(300), respaced(200, 100))
        valid = np.asarray(validity(GRAMMAR, tokens)).mean(1)
        assert valid[1] == 1
        assert valid[2] < 1


def test_levels_are_decreasing_distinct_and_end_at_one():
    for begin, steps in ((500, 500), (500, 50), (7, 50), (1, 3)):
        times = respaced(begin, steps)
        assert (times[0], times[-1]) == (begin, 1)
        assert (np.diff(times) < 0).all()
        assert len(times) == min(begin, steps)
    with pytest.raises(ValueError, match="steps: got 0"):
        respaced(10, 0)
