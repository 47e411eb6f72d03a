"""Attribution: the derivative through a training is its derivative, scores find what was planted, and their judge."""

import dataclasses
import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from hierdiff.grammar_config import GrammarConfig
from hierdiff.learning.devices import ensemble_mesh, over_networks
from hierdiff.learning.loop import TrainingSet, batch_gradient, make_step
from hierdiff.learning.metagradient import block_length, make_pull, metagradient
from hierdiff.learning.network import TreeConfig
from hierdiff.learning.optimizer import optimizer
from hierdiff.learning.sample_gradients import sample_gradients
from hierdiff.learning.train_config import TrainConfig
from hierdiff.measures.attribution import (
    datamodelling_score,
    gradient_products,
    memorizer_weights,
    projected,
    shared_heights,
    trak,
)
from hierdiff.noising.process import cross_entropy
from hierdiff.questions import attribution as question
from hierdiff.questions.attribution import METAGRADIENT, METHODS, measure, sentence, summarise, table
from hierdiff.questions.configs import AttributionConfig
from hierdiff.questions.retraining import cost
from hierdiff.worlds.sequences import Sequences


def test_blocks_are_about_as_long_as_there_are_of_them():
    assert [block_length(steps) for steps in (4, 12, 36, 1000)] == [2, 3, 6, 25]


VOCAB, LEAVES, LEVELS = 3, 4, 50
TRAIN = TrainConfig(steps=36, batch=8, optimizer="smooth_adam", learning_rate=0.03, first_checkpoint=1)


def linear(params, x_t):
    return jax.nn.log_softmax((x_t.reshape(len(x_t), -1) @ params["w"]).reshape(x_t.shape))


def losses_of_linear(params, samples, keys):
    """Cross-entropy of a linear model of noised sequences, whose noise grows with the level."""
    noise = jax.vmap(lambda key: jax.random.normal(key, (LEAVES, VOCAB)))(keys)
    x_t = jax.nn.one_hot(samples.x_0, VOCAB) + (samples.t.astype(float) / LEVELS)[:, None, None] * noise
    return cross_entropy(samples.x_0, linear(params, x_t))


