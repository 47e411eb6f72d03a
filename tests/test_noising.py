"""The noise, its likelihood and the score."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierdiff.noising import Gaussian, corrupt, leaf_log_likelihood, linear_schedule, score


def test_the_schedule_is_the_papers():
    alpha_bar = np.asarray(linear_schedule(500).alpha_bar, np.float64)
    beta = np.concatenate([[1 - alpha_bar[0]], 1 - alpha_bar[1:] / alpha_bar[:-1]])
    np.testing.assert_allclose(beta[[0, -1]], [2e-4, 0.04], rtol=1e-3)
    np.testing.assert_allclose(np.diff(beta), (0.04 - 2e-4) / 499, atol=1e-6)
    with pytest.raises(ValueError, match="levels: got 20, needs an integer from 21 to 1,000,000"):
        linear_schedule(20)


def test_noised_tokens_have_the_stated_mean_and_variance():
    tokens = jnp.tile(jnp.arange(4)[None], (20_000, 1))
    alpha_bar = jnp.where(jnp.arange(20_000) % 2 == 0, 0.9, 0.2)
    x_t = np.asarray(corrupt(jax.random.key(0), tokens, alpha_bar, 4))
    for parity, ab in ((0, 0.9), (1, 0.2)):
        half = x_t[parity::2]
        np.testing.assert_allclose(half.mean(0), np.sqrt(ab) * np.eye(4), atol=5 * np.sqrt((1 - ab) / 10_000))
        np.testing.assert_allclose(half.var(0), 1 - ab, rtol=0.08)


def test_the_likelihood_is_gaussian_up_to_a_constant_of_the_leaf(float64):
    x_t = jax.random.normal(jax.random.key(0), (3, 2, 5))
    alpha_bar = jnp.array([0.999, 0.5, 0.01])
    ab = np.asarray(alpha_bar)[:, None, None, None]
    distance = ((np.asarray(x_t)[:, :, None] - np.sqrt(ab) * np.eye(5)) ** 2).sum(-1)
    difference = np.asarray(leaf_log_likelihood(x_t, alpha_bar)) + distance / (2 * (1 - ab[..., 0]))
    np.testing.assert_allclose(difference, np.broadcast_to(difference[..., :1], difference.shape), atol=1e-10)


def test_score_and_posterior_mean_are_inverse_and_differ_by_the_factor(float64):
    x_t, mean, other = jax.random.normal(jax.random.key(0), (3, 4, 2, 5))
    process = Gaussian(vocab=5)
    for t in (5, jnp.array([70, 180, 330, 450])):
        alpha_bar = process.alpha_bar[t - 1]
        found = score(x_t, mean, alpha_bar)
        np.testing.assert_allclose(process.x_0_of(x_t, t, found, "score"), mean, atol=1e-10)
        gap = found - score(x_t, other, alpha_bar)
        factor = np.reshape(np.sqrt(alpha_bar) / (1 - alpha_bar), (-1, 1, 1))
        np.testing.assert_allclose(gap, factor * (mean - other), atol=1e-10)
        np.testing.assert_allclose(gap, leaf_log_likelihood(mean - other, alpha_bar), atol=1e-10)
