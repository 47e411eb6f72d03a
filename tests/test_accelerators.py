"""The programs are lowered for GPUs and TPUs on a machine that has none, as they would be there."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from hierdiff import chunks
from hierdiff.grammar import GrammarConfig, random_grammar
from hierdiff.learning import devices
from hierdiff.learning.denoiser import network_denoiser
from hierdiff.learning.network import TransformerConfig, TreeConfig, UNetConfig
from hierdiff.learning.train_config import TrainConfig
from hierdiff.noising import Gaussian, respaced, reverse
from hierdiff.posterior import exact_denoiser, leaf_posterior
from hierdiff.runs import world as worlds
from hierdiff.runs.laboratory import make_measure, prepare
from hierdiff.worlds.images import Images
from hierdiff.worlds.run_config import ImageConfig, ImageMeasureConfig, ImagesConfig, MeasureConfig, OnsetConfig
from hierdiff.worlds.sequences import Sequences

TREE = TreeConfig(width=8)
TRANSFORMER = TransformerConfig(width=8, layers=2, heads=2, dropout=0.1, dtype="bfloat16")


@pytest.fixture(autouse=True)
def as_on_an_accelerator(monkeypatch):
    """Trace what an accelerator would run, on one device."""
    jax.clear_caches()
    for module in (chunks, devices):
        monkeypatch.setattr(module, "on_cpu", lambda: False)
    one = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("network", "batch"))
    monkeypatch.setattr(worlds, "ensemble_mesh", lambda _: one)
    yield
    jax.clear_caches()


def lower(function, *args):
    """The StableHLO of a function for both kinds."""
    exported = jax.export.export(jax.jit(function), platforms=["cuda", "tpu"])(*args)
    assert exported.platforms == ("cuda", "tpu")
    return exported.mlir_module()


def experiment(network):
    config = OnsetConfig(
        sets=2,
        size=100,
        grammar=GrammarConfig(depth=1),
        network=network,
        train=TrainConfig(steps=10, checkpoints=2, batch=8, first_checkpoint=5),
        measure=MeasureConfig(held_out=100, members=50, noise=(0.15,)),
    )
    return config, Sequences.set_up(config)


@pytest.mark.slow
@pytest.mark.parametrize("network", [TREE, TRANSFORMER], ids=["tree", "transformer in bfloat16"])
def test_training_and_measuring(network):
    # flax's normalisation mixes dtypes on purpose.
    with jax.numpy_dtype_promotion("standard" if network.dtype == "bfloat16" else "strict"):
        lower_training_and_measuring(network)


def lower_training_and_measuring(network):
    config, world = experiment(network)
    training, measure = prepare(config, world), make_measure(world)
    text = lower(training.advance, training.state, training.data, training.keys, 0, 5)
    # The networks are vectorised: their products have a network axis, and the steps are the one loop.
    assert len(re.findall(r"stablehlo.while", text)) == 1
    assert re.search(r"dot_general.*batching_dims = \[0\] x \[0\]", text)
    assert ("bf16" in text) == (network.dtype == "bfloat16")
    assert "stablehlo.dot_general" in lower(measure, training.state.average, world.inputs(config.measure))


@pytest.mark.slow
def test_training_and_measuring_on_images():
    config = ImagesConfig(
        sets=2,
        size=50,
        images=ImageConfig(side=4),
        network=UNetConfig(channels=8, grids=2),
        train=TrainConfig(steps=10, checkpoints=2, batch=8, first_checkpoint=5),
        measure=ImageMeasureConfig(held_out=100, members=50, draws=1, noise=(0.1,)),
    )
    rng = np.random.default_rng(0)
    train, held_out = (jnp.asarray(rng.uniform(-1, 1, (*n, 4, 4, 1)), jnp.float32) for n in ((2, 50), (100,)))
    world = Images(
        process=Gaussian(levels=100),
        train=train,
        held_out=held_out,
        set_of=np.arange(2),
        network=config.network.build(4, 1),
        key=jax.random.key(0),
    )
    training, measure = prepare(config, world), make_measure(world)
    text = lower(training.advance, training.state, training.data, training.keys, 0, 5)
    assert re.search(r"dot_general.*batching_dims = \[0\] x \[0\]", text)
    assert "stablehlo.dot_general" in lower(measure, training.state.average, world.inputs(config.measure))


@pytest.mark.slow
def test_the_exact_posterior_asks_for_the_highest_precision():
    grammar = random_grammar(jax.random.key(0), depth=3)
    text = lower(lambda ll: leaf_posterior(grammar, ll), jnp.zeros((40, 8, 6)))
    products = re.findall(r"stablehlo.dot_general.*", text)
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in product for product in products)


@pytest.mark.slow
def test_reverse_diffusion():
    _, world = experiment(TREE)
    process = Gaussian(vocab=6, levels=100)
    params = world.network.init(jax.random.key(0))
    start = jnp.zeros((20, 2, 6))
    for denoiser in (network_denoiser(world.network, process, params), exact_denoiser(world.grammar, process)):

        def chain(x, denoiser=denoiser):
            return reverse(jax.random.key(1), denoiser, process, x, respaced(100, 10), batch=8)

        assert "stablehlo.while" in lower(chain, start)
