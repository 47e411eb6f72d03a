"""Which sequences are memorized first: planted networks, and covariates against plain counting."""

import collections
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from hierdiff.grammar import random_grammar
from hierdiff.grammar_config import GrammarConfig
from hierdiff.learning.network import Network, TreeConfig
from hierdiff.measures.divergence import log_of
from hierdiff.measures.neighbours import nearest_others
from hierdiff.measures.rarity import block_counts, log_probability, rule_weights
from hierdiff.posterior import leaf_posterior
from hierdiff.questions import first
from hierdiff.questions.configs import FirstConfig
from hierdiff.sampling import data_sets, sample
from hierdiff.worlds.finished import Run
from hierdiff.worlds.run_config import LabelConfig, MeasureConfig, OnsetConfig
from hierdiff.worlds.sequences import Sequences

STEPS = [10, 20, 40, 80, 160, 320]
CONFIG = OnsetConfig(
    sets=3,
    size=240,
    repeat=(1, 2, 4),
    grammar=GrammarConfig(depth=3, vocab=4, rules=3),
    network=TreeConfig(width=8),
    measure=MeasureConfig(held_out=100, members=20, noise=(0.15,)),
)


def test_covariates_are_what_counting_gives():
    """Log p by the rules of the derivation that was drawn, blocks by a counter, the nearest other by all distances."""
    sizes = {"depth": 3, "vocab": 4, "rules": 3, "shared": False}
    grammar = random_grammar(jax.random.key(0), sigma=(1.0, 0.0, 2.0), **sizes)
    n = CONFIG.size
    derivation = sample(jax.random.key(1), grammar, n)
    levels, rules = [np.asarray(x) for x in derivation.levels], np.asarray(grammar.log_prob)
    expected = np.zeros((3, n))
    for d in range(3):
        below = levels[d + 1].reshape(n, -1, 2)
        for i, node in np.ndindex(levels[d].shape):
            table = np.asarray(grammar.children[d, levels[d][i, node]])
            (rule,) = np.flatnonzero((table == below[i, node]).all(-1))
            expected[2 - d, i] += rules[d, levels[d][i, node], rule]
    np.testing.assert_allclose(rule_weights(grammar, derivation.leaves), expected, atol=1e-4)
    whole = expected.sum(0) + np.asarray(grammar.log_root)[levels[0][:, 0]]
    np.testing.assert_allclose(log_probability(grammar, derivation.leaves), whole, atol=1e-4)

    train = jnp.concatenate([derivation.leaves, derivation.leaves[:5]])
    for height, found in enumerate(block_counts(train, branching=2)):
        blocks = [[tuple(x) for x in row.reshape(-1, 2**height).tolist()] for row in np.asarray(train)]
        counts = collections.Counter(block for row in blocks for block in row)
        np.testing.assert_allclose(found, [np.mean([np.log(counts[x]) for x in row]) for row in blocks])
    apart = (np.asarray(train)[:, None] != np.asarray(train)[None]).sum(-1) + 100 * np.eye(n + 5, dtype=int)
    nearest = nearest_others(train, 30, vocab=4)
    np.testing.assert_array_equal(nearest, apart.min(1)[:30])
    assert (nearest[:5] == 0).all()


@pytest.fixture(scope="module")
def planted():
    """A run whose networks know of each sequence of a set as much as is said, beside the exact posterior."""
    world = Sequences.set_up(CONFIG)
    grammar, process = world.grammar, world.process

    def forward(known, x_t, t, _):
        train, share = known
        ll, one_hot = process.log_likelihood(x_t, t), jax.nn.one_hot(train, grammar.vocab)
        weight = jax.nn.softmax(jnp.einsum("nlv,plv->np", ll, one_hot)) * share[None]
        exact = leaf_posterior(grammar, ll)
        return log_of(jnp.einsum("np,plv->nlv", weight, one_hot) + (1 - weight.sum(-1))[:, None, None] * exact)

    run = Run(Path(), CONFIG, dataclasses.replace(world, network=Network(world.network.init, forward)), STEPS)
    return run, first.work(run, FirstConfig(targets=240, draws=8, level=0.3))


