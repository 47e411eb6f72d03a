"""Training: it overfits, averages, stratifies, is reproducible, and stops where a loss is not finite."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from vectors import Vectors, VectorsConfig

from experiments.onset import main
from hierdiff.learning import loop as training
from hierdiff.learning.denoiser import network_log_posterior
from hierdiff.learning.devices import ensemble_mesh, over_networks
from hierdiff.learning.loop import (
    Sample,
    Training,
    TrainingSet,
    TrainState,
    check_finite,
    draw,
    make_training,
    token_losses,
)
from hierdiff.learning.network import TransformerConfig, TreeConfig
from hierdiff.learning.optimizer import average_exponent, learning_rate
from hierdiff.learning.train_config import OPTIMIZERS, TrainConfig
from hierdiff.noising import Gaussian, Masking, Uniform
from hierdiff.noising.process import corrupt_each, cross_entropy, stratified_times

PROCESS = Gaussian(vocab=4, levels=100)
TREE = TreeConfig(width=16).build(channels=4, vocab=4, depth=2, branching=2)
# Where what is learned does not matter.
SMALL = TreeConfig(width=8).build(channels=4, vocab=4, depth=1, branching=2)
TRANSFORMER = TransformerConfig(width=16, layers=2, heads=2).build(channels=4, vocab=4, depth=2, branching=2)


def training_of(network, config, data, init_keys, keys):
    mesh, unweighted = ensemble_mesh(len(data)), TrainingSet(data, jnp.ones(data.shape[:2]))
    losses = token_losses(network, PROCESS, mesh)
    return make_training(
        network.init, losses, config, mesh, unweighted, init_keys=init_keys, keys=keys, levels=PROCESS.levels
    )


def advanced(begun, first, until, state=None):
    return begun.advance(state or begun.state, begun.data, begun.keys, first, until)


def train(network, data, config, *, stops, seed=0):
    init_keys, keys = (jax.random.split(key, len(data)) for key in jax.random.split(jax.random.key(seed)))
    begun = training_of(network, config, data, init_keys, keys)
    state = begun.state
    for first, until in zip((0, *stops), stops, strict=False):
        state = advanced(begun, first, until, state)
    return state


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [TREE, pytest.param(TRANSFORMER, marks=pytest.mark.slow)], ids=["tree", "transformer"]
)
def test_each_network_overfits_its_own_sequences(network):
    """Two sequences a network, not the same ones: each learns its own, and loses on the other's."""
    data = jnp.array([[[0, 1, 2, 3], [3, 3, 0, 1]], [[1, 1, 2, 0], [2, 0, 3, 3]]], jnp.int32)
    config = TrainConfig(steps=250, batch=32, learning_rate=3e-3, first_checkpoint=1)
    state = train(network, data, config, stops=(250,))
    check_finite(state)
    t = jnp.full(64, 10, jnp.int32)

    @jax.jit
    def loss(params, x_0):
        x_t = PROCESS.corrupt(jax.random.key(5), x_0, t)
        return cross_entropy(x_0, network_log_posterior(network, PROCESS)(params, x_t, t)).mean()

    losses = np.zeros((2, 2))
    for member in range(2):
        params = jax.tree.map(lambda x, i=member: x[i], state.average)
        for owner in range(2):
            losses[member, owner] = loss(params, jnp.tile(data[owner], (32, 1)))
    assert losses[0, 0] < 0.2
    assert losses[1, 1] < 0.2
    assert min(losses[0, 1], losses[1, 0]) > 1


def test_one_long_call_equals_several_short_ones():
    data = jax.random.randint(jax.random.key(0), (4, 50, 2), 0, 4)
    config = TrainConfig(steps=30, batch=8, first_checkpoint=1)
    whole, parts = (train(SMALL, data, config, stops=stops) for stops in ((30,), (1, 7, 30)))
    jax.tree.map(np.testing.assert_array_equal, whole, parts)


