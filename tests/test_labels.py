"""Labels: networks read them, training drops them, and what is measured with them is measured against the exact."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierdiff.learning.denoiser import Labelled
from hierdiff.learning.devices import ensemble_mesh, over_networks
from hierdiff.learning.loop import Sample, token_losses
from hierdiff.learning.network import Network, TransformerConfig, TreeConfig
from hierdiff.measures.divergence import log_of
from hierdiff.noising import Gaussian, Masking
from hierdiff.posterior import leaf_posterior, memorizer, node_posteriors
from hierdiff.questions import attackers, membership, noise
from hierdiff.questions.configs import MembershipConfig, NoiseConfig
from hierdiff.runs.laboratory import label, make_measure, statistics
from hierdiff.worlds.finished import Run
from hierdiff.worlds.run_config import GrammarConfig, LabelConfig, MeasureConfig, OnsetConfig
from hierdiff.worlds.sequences import Sequences

KEY = jax.random.key(7)
SIZES = {"channels": 3, "vocab": 3, "depth": 2, "branching": 2}
MEASURE = MeasureConfig(held_out=100, members=40, noise=(0.1, 0.3), onset_noise=0.1)


def config_of(process="gaussian", **labels):
    return OnsetConfig(
        sets=2,
        size=60,
        process=process,
        noise_levels=100,
        grammar=GrammarConfig(depth=2, vocab=3, rules=2),
        labels=LabelConfig(**labels),
        network=TreeConfig(width=8),
        measure=MEASURE,
    )


@pytest.mark.parametrize("kind", [TreeConfig(width=8), TransformerConfig(width=8, layers=1, heads=2)], ids=["tree", ""])
def test_networks_read_labels_where_there_are_any(kind):
    network = kind.build(**SIZES, labels=5, label_level=1)
    params = jax.tree.map(lambda x: 3 * x, network.init(jax.random.key(0)))
    x, t = jax.random.normal(jax.random.key(1), (4, 4, 3)), jnp.full(4, 7)
    labels = jnp.array([[0, 4], [-1, 2], [3, -1], [-1, -1]])
    told = network.forward(params, x, t, None, labels)
    plain = network.forward(params, x, t, None)
    np.testing.assert_array_equal(told[3], plain[3])
    assert (abs(told - plain)[:3].max((1, 2)) > 1e-3).all()
    other = network.forward(params, x, t, None, labels.at[0, 1].set(1))
    assert abs(other[0] - told[0]).max() > 1e-3
    np.testing.assert_array_equal(other[1:], told[1:])
    assert "label" not in str(jax.tree.structure(kind.build(**SIZES).init(jax.random.key(0))))


def test_labels_are_dropped_in_so_many_sequences():
    """All labels of a sequence together, of each sequence by its own key."""
    network, process, n = (
        TreeConfig(width=8).build(**SIZES, labels=3, label_level=1),
        Gaussian(vocab=3, levels=100),
        2000,
    )
    params = jax.tree.map(lambda x: 3 * x, network.init(jax.random.key(0)))
    labels, keys = jnp.tile(jnp.array([[1, 2]]), (n, 1)), jax.random.split(jax.random.key(1), n)
    samples = Sample(jnp.arange(n), jnp.zeros((n, 4), jnp.int32), jnp.full(n, 50), jnp.ones(n), labels)

    def losses(drop, samples):
        mesh = ensemble_mesh(1)
        of_networks = over_networks(token_losses(network, process, mesh, label_drop=drop), mesh, stacked=1)
        return np.asarray(jax.jit(of_networks)(jax.tree.map(lambda x: x[None], params), samples, keys))[0]

    always, never = losses(0.0, samples), losses(0.0, samples._replace(labels=-jnp.ones((n, 2), jnp.int32)))
    some = losses(0.3, samples)
    dropped = some == never
    assert (dropped | (some == always)).all()
    assert (always != never).mean() > 0.99
    assert dropped.mean() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("process", ["gaussian", "masking"])
def test_true_labels_are_the_symbols_of_the_derivations(process):
    world = Sequences.set_up(config_of(process, labels="level", label_level=1))
    for tokens, labels in ((world.train[1], world.train_labels[1]), (world.held_out, world.held_out_labels)):
        clean = jnp.where(jax.nn.one_hot(tokens, 3) > 0, 0.0, -jnp.inf)
        np.testing.assert_array_equal(node_posteriors(world.grammar, clean)[1].argmax(-1), labels)


def test_random_labels_and_labels_of_ones_own():
    world = Sequences.set_up(config_of(labels="random", label_level=1))
    assert world.train_labels.shape == (2, 60, 2)
    assert set(np.unique(world.train_labels)) == {0, 1, 2}
    true = Sequences.set_up(config_of(labels="level", label_level=1))
    np.testing.assert_array_equal(world.train, true.train)
    assert 0.2 < (np.asarray(world.train_labels) == np.asarray(true.train_labels)).mean() < 0.5
    unique = Sequences.set_up(config_of(labels="unique"))
    np.testing.assert_array_equal(unique.train_labels[1, :, 0], np.arange(60))
    assert unique.held_out_labels is None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planted(Sequences):
    """Networks that are exact posteriors, given the labels that they are shown or not."""

    def answer(self, params, shown, t):
        x_t, labels = shown if isinstance(shown, Labelled) else (shown, None)
        if not self.labels_of_law:
            labels = None
        f = leaf_posterior(self.grammar, self.process.log_likelihood(x_t, t), labels=labels)
        return log_of((1 - params) * f + params / self.grammar.vocab)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("level", "random")), "unique"]
)
def test_the_exact_posterior_given_the_labels_has_no_error(kind):
    """What is measured of it, at each height and of the bound; another one has."""
    config = config_of(labels=kind, label_level=0 if kind == "unique" else 1)
    plain = Sequences.set_up(config)
    world = Planted(**vars(plain))
    inputs = world.inputs(MEASURE)
    found = {}
    for name, by in (("exact", 0.0), ("off", 0.3)):
        measured = jax.tree.map(np.asarray, make_measure(world)(jnp.full(2, by), inputs))
        along = {"step": [1], "noise": list(MEASURE.noise)}
        found[name] = statistics(Sequences, label(along, world, world.references(inputs), [measured])).curves()
    exact, off = found["exact"].isel(step=0), found["off"].isel(step=0)
    for curve in ("error", "common", "data_dependent", "split", "excess", "excess_bound"):
        np.testing.assert_allclose(exact[curve], 0, atol=2e-5, err_msg=curve)
    np.testing.assert_allclose(exact.divergence.sel(filtered=0), 0, atol=2e-5)
    assert (off.excess > 0.05).all()
    assert (off.divergence.sel(filtered=0) > 0.05).all()
    assert (off.error.sel(height=0) > 0.001).all()
    # Labels say something of the law, or nothing.
    unlabelled = Sequences.set_up(config_of())
    reference = unlabelled.references(unlabelled.inputs(MEASURE))["increment"]
    same = np.allclose(world.references(inputs)["increment"], reference, atol=1e-5)
    assert same == (kind != "level")


@pytest.mark.slow
def test_with_masks_too():
    world = Planted(**vars(Sequences.set_up(config_of("masking", labels="level", label_level=0))))
    assert isinstance(world.process, Masking)
    inputs = world.inputs(MEASURE)
    measured = make_measure(world)(jnp.zeros(2), inputs)
    for name in ("spectrum", "excess", "excess_bound"):
        np.testing.assert_allclose(measured[name], 0, atol=2e-5, err_msg=name)
    assert float(measured["learned"].max()) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("known", [0.9, 0.0])
def test_what_only_the_branch_with_labels_knows_is_found_with_labels(known):
    """Networks that are exact, but for this share of the memorizer of their own set where they are shown labels."""
    config = dataclasses.replace(
        config_of(labels="level", label_level=1), sets=3, grammar=GrammarConfig(depth=3, vocab=4, rules=3)
    )
    world = Sequences.set_up(config)
    grammar, process = world.grammar, world.process

    def forward(train, x_t, t, _, labels=None):
        ll = process.log_likelihood(x_t, t)
        exact = leaf_posterior(grammar, ll, labels=labels)
        return log_of(exact if labels is None else (1 - known) * exact + known * memorizer(train, ll))

    run = Run(Path(), config, dataclasses.replace(world, network=Network(world.network.init, forward)), [1, 2])
    asked = MembershipConfig(targets=60, draws=4)
    score = attackers.make_score(run, KEY, asked, attackers.Targets.draw(run, KEY, asked))(world.train)
    for name in ["calibrated"] if known else ["calibrated", "conditional"]:
        np.testing.assert_allclose(score[name], 0, atol=2e-4)
    # Of labels that are not true, the exact loss would be beyond all bounds.
    assert max(abs(x).max() for x in score.values()) < 20
    work = membership.work(run, asked)
    results = work.label(2 * [work.measure(world.train)])
    found = membership.MEMBERSHIP.statistics(run, results)
    answer, curves = membership.MEMBERSHIP.summarise(found), found.curves()
    assert not np.isfinite(answer.numbers["since"])
    assert np.isfinite(answer.numbers["since_conditional"]) == (known > 0)
    assert "AUC, conditional" in membership.MEMBERSHIP.table(curves)[1]
    assert f"with both losses given the labels {'from step 1 on' if known else 'at no step'}" in answer.sentence
    if known:
        assert float(curves.area.isel(step=-1).sel(attack="conditional")) > 0.7


@pytest.mark.slow
def test_without_true_labels_there_are_two_attacks():
    """Random labels have no exact loss; the symbols of a level are those that networks were told."""
    grammar = GrammarConfig(depth=2, vocab=5, rules=4)
    config = dataclasses.replace(config_of(labels="random", label_level=1), grammar=grammar)
    world = Sequences.set_up(config)
    weights = jax.vmap(world.network.init)(jax.random.split(KEY, 2))
    measured = membership.work(Run(Path(), config, world, [1]), MembershipConfig(targets=60, draws=1)).measure(weights)
    assert measured["attack"].tolist() == ["calibrated", "uncalibrated"]
    true = Sequences.set_up(config_of(labels="level", label_level=1))
    np.testing.assert_array_equal(attackers.symbols(true.grammar, true.train, 1), true.train_labels)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label_level": 1}, "label_level: got 1, needs --labels level or random"),
        ({"labels": "unique", "label_level": 1}, "label_level: got 1, needs --labels level or random"),
        ({"label_drop": 0.1}, "label_drop: got 0.1, needs --labels level or random or unique"),
        (
            {"labels": "level", "label_level": 2},
            "label_level: got 2, needs a level above the leaves, which are at level 2",
        ),
    ],
)
def test_options_of_labels_without_labels_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        config_of(**options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Untold(Planted):
    """Networks that are told no labels."""

    def answer(self, params, shown, t):
        assert not isinstance(shown, Labelled)
        return super().answer(params, shown, t)


@pytest.mark.slow
def test_other_noise_levels_are_measured_without_labels():
    """On sequences of its own, to which the labels of a run's held-out sequences do not belong."""
    grammar = GrammarConfig(depth=3, vocab=4, rules=3)
    config = dataclasses.replace(config_of(labels="level", label_drop=0.2), grammar=grammar)
    run = Run(Path(), config, Untold(**vars(Sequences.set_up(config))), [1])
    work = noise.work(run, NoiseConfig(sequences=100, levels=(0.1,)))
    found = work.label([work.measure(jnp.zeros(2))])
    np.testing.assert_allclose(found.divergence.sel(filtered=0), 0, atol=1e-5)
