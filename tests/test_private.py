"""DP-SGD: what a sample adds is bounded, the noise is as large as is said, and epsilon is what it should be."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import binom, norm

pytest.importorskip("jax_privacy")

from hierdiff.errors import OptionError
from hierdiff.learning.devices import ensemble_mesh, over_networks
from hierdiff.learning.loop import TrainingSet, make_training
from hierdiff.learning.private import Mechanism, mechanism, overflow, poisson, private_gradient
from hierdiff.learning.train_config import PrivacyConfig, TrainConfig
from hierdiff.measures.audit import audit
from hierdiff.worlds.run_config import OnsetConfig

ROWS, CLIP, NETWORKS = 6, 0.05, 8
PRIVATE = TrainConfig(
    steps=2,
    batch=ROWS,
    first_checkpoint=1,
    privacy=PrivacyConfig(clip_each=CLIP, epsilon=2.0, draws_each=2),
)


def losses(params, samples, keys):
    """Of a small network that finds the sum of two numbers, given them with noise."""
    noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
    hidden = jnp.tanh((samples.x_0 + noise * samples.t[:, None] / 100) @ params["in"])
    return jnp.square(hidden @ params["out"] - samples.x_0.sum(-1))


@functools.cache
def compiled():
    of_one = private_gradient(losses, PRIVATE, 100, ROWS)
    return jax.jit(over_networks(of_one, ensemble_mesh(NETWORKS), stacked=3))


def gradients(data, keys, step=0):
    """Of networks with the same weights, each on its data: the losses, and the gradients as vectors."""
    draws = jax.random.normal(jax.random.key(0), (3, 512))
    params = {"in": jnp.stack(NETWORKS * [draws[:2]]), "out": jnp.stack(NETWORKS * [draws[2]])}
    value, found = compiled()(params, data, keys, step)
    return np.asarray(value), np.concatenate([np.asarray(x).reshape(NETWORKS, -1) for x in jax.tree.leaves(found)], 1)


def test_a_sample_moves_the_sum_by_no_more_than_the_clipping_norm():
    """All neighbours of a set, with the same noise: each sample left out, and one of them with other numbers."""
    samples = jax.random.normal(jax.random.key(1), (ROWS, 2))
    sets = jnp.stack(NETWORKS * [samples]).at[-1, 0].set(1.0)
    weights = jnp.concatenate([jnp.ones((1, ROWS)), 1 - jnp.eye(ROWS), 1 - jnp.eye(ROWS)[:1]])
    value, found = gradients(TrainingSet(sets, weights), jnp.broadcast_to(jax.random.key(2), (NETWORKS,)))
    moved = np.linalg.norm(ROWS * (found[1:] - found[:1]), axis=1)
    # Every gradient is longer than that, and is clipped.
    np.testing.assert_allclose(moved, CLIP, rtol=1e-3)
    # What is left out does not show; nor does it move the keys of the others.
    np.testing.assert_array_equal(found[-1], found[1])
    assert value[0] > value[1] > 0


def test_the_noise_is_on_the_sum_and_each_network_has_its_own():
    """Nothing else is there where no sample counts; at another step it is another."""
    keys = jax.random.split(jax.random.key(1), NETWORKS).at[-1].set(jax.random.split(jax.random.key(1), NETWORKS)[0])
    data = TrainingSet(jnp.zeros((NETWORKS, ROWS, 2)), jnp.zeros((NETWORKS, ROWS)))
    _, found = gradients(data, keys)
    scale, n = mechanism(PRIVATE, ROWS).noise_multiplier * CLIP / ROWS, found.shape[1]
    np.testing.assert_allclose(found.std(1), scale, rtol=5 / math.sqrt(2 * n))
    between = np.corrcoef(found[:-1], gradients(data, keys, step=1)[1][:-1])
    assert np.abs(between[np.triu_indices(len(between), 1)]).max() < 5 / math.sqrt(n)
    np.testing.assert_array_equal(found[0], found[-1])


def test_each_sample_is_in_a_batch_by_a_coin_of_its_own():
    rows, q, capacity = 20, 0.3, 8
    keys = jax.random.split(jax.random.key(0), 4000)
    numbers, padding = (np.asarray(x) for x in jax.vmap(lambda key: poisson(key, rows, q, rows))(keys))
    chosen = np.zeros((len(keys), rows), bool)
    np.put_along_axis(chosen, np.where(padding, numbers[:, :1], numbers), True, axis=1)
    chosen[padding.all(1)] = False
    assert (chosen.sum(1) == (~padding).sum(1)).all()
    np.testing.assert_allclose(chosen.mean(0), q, atol=4 * math.sqrt(q * (1 - q) / len(keys)))
    np.testing.assert_allclose(np.cov(chosen.T), q * (1 - q) * np.eye(rows), atol=0.02)
    # Larger batches are cut off, as often as is said.
    _, cut = jax.vmap(lambda key: poisson(key, rows, q, capacity))(keys)
    np.testing.assert_array_equal((~np.asarray(cut)).sum(1), np.minimum(chosen.sum(1), capacity))
    share = binom.pmf(np.arange(capacity + 1, rows + 1), rows, q).sum()
    assert overflow(capacity, rows, q, 5) == pytest.approx(5 * share)
    assert (chosen.sum(1) > capacity).mean() == pytest.approx(share, abs=4 * math.sqrt(share / len(keys)))


def test_epsilon_is_that_of_the_gaussian_mechanism_and_no_more_than_that_by_renyi_divergences():
    """Of whole batches it has a closed form (arXiv 1805.06530); of Poisson ones there is a sum (arXiv 1908.10530)."""
    sigma, steps, delta = 6.0, 20, 1e-5
    mean = math.sqrt(steps) / sigma

    def spent(epsilon):
        beyond = np.exp(epsilon + norm.logcdf(-mean / 2 - epsilon / mean))
        return norm.cdf(mean / 2 - epsilon / mean) - beyond - delta

    whole = Mechanism(sampling=1.0, capacity=1, noise_multiplier=sigma, delta=delta)
    assert whole.epsilon(steps) == pytest.approx(brentq(spent, 0, 50), rel=2e-3)

    q, sigma, steps = 0.1, 1.5, 300
    orders = np.arange(2, 64)

    def renyi(order):
        k = np.arange(order + 1)
        terms = binom.logpmf(k, order, q) + (k * k - k) / (2 * sigma**2)
        return logsumexp(terms) / (order - 1)

    # The conversion of arXiv 2004.00010, proposition 12.
    by_order = [steps * renyi(a) + math.log1p(-1 / a) - math.log(delta * a) / (a - 1) for a in orders.tolist()]
    found = Mechanism(sampling=q, capacity=1, noise_multiplier=sigma, delta=delta).epsilon(steps)
    assert 0.8 * min(by_order) < found < min(by_order)


def test_the_noise_is_the_least_that_will_do_and_what_is_cut_off_is_charged():
    config = TrainConfig(steps=300, batch=100, privacy=PrivacyConfig(clip_each=1.0, epsilon=2.0))
    how = mechanism(config, 1000)
    assert 1.99 < how.epsilon(300) <= 2
    assert how.epsilon(100) < 0.7 * how.epsilon(300)
    tau = 300 * binom.sf(how.capacity, 1000, 0.1)
    assert how.delta + (1 + math.exp(2)) * tau == pytest.approx(1e-5, rel=1e-9)
    assert 0.99e-5 <= how.delta < 1e-5
    assert how.capacity < 200
    assert mechanism(TrainConfig(privacy=PrivacyConfig(clip_each=1.0)), 1000).epsilon(1) == math.inf


@pytest.mark.parametrize("noise", [True, False])
def test_an_audit_catches_dp_sgd_whose_noise_was_left_out(noise):
    """A linear model, in which each canary has a direction of its own; all claim an epsilon of one."""
    m, steps = 64, 30
    asked = PrivacyConfig(clip_each=1.0, epsilon=1.0 if noise else 0.0)
    config = TrainConfig(steps=steps, batch=32, first_checkpoint=1, optimizer="sgd", average_width=0.0, privacy=asked)
    included = jax.random.bernoulli(jax.random.key(0), 0.5, (2, m))
    data = TrainingSet(jnp.stack(2 * [jnp.eye(m)]), included.astype(float))
    keys = jax.random.split(jax.random.key(1), 2)
    begun = make_training(
        lambda _: jnp.zeros(m),
        lambda params, samples, keys: -(params[None] * samples.x_0).sum(-1),
        config,
        ensemble_mesh(2),
        data,
        init_keys=keys,
        keys=keys,
        levels=10,
    )
    found = begun.advance(begun.state, begun.data, begun.keys, 0, steps).params
    below = audit(np.asarray(found).ravel(), np.asarray(included).ravel(), delta=1e-5).epsilon
    assert (below < 1) == noise
    assert noise or below > 1.5


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: PrivacyConfig(epsilon=1.0), "epsilon"),
        (lambda: PrivacyConfig(draws_each=2), "draws_each"),
        (lambda: TrainConfig(noise_draws=1, privacy=PrivacyConfig(clip_each=1.0)), "noise_draws"),
        (lambda: OnsetConfig(size=100, train=TrainConfig(privacy=PrivacyConfig(clip_each=1.0))), "batch"),
        (
            lambda: OnsetConfig(train=TrainConfig(privacy=PrivacyConfig(clip_each=1.0, epsilon=1.0, delta=1e-3))),
            "delta",
        ),
    ],
)
def test_what_privacy_is_not_had_with_is_refused(make, name):
    with pytest.raises(OptionError, match=f"^{name}: "):
        make()


def test_without_its_packages_it_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    PrivacyConfig().require_installed()
    with pytest.raises(OptionError, match=r"clip_each: got 1.0, needs 0, or .* hierdiff\[privacy\]"):
        PrivacyConfig(clip_each=1.0).require_installed()