def test_a_long_training_is_looked_at_after_a_hundred_steps_at_the_latest(monkeypatch):
    """There it may be saved, and left."""
    monkeypatch.setattr(training, "check_finite", lambda _: None)
    nothing: Any = None
    state = TrainState(*4 * [nothing])
    idle = Training(jax.jit(lambda *_: state), TrainingSet(nothing, nothing), jnp.zeros(1), state)
    config = TrainConfig(steps=100_000, checkpoints=5, first_checkpoint=10)
    steps = [step for step, _ in training.train(config, idle)]
    assert set(config.checkpoint_steps()) <= set(steps)
    assert max(np.diff([0, *steps])) == 100


def test_networks_of_an_ensemble_do_not_depend_on_its_size():
    data = jax.random.randint(jax.random.key(0), (4, 50, 2), 0, 4)
    config = TrainConfig(steps=5, batch=8, first_checkpoint=1)
    keys = jax.random.split(jax.random.key(1), 4)
    states = [
        advanced(training_of(SMALL, config, data[picked], keys[picked], keys[picked]), 0, 5)
        for picked in (slice(None), slice(2, 3))
    ]
    one_of_four = jax.tree.map(lambda x: x[2:3], states[0].params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one_of_four, states[1].params)


def test_the_average_follows_the_power_law():
    """Relative width of the weights that the average gives to the steps, against what was asked for."""
    for width in (0.05, 0.1, 0.2):
        i, power = np.arange(20_000), average_exponent(width)
        kept = (i / (i + 1)) ** power
        weights = (1 - kept) * np.append(np.cumprod(kept[:0:-1])[::-1], 1)
        mean = (weights * i).sum() / weights.sum()
        assert np.sqrt((weights * (i - mean) ** 2).sum()) / i[-1] == pytest.approx(width, rel=0.01)


def test_without_width_the_average_is_the_last_weights():
    data = jnp.zeros((1, 3, 2), jnp.int32)
    state = train(SMALL, data, TrainConfig(steps=3, batch=2, average_width=0.0, first_checkpoint=1), stops=(3,))
    jax.tree.map(np.testing.assert_array_equal, state.params, state.average)


