"""Divergence, excess loss and sample split against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr

from hierdiff.grammar import random_grammar
from hierdiff.keys import keys_of
from hierdiff.measures.divergence import divergence, pairs, sample_split
from hierdiff.measures.probe import make_pieces
from hierdiff.noising import Gaussian, leaf_log_likelihood
from hierdiff.noising.process import any_times, cross_entropy
from hierdiff.posterior import leaf_posterior
from hierdiff.sampling import sample
from hierdiff.worlds.run_config import MeasureConfig

PROCESS = Gaussian(vocab=4, levels=100)


def distributions(seed, shape=(2, 5, 3, 4)):
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1])


def test_divergences_equal_scipys(float64):
    p, f, g = (distributions(seed) for seed in range(3))
    p[0, 0, 0] = [0, 0, 1, 0]
    log_f, log_g = jnp.log(f), jnp.log(g)
    np.testing.assert_allclose(divergence(jnp.asarray(p), log_f), rel_entr(p, f).sum((-1, -2)), atol=1e-12)
    symmetric = 0.5 * (rel_entr(f, g) + rel_entr(g, f)).sum((-1, -2))
    np.testing.assert_allclose(sample_split(log_f, log_g), symmetric, atol=1e-12)
    np.testing.assert_array_equal(sample_split(log_f, log_f), 0)


def test_networks_that_are_sure_of_the_same_symbol_do_not_part():
    """Log of zero minus log of zero; where they are sure of different ones, they part by more than any number."""
    sure, other, open_ = (jnp.log(jnp.array(p)) for p in ([[1.0, 0, 0]], [[0.0, 1, 0]], [[0.2, 0.3, 0.5]]))
    both = [jnp.concatenate([sure, x]) for x in (open_, jnp.log(jnp.array([[0.5, 0.3, 0.2]])))]
    assert sample_split(sure, sure) == 0
    np.testing.assert_allclose(sample_split(*both), sample_split(both[0][1:], both[1][1:]))
    assert sample_split(sure, other) == jnp.inf


def test_a_posterior_diverges_from_itself_by_nothing_where_it_is_sharp():
    sharp = jnp.array([[[[1.0, 0.0, 0.0]]]])
    assert divergence(sharp, jnp.log(sharp))[0, 0] == 0


def test_excess_loss_is_the_cross_entropy_above_its_bayes_value():
    """E[CE] = E[H(w)] + E[KL(w || f)], for f = the posterior of a wrong schedule, within four standard errors."""
    grammar = random_grammar(jax.random.key(0), depth=2, vocab=4, rules=2)
    leaves = sample(jax.random.key(1), grammar, 20_000).leaves
    t = jnp.full((1, 20_000), 20, jnp.int32)
    pieces = make_pieces(keys_of(jax.random.key(2), range(1)), grammar, PROCESS, leaves, t, filtered=(0,))
    wrong = leaf_posterior(grammar, leaf_log_likelihood(pieces.x_t[0], 0.5))
    log_f = jnp.log(0.9 * wrong + 0.1 / 4)
    exact = pieces.exact[0, 0]
    entropy = -divergence(exact, jnp.zeros_like(exact))
    gap = np.asarray(cross_entropy(leaves, log_f) - entropy - divergence(exact, log_f))
    assert np.asarray(divergence(exact, log_f)).mean() > 0.1
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap))


def test_the_probe_holds_each_level_and_the_exact_posteriors():
    grammar = random_grammar(jax.random.key(0), depth=2, vocab=4, rules=2)
    leaves = sample(jax.random.key(1), grammar, 50).leaves
    any_level = any_times(jax.random.key(3), 50, PROCESS.levels)
    t = jnp.stack([jnp.full(50, 5), jnp.full(50, 30), any_level])
    pieces = make_pieces(keys_of(jax.random.key(2), range(len(t))), grammar, PROCESS, leaves, t, filtered=(0, 1, 2))
    np.testing.assert_array_equal(pieces.t[:2], np.repeat([[5], [30]], 50, 1))
    np.testing.assert_array_equal((np.sort(pieces.t[2]) - 1) // 2, np.arange(50))
    for row in range(3):
        alpha_bar = PROCESS.alpha_bar[pieces.t[row] - 1][:, None, None]
        noise = (pieces.x_t[row] - jnp.sqrt(alpha_bar) * jax.nn.one_hot(leaves, 4)) / jnp.sqrt(1 - alpha_bar)
        assert noise.std() == pytest.approx(1, abs=0.1)
        ll = leaf_log_likelihood(pieces.x_t[row], PROCESS.alpha_bar[pieces.t[row] - 1])
        for k in range(3):
            np.testing.assert_allclose(pieces.exact[row, k], leaf_posterior(grammar, ll, filtered=k), atol=1e-6)


def test_every_pair_is_counted_once():
    assert list(zip(*pairs(4), strict=True)) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"noise": (0.0, 0.1), "onset_noise": 0.1}, "noise: got"),
        ({"onset_noise": 0.5}, "onset_noise: got 0.5, needs one of the noise levels"),
        ({"held_out": 1}, "held_out: got 1"),
    ],
)
def test_bad_configs_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        MeasureConfig(**change)
