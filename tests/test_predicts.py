"""Networks for sequences that predict the noise or v: what they are trained on, and what their answers are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierdiff.grammar import random_grammar
from hierdiff.learning.denoiser import network_denoiser, network_log_posterior
from hierdiff.learning.devices import ensemble_mesh, over_networks
from hierdiff.learning.loop import Sample, TrainingSet, make_training, token_losses
from hierdiff.learning.network import Network, TreeConfig
from hierdiff.learning.train_config import TrainConfig
from hierdiff.noising import Gaussian
from hierdiff.noising.process import LEAST, corrupt_each, cross_entropy
from hierdiff.posterior import exact_denoiser
from hierdiff.sampling import sample
from hierdiff.worlds.run_config import OnsetConfig

PROCESS = Gaussian(vocab=4, levels=100)
PREDICTS = ("noise", "v")


@pytest.mark.parametrize("predicts", PREDICTS)
def test_what_the_exact_posterior_would_predict_gives_the_exact_posterior_back(predicts, float64):
    """But for what is cut off, at all levels."""
    grammar = random_grammar(jax.random.key(0), depth=2, vocab=4, rules=2)
    exact, t = exact_denoiser(grammar, PROCESS), jnp.arange(1, 101)
    x_t = PROCESS.corrupt(jax.random.key(1), sample(jax.random.key(2), grammar, 100).leaves, t)

    def forward(_, x_t, t, __):
        return PROCESS.prediction_of(x_t, t, exact(x_t, t), predicts)

    network: Network = Network(lambda _: None, forward, predicts)
    found, expected = network_denoiser(network, PROCESS, None)(x_t, t), exact(x_t, t)
    np.testing.assert_allclose(found, expected, atol=4 * LEAST)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-12)
    assert found.min() > LEAST / 2
    assert expected.min() < LEAST / 10


@pytest.mark.parametrize("predicts", PREDICTS)
def test_the_loss_is_the_squared_error_of_what_is_predicted(predicts, float64):
    """Of a network that says nothing but 0.5: the noise is drawn here as it is there."""
    n, t = 30, jnp.arange(30) * 3 + 1
    tokens = jax.random.randint(jax.random.key(0), (n, 2), 0, 4)
    keys, clean = jax.random.split(jax.random.key(1), n), np.eye(4)[np.asarray(tokens)]
    network = Network(lambda _: None, lambda _, x_t, t, __: jnp.full(x_t.shape, 0.5), predicts)
    losses = over_networks(token_losses(network, PROCESS, ensemble_mesh(1)), ensemble_mesh(1), stacked=1)
    found = jax.jit(losses)(jnp.zeros(1), Sample(jnp.arange(n), tokens, t, jnp.ones(n)), keys)[0]
    ab = np.asarray(PROCESS.alpha_bar)[np.asarray(t) - 1][:, None, None]
    noise = (np.asarray(corrupt_each(PROCESS, keys, tokens, t)) - np.sqrt(ab) * clean) / np.sqrt(1 - ab)
    target = {"noise": noise, "v": np.sqrt(ab) * noise - np.sqrt(1 - ab) * clean}[predicts]
    np.testing.assert_allclose(found, np.square(0.5 - target).sum((1, 2)), rtol=1e-9)
    assert abs(noise.mean()) < 0.3
    assert abs(noise.std() - 1) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("predicts", [pytest.param("noise", marks=pytest.mark.slow), "v"])
def test_training_teaches_what_is_predicted(predicts):
    """Two sequences: the answers come near them, though no cross-entropy is trained; other networks learn otherwise."""
    network = TreeConfig(width=16).build(channels=4, vocab=4, depth=2, branching=2)._replace(predicts=predicts)
    data, key, mesh = jnp.array([[[0, 1, 2, 3], [3, 3, 0, 1]]], jnp.int32), jax.random.key(0), ensemble_mesh(1)
    config = TrainConfig(steps=300, batch=32, learning_rate=3e-3, first_checkpoint=1)
    losses, of_all = token_losses(network, PROCESS, mesh), TrainingSet(data, jnp.ones((1, 2)))
    begun = make_training(
        network.init, losses, config, mesh, of_all, init_keys=key[None], keys=key[None], levels=PROCESS.levels
    )
    x_0, t = jnp.tile(data[0], (32, 1)), jnp.full(64, 30, jnp.int32)
    log_posterior = network_log_posterior(network, PROCESS)

    @jax.jit
    def loss(params):
        x_t = PROCESS.corrupt(jax.random.key(5), x_0, t)
        return cross_entropy(x_0, log_posterior(jax.tree.map(lambda x: x[0], params), x_t, t)).mean()

    before, after = loss(begun.state.params), loss(begun.advance(begun.state, of_all, begun.keys, 0, 300).average)
    assert before > 4
    assert after < before / 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"process": "masking", "predicts": "v"}, "predicts: got 'v', needs x0 under masking noise"),
        ({"process": "uniform", "predicts": "noise"}, "predicts: got 'noise', needs x0 under uniform noise"),
        ({"loss": "bound", "predicts": "noise"}, "loss: got 'bound', needs cross-entropy: networks that predict noise"),
    ],
)
def test_what_cannot_be_predicted_or_would_have_no_effect_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        OnsetConfig(**options)