def shares(run, of):
    """Of each sequence of each set what networks know, by its log-probability and how often it is there."""
    found = []
    for train in np.asarray(run.world.train):
        _, which, counts = np.unique(train, axis=0, return_inverse=True, return_counts=True)
        found.append(of(np.asarray(log_probability(run.world.grammar, jnp.asarray(train))), counts[which.ravel()]))
    return jnp.asarray(np.stack(found), jnp.float32)


@pytest.mark.parametrize("sign", [-1, 1])
def test_networks_that_know_rare_sequences_alone_or_typical_ones_alone_are_told(planted, sign):
    run, work = planted
    half = shares(run, lambda log_p, _: 0.9 * (sign * log_p > np.median(sign * log_p)))
    found = first.FIRST.statistics(run, work.label(len(STEPS) * [work.measure((run.world.train, half))]))
    curves, answer = found.curves().isel(step=-1), first.FIRST.summarise(found)
    assert sign * float(curves.probability) > 0.2 > 2 * float(curves.probability_half)
    words = "as in arXiv 2605.30642," if sign > 0 else "isolated ones, as in arXiv 2606.14390,"
    assert f"{words} by log-probability (steps 10 to 320, " in answer.sentence
    (said,) = [each for each in answer.numbers["told"] if each["name"] == "probability"]
    assert (said["typical"], said["first"], said["last"]) == (sign > 0, STEPS[0], STEPS[-1])
    assert answer.numbers["since"] == STEPS[0]
    # Blocks of likely rules are frequent ones; the distance to the nearest falls.
    assert sign * float(curves.frequency.sel(height=2)) > 0.1
    assert sign * float(curves.distance) < 0
    assert float(curves.reliability) > 0.5
    # The ten most memorized are of that half of their set.
    ranks, n = curves.most_probability.values, found.mean.ranked
    assert (sign * (ranks - n / 2) > -0.1 * n).all()


def test_what_is_there_k_times_and_so_learned_k_times_as_fast_is_memorized_so(planted):
    """Networks know of a sequence what grows with k times the step: the law is k^-1."""
    run, work = planted
    measured = [
        work.measure((run.world.train, shares(run, lambda _, k, step=step: np.clip(k * step / 400, 0, 0.9))))
        for step in STEPS
    ]
    found = first.FIRST.statistics(run, work.label(measured))
    answer = first.FIRST.summarise(found)
    steps = {each["copies"]: each["step"] for each in answer.numbers["copies"]}
    assert list(steps) == [1, 2, 4]
    assert steps[1] > 1.5 * steps[2] > 1.5**2 * steps[4]
    assert answer.numbers["law"].exponent == pytest.approx(-1, abs=0.25)
    assert f"pass 0.3 nats at step (k) {steps[1]:,.0f} (" in answer.sentence
    lines = first.FIRST.table(found.curves())
    assert any("nats, by how often a sequence is in the set" in line for line in lines)


def drawn(sigma, sets=3):
    """A run of data alone, and losses with noise of their own."""
    grammar = dataclasses.replace(CONFIG.grammar, sigma=sigma)
    config = dataclasses.replace(CONFIG, sets=sets, repeat=(1,), grammar=grammar)
    run, shape = Run(Path(), config, Sequences.set_up(config), [1, 2]), (2, sets, sets, 2, config.size)
    return run, first.covariates(run, config.size, 0.1), np.random.default_rng(0).normal(size=shape)


