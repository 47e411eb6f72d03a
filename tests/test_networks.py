"""The networks: distributions, symmetries that the tree asks for, the paper's size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierdiff.learning.denoiser import network_log_posterior
from hierdiff.learning.network import TransformerConfig, TreeConfig
from hierdiff.noising import Gaussian

TREE = TreeConfig(width=8, expansion=2)
TRANSFORMER = TransformerConfig(width=8, expansion=2, layers=2, heads=2, dropout=0.2)


def inputs(n=3, leaves=8, vocab=5):
    return jax.random.normal(jax.random.key(1), (n, leaves, vocab)), jnp.array([1, 50, 500], jnp.int32)[:n]


@pytest.mark.parametrize("config", [TREE, TRANSFORMER], ids=["tree", "transformer"])
def test_output_is_a_distribution_that_depends_on_every_leaf_and_on_time(config):
    network = config.build(channels=5, vocab=5, depth=3, branching=2)
    params = jax.jit(network.init)(jax.random.key(0))
    log_f_of = network_log_posterior(network, Gaussian(vocab=5))
    log_posterior = jax.jit(lambda x_t, t: log_f_of(params, x_t, t))
    x_t, t = inputs()
    log_f = log_posterior(x_t, t)
    np.testing.assert_allclose(jnp.exp(log_f).sum(-1), 1, atol=1e-5)
    gradient = jax.grad(lambda x: log_posterior(x, t)[0, 0, 0])(x_t)
    assert (jnp.abs(gradient[0]).max(-1) > 0).all()
    assert (gradient[1:] == 0).all()
    assert not np.allclose(log_f, log_posterior(x_t, t[::-1]))


def test_the_tree_has_the_branching_and_depth_of_the_data():
    network = TREE.build(channels=4, vocab=4, depth=2, branching=3)
    x_t, t = inputs(n=2, leaves=9, vocab=4)
    log_f = jax.eval_shape(lambda key: network.forward(network.init(key), x_t, t, None), jax.random.key(0))
    assert log_f.shape == (2, 9, 4)


def test_the_tree_shares_weights_across_a_level():
    """A level more costs two MLPs, however many nodes it has."""
    network = TREE.build(channels=5, vocab=5, depth=3, branching=2)
    deeper = TREE.build(channels=5, vocab=5, depth=4, branching=2)
    shapes = [jax.eval_shape(each.init, jax.random.key(0)) for each in (network, deeper)]
    count, more = (sum(leaf.size for leaf in jax.tree.leaves(each)) for each in shapes)
    per_level = more - count
    width, hidden = 8, 16
    mlps = [(2 * width, width), (3 * width, 2 * width)]
    expected = sum(i * hidden + hidden + width * hidden + hidden * o + o for i, o in mlps)
    assert per_level == expected


def test_the_papers_transformer_has_16_9_million_parameters():
    config = TransformerConfig(width=512, expansion=2, layers=8, heads=4, dropout=0.1)
    shapes = jax.eval_shape(config.build(channels=6, vocab=6, depth=4, branching=2).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == pytest.approx(16.9e6, rel=0.005)


@pytest.mark.parametrize("config", [TREE, TRANSFORMER], ids=["tree", "transformer"])
def test_bfloat16_changes_the_layers_and_not_the_weights(config):
    """The outputs differ by what 8 bits of mantissa, rounded a few times in turn, leave open."""
    outputs = {}
    for dtype in ("float32", "bfloat16"):
        network = dataclasses.replace(config, dtype=dtype).build(channels=5, vocab=5, depth=3, branching=2)
        params = jax.jit(network.init)(jax.random.key(0))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
        # flax's normalisation mixes dtypes on purpose.
        with jax.numpy_dtype_promotion("standard"):
            outputs[dtype] = jax.jit(network.forward)(params, *inputs(), None)
        assert outputs[dtype].dtype == jnp.float32
    difference = jnp.abs(outputs["float32"] - outputs["bfloat16"]).max()
    assert 1e-4 < difference < 0.1


def test_dropout_is_off_without_a_key_and_random_with_one():
    network = TRANSFORMER.build(channels=5, vocab=5, depth=3, branching=2)
    params = jax.jit(network.init)(jax.random.key(0))
    run = jax.jit(lambda key: network.forward(params, *inputs(), key))
    off = run(None)
    np.testing.assert_array_equal(off, run(None))
    assert not np.allclose(off, run(jax.random.key(0)))
    assert not np.allclose(run(jax.random.key(1)), run(jax.random.key(0)))
    np.testing.assert_array_equal(run(jax.random.key(0)), run(jax.random.key(0)))


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        (TreeConfig, {"width": 0}, "width: got 0"),
        (TransformerConfig, {"width": 0}, "width: got 0"),
        (TransformerConfig, {"width": 9, "heads": 2}, "heads: got 2, needs a divisor of the width, 9"),
        (TransformerConfig, {"dropout": 1.0}, "dropout: got 1.0, needs a number from 0 to below 1"),
    ],
)
def test_bad_configs_are_refused(kind, change, words):
    with pytest.raises(ValueError, match=words):
        kind(**change)
