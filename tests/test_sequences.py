"""The world of sequences: what is drawn for one purpose moves nothing that is drawn for another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierdiff.grammar import GrammarConfig
from hierdiff.learning.devices import over_networks
from hierdiff.learning.loop import Sample
from hierdiff.worlds.run_config import MeasureConfig, OnsetConfig
from hierdiff.worlds.sequences import Sequences

MEASURE = MeasureConfig(held_out=100, members=50, noise=(0.1, 0.3), onset_noise=0.1)
CONFIG = OnsetConfig(sets=2, size=120, grammar=GrammarConfig(depth=2), measure=MEASURE)


def drawn(config):
    world = Sequences.set_up(config)
    return world, world.inputs(config.measure)


@pytest.fixture(scope="module")
def before():
    return drawn(CONFIG)


def test_more_members_and_sets_leave_the_held_out_noise_as_it_was(before):
    measure = dataclasses.replace(MEASURE, members=100)
    # The sequences themselves are drawn after those of all training sets.
    _, after = drawn(dataclasses.replace(CONFIG, measure=measure))
    for name in ("held_out", "any_held_out", "bound"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(before[1], name))
    np.testing.assert_array_equal(after.reference.completions.x_t, before[1].reference.completions.x_t)


def test_another_noise_level_leaves_the_others_as_they_were(before):
    """Between the two, and with it the completions there."""
    _, after = drawn(dataclasses.replace(CONFIG, measure=dataclasses.replace(MEASURE, noise=(0.1, 0.2, 0.3))))
    kept = np.array([0, 2])
    for name in ("held_out", "reference", "members"):
        new, old = getattr(after, name), getattr(before[1], name)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a)[kept], b), new, old)
    assert not np.array_equal(after.held_out.x_t[0], after.held_out.x_t[1])


def test_another_split_draws_all_but_the_grammar_anew(before):
    world, inputs = drawn(dataclasses.replace(CONFIG, split=1))
    for name, x in vars(before[0].grammar).items():
        np.testing.assert_array_equal(getattr(world.grammar, name), x)
    assert not np.array_equal(world.train, before[0].train)
    noise = [np.asarray(each.held_out.x_t - each.held_out.x_t.mean()) for each in (inputs, before[1])]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.5


def test_networks_learn_by_the_loss_that_is_asked_for():
    """Under masking the bound weighs the cross-entropy of the masked leaves by T/t."""
    found, t, grammar = [], jnp.arange(1, 61), GrammarConfig(depth=1)
    for loss in ("cross-entropy", "bound"):
        world = Sequences.set_up(
            dataclasses.replace(CONFIG, grammar=grammar, process="masking", loss=loss, noise_levels=60)
        )
        samples = Sample(jnp.arange(60), world.held_out[:60], t, jnp.ones(60))
        params = jax.vmap(world.network.init)(jax.random.split(jax.random.key(0), 2))
        losses = jax.jit(over_networks(world.example_losses(), world.mesh, stacked=1))
        found.append(np.asarray(losses(params, samples, jax.random.split(jax.random.key(1), 60))))
    np.testing.assert_allclose(found[1], found[0] * 60 / np.asarray(t), rtol=1e-5)
    assert found[0].max() > 1