def test_correlations_are_spearmans_within_each_set():
    run, known, loss = drawn(1.0)
    results = known.assign(loss=(("step", *first.DIMENSIONS["loss"]), loss)).assign_coords(step=[1, 2])
    found = first.means(run, results)
    memory = np.stack([np.delete(loss[1, :, a], a, 0).mean((0, 1)) - loss[1, a, a].mean(0) for a in range(3)])
    for name, at in (("probability", {}), ("distance", {}), ("frequency", {"height": 1}), ("weights", {"height": 2})):
        each = [float(np.asarray(spearmanr(memory[a], known[name].sel(at).values[a]))[0]) for a in range(3)]
        assert float(found.mean[name].sel(at)[1]) == pytest.approx(np.mean(each), abs=1e-6)
    np.testing.assert_allclose(found.mean.memory[1], memory.mean(), atol=1e-6)
    # Without the second set there are two, each of which is compared with the other.
    left = np.flatnonzero((found.resampling.left_out == [1, -1]).all(1))[0]
    others = [loss[1, b, a].mean() - loss[1, a, a].mean() for a, b in ((0, 2), (2, 0))]
    np.testing.assert_allclose(found.replicates.memory[left, 1], np.mean(others), atol=1e-6)
    most = np.sort(memory.ravel())[::-1][: first.SHOWN]
    np.testing.assert_allclose(found.mean.most_nats, most)


@pytest.mark.parametrize("sets", [2, 3])
def test_what_is_alike_of_all_sequences_or_of_two_data_sets_is_not_estimated(sets):
    run, known, loss = drawn(0.0, sets)
    results = known.assign(loss=(("step", *first.DIMENSIONS["loss"]), loss)).assign_coords(step=[1, 2])
    found = first.means(run, results)
    answer = first.FIRST.summarise(found)
    assert np.isnan(found.mean.probability).all()
    assert (
        "what log-probability says is not estimated: the rules of this grammar are alike, and --sigma"
        in answer.sentence
    )
    assert not [each for each in answer.numbers["told"] if each["name"] in ("probability", "weights")]
    assert ("arXiv" in answer.sentence) == (sets == 3)
    header = next(line for line in first.FIRST.table(found.curves()) if "reliability" in line and "step" in line)
    assert "log p" in header


def test_some_sequences_are_in_a_set_several_times():
    """The first ones are those of a set without copies, a tenth of the distinct ones is there more than once."""
    once = dataclasses.replace(CONFIG, repeat=(1,), labels=LabelConfig(labels="unique"))
    more = dataclasses.replace(once, repeat=(1, 2, 4))
    plain, world = Sequences.set_up(once), Sequences.set_up(more)
    distinct = world.about["distinct"]
    np.testing.assert_array_equal(world.train[:, :distinct], plain.train[:, :distinct])
    np.testing.assert_array_equal(world.held_out, plain.held_out)
    assert world.train.shape == plain.train.shape
    assert plain.about == {"coincidences": plain.about["coincidences"]}
    labels, counts = np.unique(world.train_labels[1], return_counts=True)
    assert (len(labels), collections.Counter(counts.tolist())) == (distinct, {1: distinct - 20, 2: 10, 4: 10})
    assert world.about["repeated"] == 20 == round(distinct / 10)
    # A copy is the sequence whose label it has.
    for train, of in zip(np.asarray(world.train), np.asarray(world.train_labels)[..., 0], strict=True):
        np.testing.assert_array_equal(train, train[:distinct][of])
    assert f"of the {distinct} distinct ones of a set 20 are there more than once" in world.describe()
    # Of each part of the first ones as many are repeated.
    assert (np.bincount(more.places)[:100] > 1).sum() == 10
    stream = data_sets(jax.random.key(0), world.grammar, sets=2, size=50, held_out=10)
    alike = data_sets(jax.random.key(0), world.grammar, sets=2, size=50, held_out=10, places=np.arange(50))
    np.testing.assert_array_equal(stream.train, alike.train)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"repeat": (2, 4)}, r"repeat: got \(2, 4\), needs 1 among the numbers"),
        ({"repeat": (1, 2, 4, 8), "size": 40}, "size: got 40, needs at least 41, for --repeat 1 2 4 8"),
    ],
)
def test_copies_that_do_not_fit_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(CONFIG, **options)


def test_halves_of_an_odd_number_of_draws_are_refused():
    with pytest.raises(ValueError, match="draws: got 3, needs an even number"):
        FirstConfig(draws=3)