def test_times_are_stratified_and_uniform():
    for key in jax.random.split(jax.random.key(0), 20):
        t = np.asarray(stratified_times(key, 50, 100))
        assert ((t - 1) // 2 == np.arange(50)).all()
    draws = np.concatenate([stratified_times(key, 7, 10) for key in jax.random.split(jax.random.key(1), 3000)])
    assert np.bincount(draws, minlength=11)[1:] == pytest.approx(2100, rel=0.1)


def test_a_batch_is_drawn_with_its_numbers_weights_and_stratified_levels():
    data = TrainingSet(jax.random.randint(jax.random.key(0), (30, 4), 0, 4), jnp.arange(30.0))
    samples = draw(jax.random.key(1), data, 500, 100)
    np.testing.assert_array_equal(samples.x_0, data.x_0[samples.number])
    np.testing.assert_array_equal(samples.weight, samples.number.astype(float))
    assert set(np.asarray(samples.number)) == set(range(30))
    np.testing.assert_array_equal(samples.t, np.repeat(np.arange(1, 101), 5))


@pytest.mark.parametrize("network", [TREE, TRANSFORMER], ids=["tree", "transformer"])
def test_the_loss_of_a_batch_is_that_of_its_samples_one_by_one(network):
    """Each depends on the weights, its sample and its key alone; so does its gradient."""
    data = TrainingSet(jax.random.randint(jax.random.key(0), (30, 4), 0, 4), jnp.ones(30))
    samples, keys = draw(jax.random.key(1), data, 6, 100), jax.random.split(jax.random.key(2), 6)
    losses, params = token_losses(network, PROCESS, ensemble_mesh(2)), network.init(jax.random.key(3))
    alone = over_networks(losses, ensemble_mesh(2), stacked=1)
    both = jax.tree.map(lambda x: jnp.stack([x, x]), params)
    whole = jax.jit(alone)(both, samples, keys)[0]
    assert whole.std() > 0.01

    def example_loss(params, sample, key):
        one = jax.tree.map(lambda x: x[None], (sample, key))
        return losses(params, *one)[0]

    def of_all(params, samples, keys):
        return jax.vmap(example_loss, in_axes=(None, 0, 0))(params, samples, keys)

    one_by_one = jax.jit(over_networks(of_all, ensemble_mesh(2), stacked=1))(both, samples, keys)[0]
    np.testing.assert_allclose(whole, one_by_one, rtol=1e-4)


@pytest.mark.parametrize(
    "process", [*(pytest.param(x, marks=pytest.mark.slow) for x in (Gaussian, Uniform)), Masking], ids=lambda x: x.name
)
def test_the_loss_by_the_bound_is_all_levels_times_its_term_and_has_a_gradient(process):
    """Three samples at each level, of a network as drawn and of one that is sure; without noise nothing is to learn."""
    process = process(vocab=4, levels=30)
    network = TreeConfig(width=8).build(channels=process.channels, vocab=4, depth=1, branching=2)
    tokens, t = jax.random.randint(jax.random.key(0), (90, 2), 0, 4), jnp.arange(90) % 30 + 1
    samples, keys = Sample(jnp.arange(90), tokens, t, jnp.ones(90)), jax.random.split(jax.random.key(1), 90)
    losses = token_losses(network, process, ensemble_mesh(1), bound=True)

    def with_gradient(params, weight):
        def weighed(params):
            found = losses(params, samples, keys)
            return (weight * found).sum(), found

        return jax.grad(weighed, has_aux=True)(params)

    with_gradient = jax.jit(over_networks(with_gradient, ensemble_mesh(1), stacked=1))
    x_t, drawn = corrupt_each(process, keys, tokens, t), network.init(jax.random.key(2))
    for scale in (1, 10):
        params = jax.tree.map(lambda x, scale=scale: scale * x, drawn)
        of_all, found = with_gradient(jax.tree.map(lambda x: x[None], params), jnp.ones(90))
        f = jnp.exp(network_log_posterior(network, process)(params, x_t, t))
        np.testing.assert_allclose(found[0], 30 * process.bound(tokens, x_t, t, f), rtol=2e-5, atol=1e-5)
        assert np.isfinite(found).all()
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(of_all))
        assert max(np.abs(x).max() for x in jax.tree.leaves(of_all)) > 0.1
        known = process.known(x_t).all(-1)
        of_known, _ = with_gradient(jax.tree.map(lambda x: x[None], params), known.astype(float))
        jax.tree.map(lambda x: np.testing.assert_array_equal(x, 0), of_known)
    assert known.any() == (process.name == "masking")


def test_the_cross_entropy_is_that_of_masked_leaves_and_the_bound_weighs_it_by_its_level():
    process, t = Masking(vocab=4, levels=30), jnp.arange(60) % 30 + 1
    network = TreeConfig(width=8).build(channels=5, vocab=4, depth=2, branching=2)
    tokens, params = jax.random.randint(jax.random.key(0), (60, 4), 0, 4), network.init(jax.random.key(1))
    samples, keys = Sample(jnp.arange(60), tokens, t, jnp.ones(60)), jax.random.split(jax.random.key(2), 60)
    x_t, mesh = corrupt_each(process, keys, tokens, t), ensemble_mesh(1)
    log_f = np.asarray(jax.nn.log_softmax(network.forward(params, process.encode(x_t), t, None)))
    of_symbols = np.take_along_axis(log_f, np.asarray(tokens)[..., None], -1)[..., 0]
    expected = -(of_symbols * (np.asarray(x_t) == 4)).sum(-1)
    for bound, weight in ((False, 1), (True, 30 / np.asarray(t))):
        losses = over_networks(token_losses(network, process, mesh, bound=bound), mesh, stacked=1)
        found = jax.jit(losses)(jax.tree.map(lambda x: x[None], params), samples, keys)[0]
        np.testing.assert_allclose(found, weight * expected, rtol=1e-5, atol=1e-6)
    assert (expected == 0).any()
    assert expected.max() > 2


