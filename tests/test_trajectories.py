"""Networks on trajectories: exact ones, ones that lean only where they go themselves, and ones that go astray."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from test_labels import config_of

from hierdiff.grammar import grammar_from_rules
from hierdiff.keys import key_for
from hierdiff.learning.network import Network
from hierdiff.measures.divergence import log_of
from hierdiff.noising import Gaussian, Masking
from hierdiff.posterior import leaf_posterior
from hierdiff.questions import trajectories
from hierdiff.questions.configs import TrajectoriesConfig
from hierdiff.questions.trajectories import EXACT, HELD_OUT, OTHER, OWN, STATES, TRAJECTORIES
from hierdiff.sampling import sample
from hierdiff.worlds.finished import Run
from hierdiff.worlds.sequences import Sequences

SETS, LEVELS, EARLY = 3, 40, 24
# Of common sequences symbols 0 to 2; 3, 4 and 5 stand in a sequence of their own, all but never drawn; 6 in none.
RARE, FORBIDDEN = np.arange(3, 6), 6
GRAMMAR = grammar_from_rules(
    [
        [[[0, 1], [1, 0], [0, 0]], [[2, 2]], [[3, 3]], [[4, 4]]],
        [[[0, 1], [1, 2]], [[2, 0], [1, 1]], [[3, 3]], [[4, 4]], [[5, 5]]],
    ],
    root=[1, 1e-6, 1e-6, 1e-6],
    vocab=7,
)
CONFIG = TrajectoriesConfig(sequences=200, levels=(0.2, 0.5), reverse_steps=LEVELS)
# What all networks generate first, or that they are exact.
NOTHING = np.full(SETS, -1)


def run_of(process, folder, networks=NOTHING):
    """A run whose networks generate, above the level `EARLY`, nothing but the symbol that is their weight, if any.

    Where they meet it below, they say that all symbols are alike; else they are exact.
    """

    def forward(symbol, encoded, t, _):
        x_t = encoded.argmax(-1) if isinstance(process, Masking) else encoded
        exact = leaf_posterior(GRAMMAR, process.log_likelihood(x_t, t))
        if isinstance(process, Gaussian):
            return log_of(exact)
        met = ((x_t == symbol).any(-1) & (symbol >= 0))[:, None, None]
        early = ((t > EARLY) & (symbol >= 0))[:, None, None]
        first = (jnp.arange(7) == symbol).astype(exact.dtype)
        return log_of(jnp.where(early, first[None, None], jnp.where(met, 1 / 7, exact)))

    config = dataclasses.replace(config_of(process.name), sets=SETS, noise_levels=LEVELS)
    train = sample(key_for(0, "train"), GRAMMAR, SETS * 60).leaves.reshape(SETS, 60, 4)
    # A tenth of each set is the sequence of its network's symbol.
    train = train.at[:, :6].set(RARE[:, None, None])
    world = Sequences(
        grammar=GRAMMAR,
        process=process,
        train=train,
        held_out=train[0],
        network=Network(lambda key: jnp.zeros((), jnp.int32), forward),
        set_of=np.arange(SETS),
        key=key_for(0, "world"),
    )
    (folder / "summary.json").write_text(json.dumps({"onset": {"step": 10.0}, "best": {"step": None}}))
    return Run(folder, config, world, [10, 100])


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """A run under masking, and of networks with such symbols, two snapshots of them, what is found."""
    run = run_of(Masking(vocab=7, levels=LEVELS), tmp_path_factory.mktemp("masked"))
    work = trajectories.work(run, CONFIG)

    def found(symbols):
        return TRAJECTORIES.statistics(run, work.label(2 * [work.measure(jnp.asarray(symbols))]))

    return found


def test_exact_networks_go_where_the_exact_denoiser_goes(masked):
    """And lean nowhere; what they meet is as probable as noised data are."""
    at = masked(NOTHING).curves().isel(step=0)
    for name in ("split", "data_dependent", "divergence", "own_against_other"):
        np.testing.assert_allclose(at[name], 0, atol=2e-5, err_msg=name)
    for name in ("evidence", "impossible"):
        np.testing.assert_allclose(at[name].sel(states=[OWN, OTHER]), at[name].sel(states=[EXACT, EXACT]), atol=1e-4)
    # Symbols that are shown in one step are drawn each by itself.
    assert (at.impossible <= 0.03).all()
    assert (abs(at.drift) <= 4 * at.drift_error.fillna(0) + 1e-6).all()


@pytest.mark.slow
def test_so_it_is_under_gaussian_noise(tmp_path):
    run = run_of(Gaussian(vocab=7, levels=LEVELS), tmp_path)
    work = trajectories.work(run, dataclasses.replace(CONFIG, sequences=400))
    at = TRAJECTORIES.statistics(run, work.label(2 * [work.measure(jnp.asarray(NOTHING))])).curves().isel(step=0)
    np.testing.assert_allclose(at.divergence, 0, atol=2e-5)
    np.testing.assert_allclose(at.beyond_exact.sel(states=[OWN, OTHER]), 0, atol=1e-2)
    assert (abs(at.drift) <= 4 * at.drift_error.fillna(0) + 1e-6).all()
    assert (at.evidence > 0).all()


def test_who_leans_only_where_he_goes_himself_is_found_there_alone(masked):
    """On a pair's own trajectories one of two networks answers that all masked symbols are alike, and one is exact."""
    found = masked(RARE)
    at = found.curves().isel(step=0)
    for name in ("split", "data_dependent", "divergence"):
        np.testing.assert_allclose(at[name].sel(states=[HELD_OUT, EXACT, OTHER]), 0, atol=2e-5, err_msg=name)
        assert (at[name].sel(states=OWN) > 4 * at[f"{name}_error"].sel(states=OWN)).all(), name
    # By hand at t/T = 0.5: each symbol was shown early or late, or is masked. Where any was shown early, networks lie
    # apart by 6/7 at each that is masked, and a late one is possible if the same was drawn, once in seven times.
    early, late, masks = 0.4, 0.1 / 7, 0.5
    apart = 6 / 7 / 2 * 4 * masks * ((early + late + masks) ** 3 - (late + masks) ** 3)
    possible = (early + late + masks) ** 4 - (late + masks) ** 4 + (1 - early) ** 4
    own = at.sel(states=OWN, noise=0.5)
    assert abs(float(own.data_dependent) - apart / possible) < 4 * float(own.data_dependent_error)
    assert abs(1 - possible - float(own.impossible)) < 4 * float(own.impossible_error)
    assert (at.own_against_other < -0.01).all()
    assert (at.beyond_exact.sel(states=OWN) < -5).all()
    assert at.when.item() == "the turning point"
    answer, lines = TRAJECTORIES.summarise(found), TRAJECTORIES.table(found.curves())
    assert "At the turning point, step 10, the data-dependent part on the networks' own trajectories" in answer.sentence
    assert "At the end, step 100, " in answer.sentence
    # Of those that go on showing their symbol, what the grammar forbids is left out.
    assert "error shows, but does not grow on the way" in answer.sentence
    assert len(answer.numbers["own"]) == 4
    assert sum(line.split()[:2] == ["0.2", OWN] for line in lines) == 2


