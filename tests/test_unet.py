"""The U-Net: its convolution is one, it sees all pixels, channels and the time, and its sizes are checked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hierdiff.learning.network import UNetConfig
from hierdiff.learning.unet import Convolution, Double, Halve

CONFIG = UNetConfig(channels=8, grids=2, heads=1)


@pytest.mark.parametrize(
    ("layer", "shape", "strides", "transposed"),
    [(Convolution, (3, 3), (1, 1), False), (Halve, (2, 2), (2, 2), False), (Double, (2, 2), (2, 2), True)],
)
def test_products_of_neighbourhoods_are_convolutions(layer, shape, strides, transposed):
    """Against flax's own layers, with the same weights."""
    ours = layer(3, 5, rngs=nnx.Rngs(0))
    kind = nnx.ConvTranspose if transposed else nnx.Conv
    theirs = kind(3, 5, shape, strides=strides, padding="SAME", use_bias=False, rngs=nnx.Rngs(1))
    weights = ours.product.kernel[...]
    if transposed:
        # A transposed convolution turns its kernel round.
        theirs.kernel[...] = weights.reshape(3, 2, 2, 5).transpose(1, 2, 0, 3)[::-1, ::-1]
    else:
        theirs.kernel[...] = weights.reshape(*shape, 3, 5)
    x = jax.random.normal(jax.random.key(2), (2, 6, 8, 3))
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)


@pytest.mark.parametrize(("sizes", "channels"), [((8,), 1), pytest.param((8, 3), 3, marks=pytest.mark.slow)])
def test_the_output_depends_on_every_pixel_and_channel_and_on_time(sizes, channels):
    network = CONFIG.build(*sizes)
    noise = jax.jit(lambda params, x, t: network.forward(params, x, t, None))
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    params = jax.tree.map(lambda w: jnp.asarray(0.3 * rng.standard_normal(w.shape), jnp.float32), shapes)
    x, t = jax.random.normal(jax.random.key(1), (2, 8, 8, channels)), jnp.array([3, 700], jnp.int32)
    # Of each channel of the output, in one pixel of the first image.
    gradients = jax.jacrev(lambda x: noise(params, x, t)[0, 0, 0])(x)
    assert gradients.shape == (channels, *x.shape)
    assert (gradients[:, 0] != 0).all()
    assert (gradients[:, 1] == 0).all()
    assert jnp.linalg.matrix_rank(gradients.reshape(channels, -1)) == channels
    here, at_other_times = noise(params, x, t), noise(params, x, t[::-1])
    assert here.shape == x.shape
    assert not np.isclose(here, at_other_times).all((0, 1, 2)).any()


@pytest.mark.slow
def test_the_papers_size():
    """Three grids with 32, 64 and 128 channels."""
    network = UNetConfig(channels=32, grids=3, blocks=2, heads=4).build(32)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    assert 1e6 < sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 4e6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": 12}, "channels: got 12, needs a multiple of 8"),
        ({"grids": 0}, "grids: got 0, needs an integer from 1 to 11"),
        ({"heads": 3}, "heads: got 3, needs a divisor of the widest grid's channels, 64"),
    ],
)
def test_bad_configs_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        UNetConfig(**change)


def test_a_side_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="side: got 10, needs a multiple of 4, for 3 grids"):
        UNetConfig().build(10)