@pytest.mark.slow
def test_training_with_a_weight_of_two_is_training_on_the_sequence_twice():
    """The mean gradient of many draws, by the weights of the samples, and by their number in the set."""
    tokens = jnp.array([[0, 1], [2, 3], [3, 3]], jnp.int32)
    weighted = TrainingSet(tokens, jnp.array([2.0, 1.0, 0.0]))
    params, losses = SMALL.init(jax.random.key(0)), token_losses(SMALL, PROCESS, ensemble_mesh(1))

    def mean_loss(params, data):
        def once(key):
            samples = draw(key, data, 600, 100)
            return (samples.weight * losses(params, samples, jax.random.split(key, 600))).mean()

        return jax.lax.map(once, jax.random.split(jax.random.key(1), 40)).mean()

    def gradient(data):
        of_one = over_networks(jax.grad(mean_loss), ensemble_mesh(1), stacked=1)
        found = jax.jit(of_one)(jax.tree.map(lambda x: x[None], params), data)
        return np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(found)])

    twice = TrainingSet(tokens[jnp.array([0, 0, 1])], jnp.ones(3))
    found, expected = gradient(weighted), gradient(twice)
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)
    other = gradient(TrainingSet(tokens, jnp.ones(3)))
    assert np.linalg.norm(other - expected) > 0.2 * np.linalg.norm(expected)


def test_with_fixed_draws_the_noise_of_a_sample_is_one_of_a_few_at_whatever_step_and_level():
    """Read from a step of sgd, which moves the weights, a table, by what is drawn for the only sample of a batch."""
    size, steps = 4, 150

    def losses(params, samples, keys):
        noise = jax.vmap(jax.random.normal)(keys if samples.noise is None else samples.noise)
        return (params[samples.number] * jnp.stack([noise, samples.t.astype(float)], 1)).sum(-1)

    def drawn(draws):
        """Of each step and each of two networks: the number of the sample, its noise and its level."""
        config = TrainConfig(
            steps=steps, batch=1, optimizer="sgd", learning_rate=0.5, first_checkpoint=1, noise_draws=draws
        )
        data, keys = TrainingSet(jnp.zeros((2, size, 1)), jnp.ones((2, size))), jax.random.split(jax.random.key(1), 2)
        begun = make_training(
            lambda _: jnp.zeros((size, 2)),
            losses,
            config,
            ensemble_mesh(2),
            data,
            init_keys=keys,
            keys=keys,
            levels=100,
        )
        for i in range(steps):
            moved = np.asarray(advanced(begun, i, i + 1, jax.tree.map(jnp.copy, begun.state)).params) / -0.5
            number = moved[..., 1].argmax(1)
            yield from zip((0, 1), number, *moved[[0, 1], number].T, strict=True)

    for draws in (0, 1, 3):
        found: dict[Any, set] = {}
        levels: dict[Any, set] = {}
        for network, number, noise, t in drawn(draws):
            found.setdefault((network, number), set()).add(noise)
            levels.setdefault((network, number, noise), set()).add(t)
        assert len(found) == 2 * size
        if draws:
            assert all(len(noises) == draws for noises in found.values())
            assert min(map(len, levels.values())) > 3
        assert len(set.union(*found.values())) == (2 * size * draws or 2 * steps)