class Toy:
    """A training of the linear model on nine sequences, of which the first three are one, on two devices."""

    def __init__(self):
        sequences = jax.random.randint(jax.random.key(2), (9, LEAVES), 0, VOCAB).at[:3].set(jnp.array([0, 2, 1, 2]))
        self.data = TrainingSet(sequences, jnp.linspace(0.8, 1.2, 9))
        self.mesh, self.key, transformation = ensemble_mesh(2), jax.random.key(1), optimizer(TRAIN, 9)
        step_of = make_step(batch_gradient(losses_of_linear, TRAIN, LEVELS), transformation)
        params = {"w": 0.1 * jax.random.normal(jax.random.key(0), (LEAVES * VOCAB, LEAVES * VOCAB))}
        self.x_t = jax.nn.one_hot(sequences[:1], VOCAB) + jax.random.normal(jax.random.key(3), (8, LEAVES, VOCAB))

        def trained(weight, until):
            def step(i, state):
                return step_of(*state, self.data._replace(weight=weight), self.key, i)[1:]

            state = jax.lax.fori_loop(0, until, step, (params, transformation.init(params)))
            return state, self.quantities(state[0])

        self.train = jax.jit(over_networks(trained, self.mesh, stacked=1))
        self.pull = make_pull(losses_of_linear, transformation, TRAIN, LEVELS, self.mesh)
        # Each weight raised, each lowered, and all as they are.
        nudged = 1e-5 * jnp.concatenate([jnp.eye(9), -jnp.eye(9), jnp.zeros((2, 9))])
        self.after = {until: self.train(self.data.weight[None] + nudged, until) for until in range(0, 37, 6)}
        self.blocks = [(first, jax.tree.map(lambda x: x[-1], state)) for first, (state, _) in self.after.items()]

    def quantities(self, params):
        """The loss of the sequence that is repeated, and a square."""
        tokens = jnp.broadcast_to(self.data.x_0[:1], (8, LEAVES))
        return jnp.stack([cross_entropy(tokens, linear(params, self.x_t)).mean(), jnp.square(params["w"]).sum()])

    def direct(self, step):
        """A share of the devices has one quantity each."""
        _, (params, _) = self.blocks[step // 6]
        return jax.tree.map(lambda x: x[:, None], jax.jacrev(self.quantities)(params))

    def metagradient(self, step):
        return metagradient(self.pull, self.direct(step), self.blocks[: step // 6], self.data, self.key)[:, 0]


@pytest.fixture(scope="module")
def toy():
    with jax.enable_x64(True):
        return Toy()


def test_the_metagradient_is_the_derivative_of_the_training(toy, float64):
    """Central differences of a training in float64, by each weight, at the end of two blocks and of all."""
    for step in (12, 36):
        up, down = np.split(np.asarray(toy.after[step][1])[:18], 2)
        np.testing.assert_allclose(toy.metagradient(step), (up - down).T / 2e-5, rtol=1e-5, atol=1e-8)
    assert np.abs(up - down).max() > 1e-8


def test_each_method_finds_a_sequence_that_is_repeated(toy, float64):
    """It is the target too: its three copies have the lowest scores."""
    _, (params, _) = toy.blocks[-1]
    gradients = sample_gradients(losses_of_linear, toy.data.x_0, jax.random.key(4), 16, LEVELS)
    mine, normalised = jax.jit(gradients)(jnp.arange(9), params)
    of_target = toy.direct(36)["w"][:1].reshape(1, -1)
    onto = functools.partial(projected, jax.random.key(5), size=400)
    log_likelihood = -0.5 * jnp.square(toy.x_t[..., None, :] - jnp.eye(VOCAB)[None, None]).sum(-1)
    scores = {
        "metagradient": toy.metagradient(36)[:1],
        "TracIn": gradient_products(of_target, mine, 1.0),
        "Diffusion-ReTrac": gradient_products(of_target / jnp.linalg.norm(of_target), normalised, 1.0),
        "TRAK": trak(onto(of_target), onto(mine)),
        "memorizer": -memorizer_weights(toy.data.x_0, log_likelihood).mean(0, keepdims=True),
    }
    assert [*scores] == [*METHODS]
    for method, [score] in scores.items():
        assert set(np.argsort(score)[:3].tolist()) == {0, 1, 2}, method
        assert (score[:3] < 0).all(), method


def test_the_plan_says_how_many_states_are_alive():
    assert any("12 states of" in line and "one for each of 4 quantities" in line for line in cost(CONFIG))


def test_trak_is_its_formula_and_projections_keep_products():
    rng = np.random.default_rng(0)
    of_quantities, of_samples = (rng.standard_normal((n, 6)).astype(np.float32) for n in (3, 4))
    damping = np.square(of_samples).sum(1).mean()
    expected = -of_quantities @ np.linalg.inv(of_samples.T @ of_samples + damping * np.eye(6)) @ of_samples.T
    found = trak(jnp.asarray(of_quantities), jnp.asarray(of_samples))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    onto = np.asarray(projected(jax.random.key(0), jnp.asarray(of_samples), 4096))
    np.testing.assert_allclose(onto @ onto.T, of_samples @ of_samples.T, atol=0.5)


def test_the_datamodelling_score_is_spearmans_correlation():
    rng = np.random.default_rng(0)
    scores, weight, truth = (
        rng.standard_normal((2, 7)),
        1.0 * (rng.uniform(size=(12, 7)) < 0.5),
        rng.standard_normal((2, 12)),
    )
    predicted = scores @ weight.T
    expected = [float(np.asarray(spearmanr(*each))[0]) for each in zip(predicted, truth, strict=True)]
    np.testing.assert_allclose(datamodelling_score(scores, weight, truth), expected)
    # A subset that is drawn twice counts twice, by its rank among all.
    counts = np.array([12 * [1.0], [2.0, *10 * [1.0], 0.0]])
    once, drawn = datamodelling_score(scores, weight, truth, counts)
    np.testing.assert_allclose(once, expected)
    ranks = rankdata([predicted[0], truth[0]], axis=1)[:, [0, *range(11)]]
    np.testing.assert_allclose(drawn[0], np.corrcoef(ranks)[0, 1])


def test_the_largest_block_that_two_sequences_share_stands_at_the_same_place():
    a = np.array([[0, 1, 2, 3, 0, 1, 2, 3]])
    b = np.array(
        [
            [0, 1, 2, 3, 0, 1, 2, 3],
            [0, 1, 2, 3, 9, 9, 9, 9],
            [9, 9, 2, 3, 9, 1, 9, 9],
            [9, 1, 2, 9, 9, 9, 9, 9],
            8 * [9],
        ]
    )
    assert shared_heights(a, b, 2).tolist() == [[3, 2, 1, 0, -1]]


CONFIG = AttributionConfig(
    size=12,
    steps=36,
    batch=16,
    learning_rate=3e-3,
    checkpoints=3,
    held_out=100,
    targets=2,
    draws=8,
    left_out=(0.5, 0.1),
    subsets=12,
    alone=3,
    projections=64,
    grammar=GrammarConfig(depth=1, branching=4),
    network=TreeConfig(width=8),
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """What is measured where the first target stands three times in the training set; its pieces, and the world."""
    folder = tmp_path_factory.mktemp("attribution")
    world = Sequences.set_up(CONFIG.training)
    world = dataclasses.replace(world, train=world.train.at[0, :3].set(world.held_out[0]))
    return measure(CONFIG, world, folder), folder, world


@pytest.mark.slow
def test_each_method_finds_a_sequence_that_is_repeated_in_a_training_set(planted):
    results, _, _ = planted
    assert results.shared.values[0, :3].tolist() == [1, 1, 1]
    for method in METHODS:
        scores = results.score.sel(source=method).isel(step=-1, quantity=0).values
        assert set(np.argsort(scores)[:3]) == {0, 1, 2}, method
        assert (scores[:3] < 0).all(), method


@pytest.mark.slow
def test_retrained_networks_are_the_first_one_but_for_what_is_left_out(planted):
    """The metagradient says what leaving out one sequence, and a tenth, does to each loss and each part."""
    results, _, _ = planted
    changes = results.truth_alone - results.truth_whole
    told = (
        -results.score.sel(source=METAGRADIENT)
        .isel(sequence=results.alone.values)
        .transpose("sequence", "step", "quantity")
    )
    assert np.square(told.values - changes.values).mean() < 0.3 * np.square(changes.values).mean()
    lost = results.weight.values[:12].sum(1)
    assert (lost == 6).all()
    assert len(np.unique(results.truth.values[:12, -1, 0])) == 12


@pytest.mark.slow
def test_what_is_said_of_it(planted):
    results, _, _ = planted
    found = summarise(results)
    at_end = [row for row in found["scores"] if (row["share"], row["step"], row["kind"]) == (0.5, 36, question.LOSS)]
    scores = {row["method"]: row["value"] for row in at_end}
    assert scores[METAGRADIENT] > 0.7
    best = max(scores, key=lambda method: scores[method])
    lines, said = table(found), sentence(found)
    assert sum(METAGRADIENT in line for line in lines) >= 4
    assert f"end, by {best}, score {scores[best]:.2f} (" in said
    assert said.endswith("changes at every checkpoint.")


@pytest.mark.slow
def test_what_is_gone_on_with_gives_the_same_numbers(planted, tmp_path):
    results, folder, world = planted
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    pieces = sorted((tmp_path / "attribution.pieces").glob("*.npz"))
    for place in (1, 4, -1):
        pieces[place].unlink()
    assert question.measure(CONFIG, world, tmp_path).identical(results)
