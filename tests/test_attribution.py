"""Attribution: the derivative through a training is its derivative, scores find what was planted, and their judge."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from hierdiff.grammar_config import GrammarConfig
from hierdiff.learning.devices import ensemble_mesh, over_networks
from hierdiff.learning.loop import TrainingSet, make_step, token_losses
from hierdiff.learning.metagradient import block_length, make_pull, metagradient
from hierdiff.learning.network import TreeConfig
from hierdiff.learning.optimizer import optimizer
from hierdiff.learning.train_config import TrainConfig
from hierdiff.measures.attribution import datamodelling_score, projected, shared_heights, trak
from hierdiff.noising import Gaussian
from hierdiff.questions import attribution as question
from hierdiff.questions.attribution import METAGRADIENT, METHODS, measure, sentence, summarise, table
from hierdiff.questions.configs import AttributionConfig
from hierdiff.questions.retraining import cost
from hierdiff.worlds.sequences import Sequences


def test_blocks_are_about_as_long_as_there_are_of_them():
    assert [block_length(steps) for steps in (4, 12, 36, 1000)] == [2, 3, 6, 25]


def test_the_metagradient_is_the_derivative_of_the_training(float64):
    """Central differences of a training in float64, by each weight, at the end of its second block and of its third."""
    with jax.numpy_dtype_promotion("standard"):
        compare_with_differences()


def compare_with_differences():
    process, config = (
        Gaussian(vocab=3, levels=50),
        TrainConfig(steps=9, batch=8, optimizer="smooth_adam", first_checkpoint=1),
    )
    network = TreeConfig(width=8).build(channels=3, vocab=3, depth=1, branching=2)
    mesh, key, weight = ensemble_mesh(2), jax.random.key(1), jnp.linspace(0.5, 1.5, 5)
    data = TrainingSet(jax.random.randint(jax.random.key(2), (5, 2), 0, 3), weight)
    losses, transformation = token_losses(network, process, mesh), optimizer(config, 5)
    step_of = make_step(losses, transformation, config, process.levels)
    params = jax.tree.map(lambda x: x.astype(float), network.init(jax.random.key(0)))
    x_t = jax.random.normal(jax.random.key(3), (4, 2, 3))

    def shown(params):
        """Two quantities."""
        return jnp.square(network.forward(params, x_t, jnp.array([5, 10, 20, 40]), None)).sum((1, 2))[:2]

    def trained(weight, until):
        state = jax.lax.fori_loop(
            0,
            until,
            lambda i, state: step_of(*state, data._replace(weight=weight), key, i)[1:],
            (params, transformation.init(params)),
        )
        return state, shown(state[0])

    # Each weight raised, each lowered, and all as they are.
    rows = weight[None] + 1e-5 * jnp.concatenate([jnp.eye(5), -jnp.eye(5), jnp.zeros((2, 5))])
    train = jax.jit(over_networks(trained, mesh, stacked=1))
    after = {until: train(rows, until) for until in (0, 3, 6, 9)}
    blocks = [(first, jax.tree.map(lambda x: x[-1], state)) for first, (state, _) in after.items()]
    pull, ahead = make_pull(losses, transformation, config, process.levels, mesh), jax.jit(jax.jacrev(shown))
    for number in (2, 3):
        direct = jax.tree.map(lambda x: x[:, None], ahead(blocks[number][1][0]))
        found = metagradient(pull, direct, blocks[:number], data, key)[:, 0]
        up, down = np.split(np.asarray(after[3 * number][1])[:10], 2)
        np.testing.assert_allclose(found, (up - down).T / 2e-5, rtol=1e-5, atol=1e-8)
    assert np.abs(found).max() > 1e-3


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
    expected = [spearmanr(*each).statistic for each in zip(predicted, truth, strict=True)]
    np.testing.assert_allclose(datamodelling_score(scores, weight, truth), expected)
    # A subset that is drawn twice counts twice, by its rank among all.
    once, twice = np.ones(12), np.array([2.0] + 10 * [1.0] + [0.0])
    ranks = [spearmanr(x, np.arange(12)) and np.argsort(np.argsort(x)) for x in (predicted[0], truth[0])]
    rows = [0, *range(11)]
    found = datamodelling_score(scores, weight, truth, np.stack([once, twice]))
    np.testing.assert_allclose(found[0], expected)
    if len(np.unique(predicted[0])) == 12:
        np.testing.assert_allclose(found[1, 0], np.corrcoef(ranks[0][rows], ranks[1][rows])[0, 1])


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


def test_each_method_finds_a_sequence_that_is_repeated(planted):
    results, _, _ = planted
    assert results.shared.values[0, :3].tolist() == [1, 1, 1]
    for method in METHODS:
        scores = results.score.sel(source=method).isel(step=-1, quantity=0).values
        assert set(np.argsort(scores)[:3]) == {0, 1, 2}, method
        assert (scores[:3] < 0).all(), method


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


def test_what_is_said_of_it(planted):
    results, _, _ = planted
    found = summarise(results, CONFIG)
    for row in found["scores"]:
        if row["method"] == METAGRADIENT and row["share"] == 0.5:
            assert row["value"] > 0.5
    lines, said = table(found), sentence(found)
    assert sum(METAGRADIENT in line for line in lines) >= 4
    assert "told best by metagradient" in said
    assert f"up to step {found['predicts_until']}" in said


@pytest.mark.slow
def test_what_is_gone_on_with_gives_the_same_numbers(planted, tmp_path, monkeypatch):
    results, folder, world = planted
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    pieces = sorted((tmp_path / "attribution.pieces").glob("*.npz"))
    for place in (1, 4, -1):
        pieces[place].unlink()
    assert question.measure(CONFIG, world, tmp_path).identical(results)