def test_the_noise_of_symbols_and_of_numbers_is_drawn_of_the_samples_own_key():
    tokens = TrainingSet(jax.random.randint(jax.random.key(0), (6, 2), 0, 4), jnp.ones(6))
    world = Vectors.set_up(VectorsConfig(sets=2, size=6, noise_levels=100))
    for init, losses, data in (
        (SMALL.init, token_losses(SMALL, PROCESS, ensemble_mesh(2)), tokens),
        (world.network.init, world.example_losses(), TrainingSet(world.train[0], jnp.ones(6))),
    ):
        samples, (own, others) = draw(jax.random.key(1), data, 8, 100), jax.random.split(jax.random.key(2), (2, 8))
        fixed = samples._replace(noise=own)
        of_batch = jax.jit(over_networks(losses, ensemble_mesh(2), stacked=1))
        params = jax.tree.map(lambda x: jnp.stack([x, x]), init(jax.random.key(3)))
        expected = of_batch(params, samples, own)
        np.testing.assert_array_equal(of_batch(params, fixed, others), expected)
        assert np.abs(of_batch(params, samples, others) - expected).min() > 0


def test_the_optimizer_is_the_one_that_is_named(monkeypatch):
    """One that is added by its name is there at once; without one, weights follow Adam."""
    data = jax.random.randint(jax.random.key(0), (1, 50, 2), 0, 4)
    monkeypatch.setitem(OPTIMIZERS, "added", optax.sgd)

    def weights(**named):
        config = TrainConfig(steps=10, batch=8, first_checkpoint=1, **named)
        return jax.tree.leaves(train(SMALL, data, config, stops=(10,)).params)

    plain, adam, sgd, added = weights(), *(weights(optimizer=name) for name in ("adam", "sgd", "added"))
    jax.tree.map(np.testing.assert_array_equal, plain, adam)
    jax.tree.map(np.testing.assert_array_equal, sgd, added)
    assert max(np.abs(a - b).max() for a, b in zip(adam, sgd, strict=True)) > 1e-3


def test_an_optimizer_that_is_not_there_is_refused_in_one_sentence(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--preset", "smoke", "--optimizer", "adagrad"])
    assert capsys.readouterr().err.startswith(
        "error: --optimizer: got adagrad, needs one of adam, adamw, sgd, smooth_adam ("
    )


def test_the_papers_learning_rate():
    config = TrainConfig(steps=1000, batch=10, learning_rate=1e-2, decay="paper", first_checkpoint=1)
    rate = learning_rate(config, size=40)
    expected = [1e-2, 0.75e-2, 0.5e-2, 0.1e-2]
    np.testing.assert_allclose(np.array([rate(i) for i in (0, 100, 200, 1000)]), expected, rtol=1e-5)


def test_a_loss_that_is_not_finite_is_reported_where_it_happened():
    data = jnp.zeros((2, 3, 2), jnp.int32)
    config = TrainConfig(steps=20, batch=2, learning_rate=0.9, first_checkpoint=1)
    keys = jax.random.split(jax.random.key(0), 2)
    begun = training_of(SMALL, config, data, keys, keys)
    state = advanced(begun, 0, 4)
    poisoned = jax.tree.map(lambda x: x.at[1].set(jnp.nan), state.params)
    state = advanced(begun, 4, 9, state._replace(params=poisoned))
    with pytest.raises(FloatingPointError, match="the loss of network 1 is not finite at step 5"):
        check_finite(state)


def test_checkpoints_are_log_spaced_and_end_at_the_last_step():
    steps = TrainConfig(steps=5000, checkpoints=20, first_checkpoint=50).checkpoint_steps()
    assert (steps[0], steps[-1], len(steps)) == (50, 5000, 20)
    np.testing.assert_allclose(np.diff(np.log(steps)), np.log(100) / 19, rtol=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps: got 0"),
        ({"learning_rate": 0.0}, "learning_rate: got 0.0"),
        ({"average_width": 0.3}, "average_width: got 0.3"),
        ({"steps": 10, "first_checkpoint": 10}, "first_checkpoint: got 10, needs an integer from 1 to below"),
    ],
)
def test_bad_configs_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**change)
