"""Divergence, excess loss, sample split, bits and shared memorizers against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.special import logsumexp, rel_entr, xlogy

from hierdiff.grammar import random_grammar
from hierdiff.keys import keys_of
from hierdiff.measures.divergence import divergence, log_of, pairs, sample_split
from hierdiff.measures.losses import decomposition
from hierdiff.measures.probe import at, information, make_pieces
from hierdiff.measures.slope import where_enough
from hierdiff.measures.times import any_times, times_of_bound
from hierdiff.noising import Gaussian, Masking, Uniform, leaf_log_likelihood
from hierdiff.noising.process import cross_entropy
from hierdiff.posterior import leaf_posterior
from hierdiff.sampling import sample
from hierdiff.worlds.run_config import MeasureConfig
from hierdiff.worlds.sequences import Sequences, Weighted

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
    any_level = any_times(jax.random.key(3), 50, PROCESS.levels, groups=1)
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


TINY = random_grammar(jax.random.key(4), depth=2, vocab=3, rules=2, sigma=1.0)
LEVELS = 40
DISCRETE = [Masking(vocab=3, levels=LEVELS), Uniform(vocab=3, levels=LEVELS)]
ALL = pytest.mark.parametrize("process", [Gaussian(vocab=3, levels=LEVELS), *DISCRETE], ids=lambda each: each.name)


def noised(process, n, t, seed=1):
    """A piece of `n` sequences of the grammar at the levels t."""
    leaves, keys = sample(jax.random.key(seed), TINY, n).leaves, keys_of(jax.random.key(seed + 1), range(1))
    t = jnp.broadcast_to(jnp.asarray(t, jnp.int32), (1, n))
    return at(make_pieces(keys, TINY, process, leaves, t, filtered=(0, 1, 2)), 0)


def log_density(process, x_t, strings, share):
    """Log p(x_t | x_0) of each state and string, `(n, strings)`, in NumPy float64; of Gaussians up to a constant."""
    clean, x_t = np.eye(3)[strings], np.asarray(x_t)
    if process.name == "gaussian":
        ab = float(process.alpha_bar[round(share * LEVELS) - 1])
        return -np.square(x_t[:, None].astype(float) - np.sqrt(ab) * clean).sum((-1, -2)) / (2 * (1 - ab))
    same = x_t[:, None] == strings[None]
    if process.name == "uniform":
        return np.log((1 - share) * same + share / 3).sum(-1)
    with np.errstate(divide="ignore"):
        return np.log(np.where(x_t[:, None] == 3, share, (1 - share) * same)).sum(-1)


@ALL
def test_bits_are_those_of_enumeration(process):
    symbols, log_prior = oracles.derivations(TINY)
    for share in (0.2, 0.6):
        piece = noised(process, 400, round(share * LEVELS))
        own = np.diagonal(log_density(process, piece.x_t, np.asarray(piece.tokens), share))
        evidence = logsumexp(log_prior + log_density(process, piece.x_t, symbols[-1], share), axis=1)
        found = np.asarray(information(TINY, process, piece), np.float64)
        np.testing.assert_allclose(found, (own - evidence) / np.log(2), atol=1e-4)
        assert found.std() > 0.1


@pytest.mark.parametrize("process", DISCRETE, ids=lambda each: each.name)
def test_the_mean_of_the_bits_is_the_mutual_information(process):
    """By summing over all strings and all states."""
    symbols, log_prior = oracles.derivations(TINY)
    states = np.stack(np.unravel_index(np.arange(process.channels**4), (process.channels,) * 4), -1)
    before = 4.0
    for share in (0.2, 0.6, 0.95):
        given = np.exp(log_density(process, states, symbols[-1], share))
        of_state = given @ np.exp(log_prior)
        joint = given * np.exp(log_prior)
        exact = (xlogy(joint, given) - xlogy(joint, of_state[:, None])).sum() / np.log(2)
        found = np.asarray(information(TINY, process, noised(process, 4000, round(share * LEVELS))), np.float64)
        assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(4000)
        assert 0 < exact < before - 0.3
        before = exact


def world_of(process):
    sets = jnp.stack([sample(jax.random.key(10 + i), TINY, 20).leaves for i in range(2)])
    options = {"train": sets, "held_out": sets[0], "set_of": np.arange(2), "key": jax.random.key(0)}
    return Sequences(grammar=TINY, process=process, **options)


@ALL
def test_the_excess_of_the_bound_is_what_it_lies_above_that_of_the_exact_posterior(process):
    """On average over x_0, of what takes the noise to be half as much; the exact posterior itself loses nothing.

    Within four standard errors, sample by sample and against a Monte Carlo at t uniform.
    """
    n, world = 20_000, world_of(process)

    def wrong(piece):
        f = leaf_posterior(TINY, process.log_likelihood(piece.x_t, jnp.maximum(piece.t // 2, 1)))
        return jnp.where(process.known(piece.x_t)[..., None], piece.exact[0], 0.8 * f + 0.2 / 3)

    def above(piece):
        of_both = (process.bound(piece.tokens, piece.x_t, piece.t, f) for f in (wrong(piece), piece.exact[0]))
        of_wrong, of_exact = (np.asarray(x, np.float64) for x in of_both)
        return of_wrong - of_exact

    t, weight = times_of_bound(jax.random.key(3), n, LEVELS)
    piece, uniform = noised(process, n, t), noised(process, n, any_times(jax.random.key(4), n, LEVELS), seed=5)
    answers = jnp.stack([log_of(piece.exact[0]), jnp.log(wrong(piece))])
    found = world.on_bound(Weighted(piece.x_t, t, piece.exact[0], weight), answers)["excess_bound"]
    of_exact, of_wrong = np.asarray(found, np.float64)
    np.testing.assert_allclose(of_exact, 0, atol=1e-4)
    assert (of_wrong > -1e-4).all()
    one_by_one = np.asarray(weight) * above(piece) - of_wrong
    assert abs(one_by_one.mean()) < 4 * one_by_one.std() / np.sqrt(n)
    of_uniform = LEVELS * above(uniform)
    error = np.hypot(of_uniform.std(), of_wrong.std()) / np.sqrt(n)
    assert abs(of_uniform.mean() - of_wrong.mean()) < 4 * error
    assert of_wrong.mean() > 15 * error


def test_the_levels_of_the_bound_are_drawn_as_often_as_their_weights_say():
    """Half of them uniform and half as 1/t: the mean of 1/p(t) times anything is its sum over the levels."""
    t, weight = (np.asarray(x) for x in times_of_bound(jax.random.key(0), 100_000, LEVELS))
    levels = np.arange(1, LEVELS + 1)
    p = 0.5 / LEVELS + 0.5 / levels / (1 / levels).sum()
    np.testing.assert_allclose(weight, 1 / p[t - 1], rtol=1e-5)
    # Stratified: a level is drawn as often as it is probable, in each of fifty groups but for a draw at each end.
    np.testing.assert_allclose(np.bincount(t, minlength=LEVELS + 1)[1:], 100_000 * p, atol=20)
    assert abs(np.corrcoef(t[:-1], t[1:])[0, 1]) < 0.02


def test_leaves_that_are_shown_cost_nothing_and_never_part():
    """Log of zero minus log of zero, where two networks are sure of the symbol shown; the rest counts as ever."""
    process = Masking(vocab=3, levels=LEVELS)
    piece = noised(process, 200, jnp.arange(200) % LEVELS + 1)
    open_ = jnp.log(jnp.asarray(distributions(0, (2, 200, 4, 3)), jnp.float32))
    shown = process.known(piece.x_t)
    answers = jnp.where(shown[..., None], process.log_likelihood(piece.x_t, piece.t), open_)
    exact, hidden = np.asarray(piece.exact[0], np.float64), ~np.asarray(shown)
    f, g = np.exp(np.asarray(open_, np.float64))
    of_tokens = np.take_along_axis(np.log(f), np.asarray(piece.tokens)[..., None], -1)[..., 0]
    to_exact = -(exact * np.log(f)).sum(-1)
    expected = {
        "split": 0.5 * ((f - g) * np.log(f / g)).sum(-1),
        "divergence": rel_entr(exact, f).sum(-1),
        "loss": -of_tokens,
        "to_exact": to_exact,
        "residual": -of_tokens - to_exact,
    }
    found = {
        "split": sample_split(*answers),
        "divergence": divergence(piece.exact[0], answers[0]),
        "loss": cross_entropy(piece.tokens, answers[0]),
        **dict(zip(("to_exact", "residual"), decomposition(piece.tokens, piece.exact[0], answers[0]), strict=True)),
    }
    for name, leaf_by_leaf in expected.items():
        np.testing.assert_allclose(found[name], (leaf_by_leaf * hidden).sum(-1), rtol=1e-4, atol=2e-6, err_msg=name)
    of_world = world_of(process).losses(piece, answers)
    np.testing.assert_allclose(of_world["excess"][0], found["divergence"], rtol=1e-6)
    np.testing.assert_allclose(of_world["test_loss"][0], found["loss"], rtol=1e-6)
    weighted = Weighted(piece.x_t, piece.t, piece.exact[0], jnp.full(200, 7.0))
    of_world |= world_of(process).on_bound(weighted, answers)
    weight = 7 / np.asarray(piece.t)
    np.testing.assert_allclose(of_world["excess_bound"][0], weight * found["divergence"], rtol=1e-4, atol=1e-5)
    all_shown = ~hidden.any(-1)
    assert 5 < all_shown.sum() < 100
    for name in of_world:
        np.testing.assert_allclose(of_world[name][:, all_shown], 0, atol=1e-6, err_msg=name)


def test_a_slope_needs_two_hundred_inputs_that_both_memorizers_know_or_all_of_them():
    """On average over the pairs, at each noise level alone."""
    both, squares = np.zeros((4, 2, 500), bool), jnp.ones((4, 2, 500))
    for level, counts in enumerate([(200, 200), (199, 200), (100, 300), (0, 398)]):
        for pair, count in enumerate(counts):
            both[level, pair, :count] = True
    found = where_enough(squares, jnp.asarray(both))
    np.testing.assert_array_equal(np.isfinite(found), np.broadcast_to([[[1]], [[0]], [[1]], [[0]]], found.shape))
    few = jnp.asarray(both[:1, :, :200])
    np.testing.assert_array_equal(where_enough(squares[:1, :, :150], few[..., :150]), 1)
    assert np.isnan(where_enough(squares[:1, :, :150], few[..., :150].at[0, 1, 7].set(False))).all()


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
