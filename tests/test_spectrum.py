"""The level spectrum finds what was planted, where it was planted; and the memorization slope."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierdiff.grammar import random_grammar
from hierdiff.keys import keys_of
from hierdiff.measures import spectrum
from hierdiff.measures.probe import at, make_pieces, make_reference
from hierdiff.measures.slope import slope_products
from hierdiff.noising import Gaussian, corrupt, leaf_log_likelihood
from hierdiff.posterior import empirical_posterior, leaf_posterior, window_posterior
from hierdiff.sampling import sample
from hierdiff.statistics.groups import in_groups

LEVELS, LEVEL, SEQUENCES, GROUPS = 100, 20, 8000, 100
GRAMMARS = [
    {"depth": 3, "vocab": 4, "rules": 2, "branching": 2, "shared": False},
    {"depth": 2, "vocab": 3, "rules": 3, "branching": 3, "shared": True},
]


def process(grammar):
    return Gaussian(vocab=grammar.vocab, levels=LEVELS)


@pytest.fixture(scope="module", params=GRAMMARS, ids=["binary", "ternary"])
def case(request):
    grammar = random_grammar(jax.random.key(7), **request.param)
    leaves = sample(jax.random.key(1), grammar, SEQUENCES).leaves
    t = jnp.full((1, SEQUENCES), LEVEL, jnp.int32)
    keys = keys_of(jax.random.key(2), range(1))
    piece = at(make_pieces(keys, grammar, process(grammar), leaves, t, filtered=(0,)), 0)
    return grammar, piece, make_reference(jax.random.key(3), grammar, process(grammar), piece, leaves[None, :1])


def window(grammar, x_t, height):
    return window_posterior(grammar, process(grammar).log_likelihood(x_t, LEVEL), height=height)


def planted(grammar, amplitude, height):
    """The exact denoiser plus a multiple of what height h adds to it: an error at that height and no other."""

    def denoiser(x_t):
        extra = window(grammar, x_t, height)
        if height >= 0:
            extra = extra - window(grammar, x_t, height - 1)
        return window(grammar, x_t, grammar.depth) + amplitude * extra

    return denoiser


def measure(case, *denoisers):
    """Mean and standard error of the spectrum, `(heights, S, S)`."""
    grammar, piece, (windows, completions, _) = case

    def errors(x_t, exact):
        return jnp.stack([f(x_t) for f in denoisers]) - exact[None]

    error = errors(piece.x_t, windows[-1])
    none, whole = spectrum.ends(error, groups=GROUPS)
    blocks = []
    for height in range(grammar.depth):
        x_t, exact, weight = at(completions, height)
        blocks.append(spectrum.on_blocks(error, errors(x_t, exact), weight))
    products = in_groups(np.asarray(spectrum.by_height(none, jnp.stack(blocks), whole), np.float64), GROUPS)
    return products.mean(-1), products.std(-1, ddof=1) / np.sqrt(GROUPS)


def increments(case):
    return squares(case[2].windows).mean(-1)


def squares(windows):
    """`|D_h|^2` at each sequence."""
    return np.asarray(jnp.square(spectrum.increments(windows)).sum((-1, -2)), np.float64)


def test_an_exact_denoiser_has_no_error_at_any_height(case):
    grammar = case[0]
    mean, _ = measure(case, lambda x: window(grammar, x, grammar.depth))
    np.testing.assert_allclose(mean, 0, atol=1e-9)


def test_a_planted_error_is_found_at_its_height_and_nowhere_else(case):
    grammar = case[0]
    for height in range(-1, grammar.depth + 1):
        mean, error = measure(case, planted(grammar, 0.5, height))
        expected = np.zeros(grammar.depth + 2)
        expected[height + 1] = 0.25 * increments(case)[height + 1]
        assert expected.max() > 1e-3
        assert (np.abs(mean[:, 0, 0] - expected) <= 4.5 * error[:, 0, 0] + 1e-6).all(), height
        assert mean[height + 1, 0, 0] > 8 * error[height + 1, 0, 0], height


def test_a_window_has_no_error_up_to_its_height_and_the_exact_increments_above(case):
    grammar = case[0]
    for height in range(-1, grammar.depth):
        mean, error = measure(case, lambda x, h=height: window(grammar, x, h))
        expected = np.where(np.arange(-1, grammar.depth + 1) > height, increments(case), 0)
        assert (np.abs(mean[:, 0, 0] - expected) <= 4.5 * error[:, 0, 0] + 1e-6).all(), height


def test_terms_sum_to_the_error_measured_directly(case):
    grammar, piece, reference = case

    def flattened(x):
        return 0.7 * window(grammar, x, grammar.depth) + 0.3 / grammar.vocab

    mean, _ = measure(case, flattened)
    direct = jnp.square(flattened(piece.x_t) - reference.windows[-1]).sum((-1, -2)).mean()
    np.testing.assert_allclose(mean.sum(), direct, rtol=1e-4)


def test_one_networks_error_is_data_dependent_and_a_shared_one_common(case):
    grammar = case[0]
    exact, wrong = planted(grammar, 0.0, 1), planted(grammar, 0.5, 1)
    mean, error = measure(case, wrong, exact, wrong)
    size = 0.25 * increments(case)[2]
    common, own = mean[:, 0, 1], 0.5 * (mean[:, 0, 0] + mean[:, 1, 1]) - mean[:, 0, 1]
    np.testing.assert_allclose(common, 0, atol=1e-9)
    assert abs(own[2] - size / 2) < 4.5 * error[2, 0, 0]
    shared_common, shared_own = mean[:, 0, 2], 0.5 * (mean[:, 0, 0] + mean[:, 2, 2]) - mean[:, 0, 2]
    np.testing.assert_allclose(shared_own, 0, atol=1e-9)
    assert abs(shared_common[2] - size) < 4.5 * error[2, 0, 0]


def test_the_split_into_parts_is_the_identity_of_the_definition(case):
    """Mean |d_h e|^2 = <d_h e_A, d_h e_B> + |d_h(f_A - f_B)|^2 / 2, the last measured by itself."""
    grammar = case[0]
    exact = planted(grammar, 0.0, 0)
    f, g = planted(grammar, 0.6, 0), lambda x: 0.8 * window(grammar, x, 1) + 0.2 / grammar.vocab
    mean, _ = measure(case, f, g, lambda x: exact(x) + f(x) - g(x))
    np.testing.assert_allclose(
        0.5 * (mean[:, 0, 0] + mean[:, 1, 1]), mean[:, 0, 1] + 0.5 * mean[:, 2, 2], rtol=1e-3, atol=2e-6
    )


def test_the_learned_fraction_is_one_up_to_what_a_window_sees(case):
    grammar, piece, reference = case
    for height in range(-1, grammar.depth + 1):
        f = window(grammar, piece.x_t, height)
        product = np.asarray(spectrum.learned_products(f[None], reference.windows), np.float64)
        square = squares(reference.windows)
        fraction = product[:, 0].mean(-1) / square.mean(-1)
        error = product[:, 0].std(-1) / np.sqrt(SEQUENCES) / square.mean(-1)
        expected = np.arange(-1, grammar.depth + 1) <= height
        assert (np.abs(fraction - expected) < 4.5 * error + 0.06).all(), height


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        # Of all tuples, equally likely, each leaf is drawn by itself.
        ({"vocab": 3, "rules": 3, "sigma": 0.0}, [True, True, False, False, False]),
        # Of one rule a symbol, each symbol tells all others.
        ({"vocab": 3, "rules": 1}, [True, True, True, True, True]),
        ({"vocab": 3, "rules": 2}, [True, True, True, True, True]),
    ],
)
def test_what_a_height_adds_is_told_from_rounding(sizes, told):
    grammar = random_grammar(jax.random.key(1), depth=3, **sizes)
    x_t = corrupt(jax.random.key(2), sample(jax.random.key(3), grammar, 400).leaves, 0.3, 3)
    windows = jnp.stack([window_posterior(grammar, leaf_log_likelihood(x_t, 0.3), height=h) for h in range(-1, 4)])
    square = squares(windows).mean(-1)
    np.testing.assert_array_equal(spectrum.told_from_rounding(square, square.sum()), told)


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
