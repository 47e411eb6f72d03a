"""The options of the optimizer: what each does to a gradient, to the learning rate, and to the weights of a network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.devices import ensemble_mesh, over_networks
from hierdiff.learning.loop import TrainingSet, draw, make_training, token_losses
from hierdiff.learning.network import TreeConfig
from hierdiff.learning.optimizer import learning_rate, optimizer
from hierdiff.learning.train_config import TrainConfig
from hierdiff.noising import Gaussian

RATE, BATCH = 0.5, 8
PROCESS = Gaussian(vocab=4, levels=100)
NETWORK = TreeConfig(width=8).build(channels=4, vocab=4, depth=1, branching=2)
MESH = ensemble_mesh(1)
LOSSES = token_losses(NETWORK, PROCESS, MESH)
DATA = TrainingSet(jax.random.randint(jax.random.key(0), (1, 50, 2), 0, 4), jnp.ones((1, 50)))
KEY = jax.random.key(1)


def config_of(**options):
    return TrainConfig(**{"steps": 100, "batch": BATCH, "learning_rate": RATE, "first_checkpoint": 1} | options)


def weights_after(steps, **options):
    """The weights of a network, as one vector, after some steps with these options, from the same first weights."""
    begun = make_training(
        NETWORK.init, LOSSES, config_of(**options), MESH, DATA, init_keys=KEY[None], keys=KEY[None], levels=100
    )
    return np.asarray(ravel_pytree(begun.advance(begun.state, begun.data, begun.keys, 0, steps).params)[0])


@pytest.fixture(scope="module")
def first():
    """The first weights, and the gradient there of the mean loss of the first batch: not by the loop."""
    params, of_step = NETWORK.init(KEY), jax.random.fold_in(KEY, 0)
    samples = draw(of_step, jax.tree.map(lambda x: x[0], DATA), BATCH, 100)
    keys = keys_of(key_for(of_step, "noise"), range(BATCH))
    gradient = over_networks(jax.grad(lambda p: LOSSES(p, samples, keys).mean()), MESH, stacked=1)
    found = jax.jit(gradient)(jax.tree.map(lambda x: x[None], params))
    return [np.asarray(ravel_pytree(tree)[0]) for tree in (params, found)]


def test_a_step_of_sgd_is_the_gradient_times_the_learning_rate(first):
    weights, gradient = first
    np.testing.assert_allclose(weights_after(1, optimizer="sgd"), weights - RATE * gradient, atol=1e-6)
    assert RATE * np.linalg.norm(gradient) > 0.01


def test_a_step_of_a_training_is_clipped_warmed_up_and_decayed(first):
    weights, gradient = first
    half = float(np.linalg.norm(gradient)) / 2
    found = weights_after(1, optimizer="sgd", clip=half, warm_up=4, weight_decay=0.1)
    np.testing.assert_allclose(found, weights - RATE / 4 * (gradient / 2 + 0.1 * weights), atol=1e-6)


def test_with_momentum_the_second_step_goes_on_where_the_first_went(first):
    _, gradient = first
    plain, with_momentum = (weights_after(2, optimizer="sgd", momentum=momentum) for momentum in (0.0, 0.9))
    np.testing.assert_allclose(with_momentum - plain, -0.9 * RATE * gradient, atol=1e-6)


def updates_of(config, gradients, params):
    """The updates of each step, of parameters that are left as they are."""
    made, found = optimizer(config, size=50), []
    state = made.init(params)
    with jax.numpy_dtype_promotion("standard"):
        for gradient in gradients:
            update, state = made.update(gradient, state, params)
            found.append(np.asarray(update))
    return np.stack(found)


def test_a_gradient_is_clipped_by_its_norm_and_only_a_larger_one():
    """Over all parameters together, before momentum adds to it."""
    gradients = jnp.array([[0.3, 0.4], [3.0, 4.0], [0.0, 0.5]])
    found = updates_of(config_of(optimizer="sgd", clip=1.0, momentum=0.5), gradients, jnp.zeros(2))
    clipped = np.array([[0.3, 0.4], [0.6, 0.8], [0.0, 0.5]])
    expected = [clipped[0], clipped[1] + clipped[0] / 2, clipped[2] + clipped[1] / 2 + clipped[0] / 4]
    np.testing.assert_allclose(found, -RATE * np.stack(expected), rtol=1e-6)


def test_adam_with_weight_decay_is_adamw():
    """At optax's own decay, while the learning rate falls; the difference to Adam is the rate times the weights'."""
    gradients, params = jax.random.normal(KEY, (5, 7)), jnp.arange(7.0)
    adam, decayed, adamw = (
        updates_of(config_of(steps=5, decay="cosine", **options), gradients, params)
        for options in ({}, {"weight_decay": 1e-4}, {"optimizer": "adamw"})
    )
    np.testing.assert_array_equal(decayed, adamw)
    rate = RATE * 0.5 * (1 + np.cos(np.pi * np.arange(5) / 5))
    np.testing.assert_allclose(decayed - adam, -1e-4 * rate[:, None] * np.arange(7), atol=1e-7)


def test_without_a_gradient_weight_decay_alone_shrinks_the_weights():
    made, params = optimizer(config_of(optimizer="sgd", weight_decay=0.2), size=50), jnp.arange(7.0)
    state = made.init(params)
    for _ in range(3):
        update, state = made.update(jnp.zeros(7), state, params)
        params = optax.apply_updates(params, update)
    np.testing.assert_allclose(np.asarray(params), (1 - 0.2 * RATE) ** 3 * np.arange(7), rtol=1e-6)


@pytest.mark.parametrize("decay", ["constant", "cosine", "paper"])
def test_the_learning_rate_rises_linearly_and_then_falls_as_without_a_warm_up(decay):
    """As in a training that is as much shorter."""
    after, short = (
        learning_rate(config_of(steps=steps, warm_up=warm_up, decay=decay), size=4)
        for steps, warm_up in ((110, 10), (100, 0))
    )
    np.testing.assert_allclose(np.array([after(i) for i in range(10)]), RATE * np.arange(1, 11) / 10, rtol=1e-6)
    np.testing.assert_array_equal([after(10 + i) for i in range(101)], [short(i) for i in range(101)])


def test_the_cosine_begins_at_the_learning_rate_and_ends_at_nothing():
    rate = learning_rate(config_of(decay="cosine"), size=50)
    np.testing.assert_allclose(np.array([rate(i) for i in (0, 50, 100)]), [RATE, RATE / 2, 0], atol=1e-7)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"momentum": 0.9}, "momentum: got 0.9, needs --optimizer sgd, or 0"),
        ({"optimizer": "adamw", "weight_decay": 0.1}, "weight_decay: got 0.1, needs 0 with adamw"),
        ({"warm_up": 1}, "warm_up: got 1, needs 0, or an integer from 2"),
        ({"warm_up": 100}, "warm_up: got 100, needs 0, or an integer from 2 to below the number of steps, 100"),
        ({"clip": -1.0}, "clip: got -1.0, needs a number from 0"),
    ],
)
def test_an_option_that_would_have_no_effect_or_no_sense_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        config_of(**options)
