"""The level spectrum finds what was planted, where it was planted; and the memorization slope."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierdiff.grammar import random_grammar
from hierdiff.measures.slope import slope_products
from hierdiff.measures.spectrum import learned_products, level_spectrum, make_spectrum_probe
from hierdiff.noising import corrupt, leaf_log_likelihood, linear_schedule
from hierdiff.posterior import empirical_posterior, leaf_posterior, window_posterior
from hierdiff.sampling import sample

SCHEDULE = linear_schedule(100)
LEVEL, SEQUENCES, GROUPS = 20, 8000, 100
ALPHA_BAR = float(SCHEDULE.alpha_bar[LEVEL - 1])
GRAMMARS = [
    {"depth": 3, "vocab": 4, "rules": 2, "branching": 2, "shared": False},
    {"depth": 2, "vocab": 3, "rules": 3, "branching": 3, "shared": True},
]


@pytest.fixture(scope="module", params=GRAMMARS, ids=["binary", "ternary"])
def case(request):
    grammar = random_grammar(jax.random.key(7), **request.param)
    leaves = sample(jax.random.key(1), grammar, SEQUENCES).leaves
    t = jnp.full(SEQUENCES, LEVEL, jnp.int32)
    x_t = corrupt(jax.random.key(2), leaves, ALPHA_BAR, grammar.vocab)
    return grammar, make_spectrum_probe(jax.random.key(3), grammar, SCHEDULE, x_t, t)


def window(grammar, x_t, height):
    return window_posterior(grammar, leaf_log_likelihood(x_t, ALPHA_BAR), height=height)


def planted(grammar, amplitude, height):
    """The exact denoiser plus a multiple of what height h adds to it: an error at that height and no other."""

    def denoiser(x_t):
        extra = window(grammar, x_t, height)
        if height >= 0:
            extra = extra - window(grammar, x_t, height - 1)
        return window(grammar, x_t, grammar.depth) + amplitude * extra

    return denoiser


def measure(probe, *denoisers):
    """Mean and standard error of the spectrum, `(heights, S, S)`."""

    def posteriors(x_t, t):
        return jnp.stack([f(x_t) for f in denoisers])

    products = level_spectrum(posteriors(probe.x_t, probe.t), posteriors, probe, groups=GROUPS)
    products = np.asarray(products, np.float64)
    return products.mean(-1), products.std(-1, ddof=1) / np.sqrt(GROUPS)


def increments(probe):
    return np.asarray(learned_products(probe.windows[-1:], probe)[1], np.float64).mean(-1)


def test_an_exact_denoiser_has_no_error_at_any_height(case):
    grammar, probe = case
    mean, _ = measure(probe, lambda x: window(grammar, x, grammar.depth))
    np.testing.assert_allclose(mean, 0, atol=1e-9)


def test_a_planted_error_is_found_at_its_height_and_nowhere_else(case):
    grammar, probe = case
    for height in range(-1, grammar.depth + 1):
        mean, error = measure(probe, planted(grammar, 0.5, height))
        expected = np.zeros(grammar.depth + 2)
        expected[height + 1] = 0.25 * increments(probe)[height + 1]
        assert expected.max() > 1e-3
        assert (np.abs(mean[:, 0, 0] - expected) <= 4.5 * error[:, 0, 0] + 1e-6).all(), height
        assert mean[height + 1, 0, 0] > 8 * error[height + 1, 0, 0], height


def test_a_window_has_no_error_up_to_its_height_and_the_exact_increments_above(case):
    grammar, probe = case
    for height in range(-1, grammar.depth):
        mean, error = measure(probe, lambda x, h=height: window(grammar, x, h))
        expected = np.where(np.arange(-1, grammar.depth + 1) > height, increments(probe), 0)
        assert (np.abs(mean[:, 0, 0] - expected) <= 4.5 * error[:, 0, 0] + 1e-6).all(), height


def test_terms_sum_to_the_error_measured_directly(case):
    grammar, probe = case

    def flattened(x):
        return 0.7 * window(grammar, x, grammar.depth) + 0.3 / grammar.vocab

    mean, _ = measure(probe, flattened)
    direct = jnp.square(flattened(probe.x_t) - probe.windows[-1]).sum((-1, -2)).mean()
    np.testing.assert_allclose(mean.sum(), direct, rtol=1e-4)


def test_one_networks_error_is_data_dependent_and_a_shared_one_common(case):
    grammar, probe = case
    exact, wrong = planted(grammar, 0.0, 1), planted(grammar, 0.5, 1)
    mean, error = measure(probe, wrong, exact, wrong)
    size = 0.25 * increments(probe)[2]
    common, own = mean[:, 0, 1], 0.5 * (mean[:, 0, 0] + mean[:, 1, 1]) - mean[:, 0, 1]
    np.testing.assert_allclose(common, 0, atol=1e-9)
    assert abs(own[2] - size / 2) < 4.5 * error[2, 0, 0]
    shared_common, shared_own = mean[:, 0, 2], 0.5 * (mean[:, 0, 0] + mean[:, 2, 2]) - mean[:, 0, 2]
    np.testing.assert_allclose(shared_own, 0, atol=1e-9)
    assert abs(shared_common[2] - size) < 4.5 * error[2, 0, 0]


def test_the_split_into_parts_is_the_identity_of_the_definition(case):
    """Mean |d_h e|^2 = <d_h e_A, d_h e_B> + |d_h(f_A - f_B)|^2 / 2, the last measured by itself."""
    grammar, probe = case
    exact = planted(grammar, 0.0, 0)
    f, g = planted(grammar, 0.6, 0), lambda x: 0.8 * window(grammar, x, 1) + 0.2 / grammar.vocab
    mean, _ = measure(probe, f, g, lambda x: exact(x) + f(x) - g(x))
    np.testing.assert_allclose(
        0.5 * (mean[:, 0, 0] + mean[:, 1, 1]), mean[:, 0, 1] + 0.5 * mean[:, 2, 2], rtol=1e-3, atol=2e-6
    )


def test_the_learned_fraction_is_one_up_to_what_a_window_sees(case):
    grammar, probe = case
    for height in range(-1, grammar.depth + 1):
        f = window(grammar, probe.x_t, height)
        product, square = (np.asarray(each, np.float64) for each in learned_products(f[None], probe))
        fraction = product[:, 0].mean(-1) / square.mean(-1)
        error = product[:, 0].std(-1) / np.sqrt(SEQUENCES) / square.mean(-1)
        expected = np.arange(-1, grammar.depth + 1) <= height
        assert (np.abs(fraction - expected) < 4.5 * error + 0.06).all(), height


def test_groups_must_divide_the_sequences(case):
    with pytest.raises(ValueError, match="groups: got 7, needs a divisor of 8000"):
        level_spectrum(case[1].x_t[None], lambda x, t: x[None], case[1], groups=7)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_memorization_slope_of_a_mixture_is_its_share(share):
    grammar = random_grammar(jax.random.key(0), depth=3, vocab=4, rules=2)
    leaves = sample(jax.random.key(1), grammar, 400).leaves
    x_t = corrupt(jax.random.key(2), leaves[:200], 0.3, 4)
    exact = leaf_posterior(grammar, leaf_log_likelihood(x_t, 0.3))
    memories = [empirical_posterior(train, x_t, 0.3) for train in (leaves[200:300], leaves[300:])]
    f, g = ((1 - share) * exact + share * memory for memory in memories)
    product, square = slope_products(f - g, memories[0] - memories[1])
    np.testing.assert_allclose(product.mean() / square.mean(), share, atol=1e-5)