def test_what_the_grammar_forbids_is_counted_and_left_out(masked):
    """Whoever shows a forbidden symbol early, as all do but for a few, is in no mean; the others are exact."""
    at = masked(np.full(SETS, FORBIDDEN)).curves().isel(step=0)
    assert (at.impossible.sel(states=[HELD_OUT, EXACT]) <= [0, 0.03]).all()
    share = 1 - (EARLY / LEVELS) ** 4
    np.testing.assert_allclose(
        at.impossible.sel(states=[OWN, OTHER]), share, atol=4 * np.sqrt(share * (1 - share) / 200)
    )
    np.testing.assert_allclose(at.data_dependent, 0, atol=2e-5)
    np.testing.assert_allclose(at.divergence, 0, atol=2e-5)
    assert np.isfinite(at.evidence).all()


def test_states_count_for_those_whose_they_are():
    """With two networks on each set, a twin's states are neither own nor another's."""
    set_of = np.array([0, 0, 1, 1, 2, 2])
    of_pair = trajectories.weights(np.array([[0, 2]]), set_of)[:, 0]
    third, half = [0, 0, 0, 0, 0, 0, 1 / 2, 1 / 2], [0, 0, 1 / 2, 0, 1 / 2, 0, 0, 0]
    np.testing.assert_array_equal(of_pair, [[1, *7 * [0]], [0, 1, *6 * [0]], half, third])
    of_network = trajectories.weights(np.array([[1]]), set_of)[:, 0]
    np.testing.assert_array_equal(of_network[2:], [[0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, *4 * [1 / 4]]])
    # With two sets there is no third.
    assert not trajectories.weights(np.array([[0, 2]]), set_of[:4])[STATES.index(OTHER)].any()


def test_levels_lie_below_the_start():
    config = config_of()
    with pytest.raises(ValueError, match="needs levels below the last"):
        TrajectoriesConfig(levels=(0.1, 0.999)).require_run(config)
