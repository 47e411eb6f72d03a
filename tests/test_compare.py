"""Denoisers of anybody's: planted ones, a history with a known minimum, hierdiff's own networks, and the example."""

import ctypes
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.special import softmax

from experiments import other_models
from hierdiff.compare import LEVELS as AT_MOST
from hierdiff.compare import Comparison, compare
from hierdiff.grammar import GrammarConfig, random_grammar
from hierdiff.learning.denoiser import network_denoiser
from hierdiff.learning.network import TreeConfig
from hierdiff.measures.probe import at
from hierdiff.noising import Gaussian, Masking
from hierdiff.pictures import report
from hierdiff.pictures.command import draw_run
from hierdiff.posterior import memorizer_of_numbers
from hierdiff.questions import QUESTIONS
from hierdiff.runs import record
from hierdiff.runs.laboratory import label, make_measure, prepare, statistics
from hierdiff.sampling import sample
from hierdiff.worlds.run_config import MeasureConfig, OnsetConfig
from hierdiff.worlds.sequences import Sequences

RNG = np.random.default_rng(0)
TRAIN = tuple(RNG.standard_normal((2, 40, 3, 2)).astype(np.float32))
HELD_OUT = RNG.standard_normal((100, 3, 2))
KEY = jax.random.key(0)
NUMBERS = Gaussian(levels=100)


def alpha_bar(process, t):
    return float(process.alpha_bar[t - 1])


def memorizer(train):
    return lambda x_t, t: memorizer_of_numbers(NUMBERS, jnp.asarray(train), jnp.asarray(x_t), t)


def shifted(by):
    return lambda x_t, t: np.sqrt(alpha_bar(NUMBERS, t)) * x_t + by


def test_memorizers_have_slope_one_and_denoisers_that_agree_none():
    same, apart = shifted(0), [memorizer(each) for each in TRAIN]
    for pair, slope in (((same, same), 0), (apart, 1)):
        found = compare({1: (pair[0], pair[1])}, TRAIN, HELD_OUT, process=NUMBERS, noise=(0.34, 0.15), key=KEY)
        np.testing.assert_allclose(found.curves.slope, slope, atol=1e-4)
        assert ((found.curves.split > 0) == bool(slope)).all()


def test_splits_and_losses_are_plain_means():
    """Of shifts by a constant; the loss of the best linear denoiser of white data is (1 - ab) a number."""
    found = compare({5: (shifted(0.1), shifted(-0.2))}, TRAIN, HELD_OUT, process=NUMBERS, noise=(0.22,), key=KEY)
    measured = found.curves.sel(step=5, noise=0.22)
    np.testing.assert_allclose(measured.split, 6 * 0.3**2, rtol=1e-5)
    expected = 6 * (1 - alpha_bar(NUMBERS, 22) + (0.1**2 + 0.2**2) / 2)
    assert abs(float(measured.loss) - expected) < 4 * float(measured.loss_error) + 0.2
    assert not found.onset.reached


STEPS = [1, 3, 10, 20, 30, 50, 100, 200, 300, 500, 1000, 3000]


def test_the_onset_of_a_history_is_found():
    """Denoisers that come together until step 30 and then part, while both come nearer to the truth until step 300."""
    opposite, common = np.array([[1.0, 1.0], [0, 0], [0, 0]]), np.array([[0, 0], [1.0, -1.0], [0, 0]])

    def of_step(step, sign):
        apart = 0.02 + 0.01 * np.log(step / 30) ** 2
        both = 2 + 0.5 * np.log(step / 300) ** 2 - apart
        by = sign * np.sqrt(apart) * opposite + np.sqrt(both) * common
        return shifted(by)

    history = {step: (of_step(step, 1), of_step(step, -1)) for step in STEPS}
    found = compare(history, TRAIN, HELD_OUT, process=NUMBERS, noise=(0.22, 0.1), key=KEY)
    assert found.onset.step == pytest.approx(30, rel=0.05)
    assert found.best.step == pytest.approx(300, rel=0.1)
    assert found.ratio.ratio == pytest.approx(10, rel=0.1)
    split = 8 * (0.02 + 0.01 * np.log(np.array(STEPS) / 30) ** 2)
    np.testing.assert_allclose(found.curves.split.sel(noise=0.22), split, rtol=1e-4)


def history(step):
    """Denoisers that come together until step 30 and then part."""
    apart = 0.02 + 0.01 * np.log(max(step, 0.1) / 30) ** 2
    by = np.sqrt(apart) * np.array([[1.0, 1.0], [0, 0], [0, 0]])
    return shifted(by), shifted(-by)


def test_steps_come_as_they_come():
    """In any order, and what they show can be asked at any time; step 0 is in the curves, but not a landmark."""
    options = {"process": NUMBERS, "noise": 0.22, "key": 0}
    comparison, passed = Comparison(TRAIN, HELD_OUT, **options), []
    for step in [0, *STEPS]:
        comparison.add(step, history(step))
        if step:
            passed.append(comparison.result().turning_point_passed)
    # Two checkpoints are told apart by nothing.
    assert passed[:4] == 4 * [False]
    assert passed[-4:] == 4 * [True]
    found = comparison.result()
    assert found.onset.step == pytest.approx(30, rel=0.05)
    assert "the turning point is step 3" in found.verdict
    assert "epochs" not in found.verdict
    assert "turning point of the sample split: step 3" in found.table
    later = compare({step: history(step) for step in [300, *STEPS, 0]}, TRAIN, HELD_OUT, **options)
    assert later.curves.identical(found.curves)
    assert later.curves.step.values.tolist() == [0, *STEPS]
    assert later.verdict == found.verdict
    assert float(found.curves.split.sel(step=0, noise=0.22)) == pytest.approx(8 * (0.02 + 0.01 * np.log(300) ** 2))
    with pytest.raises(ValueError, match="step: got 30, needs one that was not added before"):
        comparison.add(30, history(30))


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [pytest.param(7, marks=pytest.mark.slow), 30])
def test_some_samples_at_a_time_are_measured_as_all(at_once, monkeypatch):
    """Means over the same samples, under other noise."""
    monkeypatch.setattr("hierdiff.compare.NUMBERS", at_once * 2 * 6)
    seen, memories = [], [memorizer(each) for each in TRAIN]
    pair = [keeping(memories[0], seen), memories[1]]
    checkpoints = {1: pair, 2: (shifted(0.1), shifted(-0.2))}
    found = compare(checkpoints, TRAIN, HELD_OUT, process=NUMBERS, noise=(0.22, 0.5), key=KEY).curves
    assert max(len(x_t) for x_t, _ in seen) == at_once
    assert sum(len(x_t) for x_t, t in seen if len(x_t) == at_once or t in (22, 50)) >= 2 * (100 + 2 * 40)
    np.testing.assert_allclose(found.slope.sel(step=1), 1, atol=1e-4)
    np.testing.assert_allclose(found.split.sel(step=2), 6 * 0.3**2, rtol=1e-4)
    whole = compare(checkpoints, TRAIN, HELD_OUT, process=NUMBERS, noise=(0.22, 0.5), key=jax.random.key(1)).curves
    assert found.sizes == whole.sizes
    for name in ("loss", "test_loss", "train_loss", "own_against_other", "member_split"):
        np.testing.assert_allclose(found[name].sel(step=1), whole[name].sel(step=1), rtol=0.3, atol=0.25, err_msg=name)
        assert (whole[name].sel(step=1) > 0).all()


GRAMMAR = random_grammar(jax.random.key(3), depth=2, vocab=3, rules=2, sigma=1.0)
PROCESS = Gaussian(vocab=3, levels=100)
SETS = [np.asarray(sample(jax.random.key(10 + i), GRAMMAR, 20).leaves) for i in range(3)]
TOKENS = np.asarray(sample(jax.random.key(20), GRAMMAR, 200).leaves)
LEVELS, LOG_PROB = oracles.derivations(GRAMMAR)


def of_sequences(leaves, log_prior):
    """The posterior mean of a law on few sequences, in NumPy float64, by the density of the noise."""
    clean = np.eye(3)[leaves]

    def denoiser(x_t, t):
        ab = alpha_bar(PROCESS, t)
        distance = np.square(np.asarray(x_t, np.float64)[:, None] - np.sqrt(ab) * clean).sum((-1, -2))
        weight = softmax(log_prior - distance / (2 * (1 - ab)), axis=-1)
        return np.einsum("nc,clv->nlv", weight, clean)

    return denoiser


exact = of_sequences(LEVELS[-1], LOG_PROB)


def uniform(x_t, t):
    return np.full_like(x_t, 1 / 3)


def on_symbols(checkpoints, sets, **options):
    return compare(checkpoints, SETS[:sets], TOKENS, process=PROCESS, noise=(0.15, 0.3), key=KEY, **options)


@pytest.mark.slow
@pytest.mark.parametrize("sets", [2, 3])
def test_an_exact_denoiser_has_no_error_at_any_height(sets):
    """The others' shows where it lies, however many there are."""
    found = on_symbols({1: sets * [exact], 2: sets * [uniform]}, sets, grammar=GRAMMAR).curves
    of_exact, of_uniform = found.sel(step=1), found.sel(step=2)
    np.testing.assert_allclose(of_exact.divergence.sel(filtered=0), 0, atol=1e-5)
    for name in ("error", "common", "data_dependent", "split"):
        np.testing.assert_allclose(of_exact[name], 0, atol=1e-6)
    assert (abs(of_exact.learned - 1) < 4.5 * of_exact.learned_error).all()
    assert (of_exact.divergence.sel(filtered=[1, 2]) > 0.01).all()
    assert (of_uniform.divergence.sel(filtered=0) > 0.1).all()
    assert (of_uniform.error.sel(height=[0, 1]) > 0.1).all()
    assert of_uniform.error.sel(height=2, noise=0.15) > 0.01
    np.testing.assert_allclose(of_uniform[["split", "data_dependent"]].to_array(), 0, atol=1e-6)
    np.testing.assert_allclose(of_uniform.loss, 4 * np.log(3), rtol=1e-5)


@pytest.mark.parametrize("sets", [pytest.param(2, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize(
    "grammar", [None, pytest.param(GRAMMAR, marks=pytest.mark.slow)], ids=["no grammar", "grammar"]
)
def test_memorizers_of_symbols_have_slope_one(sets, grammar):
    memories = [of_sequences(train, np.zeros(len(train))) for train in SETS[:sets]]
    found = on_symbols({1: memories, 2: sets * [exact]}, sets, grammar=grammar).curves
    np.testing.assert_allclose(found.slope.sel(step=1), 1, atol=1e-4)
    np.testing.assert_allclose(found.slope.sel(step=2), 0, atol=1e-4)
    assert (found.split.sel(step=1) > 0.1).all()
    # All have an answer, and nothing is said of it.
    assert "shared" not in found


def keeping(denoiser, seen):
    """The same, which keeps what it is shown."""

    def denoise(x_t, t):
        seen.append((x_t, t))
        return denoiser(x_t, t)

    return denoise


def leaning(loss):
    """Own against other of all pairs, of losses `(networks, sets)`."""
    pairs = [(a, b) for a in range(len(loss)) for b in range(a)]
    return np.mean([0.5 * (loss[b, a] - loss[a, a] + loss[a, b] - loss[b, b]) for a, b in pairs])


@pytest.mark.parametrize(
    "grammar", [None, pytest.param(GRAMMAR, marks=pytest.mark.slow)], ids=["no grammar", "grammar"]
)
def test_memorizers_of_symbols_lean_towards_their_own(grammar):
    """As in NumPy on what they are shown, all twenty of each set; those that are alike do not, to the bit."""
    seen, memories = [], [of_sequences(each, np.zeros(20)) for each in SETS]
    # They think possible what they have not seen.
    of_each = [lambda x_t, t, f=f: 0.9 * f(x_t, t) + 0.1 / 3 for f in memories]
    found = on_symbols({1: [keeping(of_each[0], seen), *of_each[1:]], 2: 3 * [exact]}, 3, grammar=grammar).curves
    assert found.member_loss.dims == ("step", "noise", "network", "members_of")
    for share in (0.15, 0.3):
        shown = [x_t for x_t, t in seen if len(x_t) == 20 and t == round(100 * share)]
        assert len(shown) == 3
        answers = np.array([[f(x, round(100 * share)) for x in shown] for f in of_each])
        loss = -np.log((answers * np.eye(3)[np.array(SETS)]).sum(-1)).sum(-1).mean(-1)
        at = found.sel(noise=share)
        np.testing.assert_allclose(at.member_loss.sel(step=1), loss, rtol=1e-4)
        assert float(at.own_against_other.sel(step=1)) == pytest.approx(leaning(loss), rel=1e-3)
        assert leaning(loss) > 0.1
    np.testing.assert_array_equal(found.own_against_other.sel(step=2), 0)
    np.testing.assert_array_equal(found.member_split.sel(step=2), 0)
    assert (found.member_split.sel(step=1) > 0.1).all()


@pytest.mark.parametrize("sizes", [(40, 30), pytest.param((500, 450), marks=pytest.mark.slow)])
def test_memorizers_of_numbers_lean_towards_the_first_members_of_all_sets(sizes):
    """As many as the smallest set has, and no more than four hundred."""
    rng, seen, members = np.random.default_rng(1), [], min(400, *sizes)
    train = [rng.standard_normal((size, 3, 2)).astype(np.float32) for size in sizes]
    memories = [memorizer(each) for each in train]
    checkpoints = {1: [keeping(memories[0], seen), memories[1]], 2: 2 * [shifted(0.1)]}
    found = compare(checkpoints, train, HELD_OUT, process=NUMBERS, noise=(0.22,), key=KEY).curves.sel(noise=0.22)
    shown = [x_t for x_t, _ in seen if len(x_t) == members]
    assert len(shown) == 2
    loss = [
        [np.square(f(x, 22) - each[:members]).sum((-1, -2)).mean() for x, each in zip(shown, train, strict=True)]
        for f in memories
    ]
    assert float(found.own_against_other.sel(step=1)) == pytest.approx(leaning(np.array(loss)), rel=1e-3)
    assert leaning(np.array(loss)) > 0.1
    assert found.own_against_other.sel(step=2) == 0


MASKS = Masking(vocab=3, levels=100)
MASKED = np.asarray(sample(jax.random.key(21), GRAMMAR, 500).leaves)
RATES = (0.1, 0.5, 1.0)


def agree(train, x_t):
    """Which training sequences agree with what each x_t shows, `(n, P)`."""
    return ((x_t[:, None] == train[None]) | (x_t[:, None] == 3)).all(-1)


def of_masked(train, elsewhere, seen=None):
    """The mean of the training sequences that agree with what is shown; where none does, what `elsewhere` says.

    It answers nothing that is a number where a symbol is shown. `seen` gets x_t, by the level.
    """

    def denoiser(x_t, t):
        if seen is not None:
            seen.setdefault(t, x_t)
        agreeing = agree(train, x_t)
        known = agreeing.any(1)[:, None, None]
        mean = np.einsum("np,plv->nlv", agreeing, np.eye(3)[train]) / np.maximum(agreeing.sum(1), 1)[:, None, None]
        f = np.where(known, mean, elsewhere)
        f[x_t != 3] = np.nan
        return f

    return denoiser


@pytest.mark.slow
@pytest.mark.parametrize(("grammar", "sets"), [(None, 3), (GRAMMAR, 2)], ids=["no grammar", "grammar"])
def test_memorizers_of_masked_sequences_have_slope_one_where_both_know(grammar, sets):
    """At the first level few have an answer, and there is no slope; at the last all have."""
    train, seen, few = [each[:6] for each in SETS[:sets]], {}, np.array([0.7, 0.2, 0.1])
    memories = [of_masked(each, np.roll(few, i), seen) for i, each in enumerate(train)]
    same = [of_masked(train[0], few)] * sets
    options = {"process": MASKS, "noise": RATES, "key": KEY, "grammar": grammar}
    found = compare({1: memories, 2: same}, train, MASKED, **options).curves
    both = {}
    for rate in RATES:
        known = [agree(each, seen[round(100 * rate)]).any(1) for each in train]
        both[rate] = np.mean([known[a] & known[b] for a in range(sets) for b in range(a)])
    np.testing.assert_allclose(found.shared, list(both.values()), rtol=1e-6)
    assert 500 * both[0.1] < 200 < 500 * both[0.5] < 500 * both[1.0] == 500
    assert np.isnan(found.slope.sel(noise=0.1)).all()
    np.testing.assert_allclose(found.slope.sel(noise=[0.5, 1.0], step=1), 1, atol=1e-5)
    np.testing.assert_allclose(found.slope.sel(noise=[0.5, 1.0], step=2), 0, atol=1e-5)


@pytest.mark.slow
def test_where_all_memorizers_know_even_few_sequences_define_a_slope():
    """All is masked; where a little is shown and not all know it, a hundred are too few."""
    train = [each[:6] for each in SETS[:2]]
    memories = [of_masked(each, np.full(3, 1 / 3)) for each in train]
    found = compare({1: memories}, train, MASKED[:100], process=MASKS, noise=(1.0,), key=KEY).curves
    assert "shared" not in found
    np.testing.assert_allclose(found.slope, 1, atol=1e-5)
    found = compare({1: memories}, train, MASKED[:100], process=MASKS, noise=(0.9,), key=KEY).curves
    assert 0.5 < found.shared < 1
    assert np.isnan(found.slope).all()


@pytest.mark.parametrize(
    "grammar", [None, pytest.param(GRAMMAR, marks=pytest.mark.slow)], ids=["no grammar", "grammar"]
)
def test_what_denoisers_answer_where_a_symbol_is_shown_is_never_read(grammar):
    """Numbers that are none, probabilities of other symbols, and the truth come to the same."""

    def answering(at_shown, tilt):
        def denoiser(x_t, t):
            assert np.issubdtype(x_t.dtype, np.integer)
            f = np.tile(np.array([0.5, 0.3, 0.2]) + tilt, (*x_t.shape, 1))
            f[x_t != 3] = np.eye(3)[x_t[x_t != 3]] if at_shown is None else at_shown
            return f

        return denoiser

    tilts = np.array([[0.1, -0.1, 0], [0, -0.1, 0.1]])
    ways = [None, np.array([0, 0, 1.0]), np.array([7.0, np.nan, -np.inf])]
    measured = [
        compare(
            {1: [answering(way, tilt) for tilt in tilts]},
            SETS[:2],
            TOKENS,
            process=MASKS,
            noise=(0.5,),
            key=KEY,
            grammar=grammar,
        ).curves
        for way in ways
    ]
    for other in measured[1:]:
        assert other.identical(measured[0])
    assert measured[0].split > 0.03


def test_little_noise_is_measured_without_a_warning():
    """There the likelihood of a symbol is beyond what float32 holds."""
    found = compare({1: (exact, uniform)}, SETS[:2], TOKENS, process=PROCESS, noise=(0.02,), key=KEY).curves
    np.testing.assert_allclose(found.loss, 2 * np.log(3), rtol=1e-3)


@pytest.mark.parametrize(
    "grammar", [None, pytest.param(GRAMMAR, marks=pytest.mark.slow)], ids=["no grammar", "grammar"]
)
def test_the_onset_of_a_history_of_symbols_is_found(grammar):
    """The first leaf's answers come together until step 30 and then part; the others' come near until step 300."""

    def of_step(step, sign):
        apart = sign * np.sqrt(apart_at(step)) * np.array([1, -1, 0])
        near = np.exp(-0.05 * np.log(step / 300) ** 2)

        def denoiser(x_t, t):
            f = near * exact(x_t, t) + (1 - near) / 3
            return np.concatenate([np.broadcast_to(1 / 3 + apart, f[:, :1].shape), f[:, 1:]], 1)

        return denoiser

    def apart_at(step):
        return 2.5e-4 * (1 + 0.5 * np.log(np.asarray(step) / 30) ** 2)

    history = {step: (of_step(step, 1), of_step(step, -1)) for step in STEPS}
    found = on_symbols(history, 2, grammar=grammar)
    assert found.onset.step == pytest.approx(30, rel=0.05)
    assert found.best.step == pytest.approx(300, rel=0.1)
    assert found.ratio.ratio == pytest.approx(10, rel=0.1)
    by = np.sqrt(apart_at(STEPS))
    split = 2 * by * np.log((1 / 3 + by) / (1 / 3 - by))
    np.testing.assert_allclose(found.curves.split.sel(noise=0.15), split, rtol=2e-3)


@pytest.mark.slow
def test_what_was_found_is_saved_as_a_run_and_drawn_as_one(tmp_path, capsys):
    def of_step(step):
        near = np.exp(-0.05 * np.log(step / 300) ** 2) - np.array([0, 0.01, 0.02])
        return [lambda x_t, t, c=c: c * exact(x_t, t) + (1 - c) / 3 for c in near]

    comparison, folder = Comparison(SETS, TOKENS, process=PROCESS, noise=(0.15, 0.3), grammar=GRAMMAR), tmp_path / "run"
    for step in STEPS[::3]:
        comparison.add(step, of_step(step))
        if step == 20:
            comparison.result().save(folder)
    found = comparison.result()
    found.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "curves.nc", "results.nc", "summary.json"]
    summary = record.read_json(folder / "summary.json")
    assert summary["verdict"] == found.verdict
    assert "\n".join(summary["table"]) == found.table
    assert {"heights", "divergences", "noise", "excess_bound"} <= set(summary)
    assert record.read_results(folder / "curves.nc").step.values.tolist() == STEPS[::3]
    np.testing.assert_allclose(record.read_results(folder / "curves.nc").excess, found.curves.excess)
    draw_run([str(folder)])
    assert (folder / "onset.png").stat().st_size > 10_000
    other = Comparison(SETS, TOKENS, process=PROCESS, noise=(0.15,), grammar=GRAMMAR)
    other.add(1, of_step(1))
    with pytest.raises(ValueError, match="needs another folder: this one holds a run with other noise"):
        other.result().save(folder)


@pytest.mark.slow
def test_networks_of_ones_own_are_measured_as_a_run_measures_them():
    """The compiled ensemble of a run, on the noise and the completions that the comparison draws."""
    noise = (0.1, 0.3)
    config = OnsetConfig(
        sets=3,
        size=60,
        noise_levels=100,
        grammar=GrammarConfig(depth=2, vocab=3, rules=2),
        network=TreeConfig(width=8),
        measure=MeasureConfig(held_out=100, members=60, noise=noise, onset_noise=0.1),
    )
    world = Sequences.set_up(config)
    grammar, process = world.grammar, world.process
    # Weights as drawn give nearly the uniform answer; these give answers that differ.
    params = jax.tree.map(lambda x: 3 * x, prepare(config, world).state.params)
    own = [network_denoiser(world.network, process, at(params, number)) for number in range(3)]
    denoisers = [lambda x_t, t, f=f: np.asarray(f(jnp.asarray(x_t), t)) for f in own]
    held_out, train = np.asarray(world.held_out), [np.asarray(each) for each in world.train]
    found = compare({7: denoisers}, train, held_out, process=process, noise=noise, key=KEY, grammar=grammar).curves

    world = dataclasses.replace(world, key=KEY, distinct=AT_MOST)
    inputs = world.inputs(config.measure)
    measured = jax.tree.map(np.asarray, make_measure(world)(params, inputs))
    results = label({"step": [7], "noise": list(noise)}, world, world.references(inputs), [measured])
    expected = statistics(Sequences, results).curves()
    # In some replicates, the error of which a share is taken is next to nothing.
    blurred = {f"{name}_{how}" for name in ("share", "total_share") for how in ("error", "half")}
    names = {str(name) for name in found if name in expected} - blurred
    assert {"own_against_other", "member_split", "member_divergence"} <= set(names)
    assert {"divergence", "split", "slope", "learned", "error", "common", "data_dependent", "share"} <= set(names)
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=name)
    assert min(found.split.min(), found.error.max()) > 0.01


def test_denoisers_may_change_what_they_are_given():
    """One that works in place, and two that give their answers in the same array."""
    shared = {}

    def in_place(x_t, t):
        # As torch does, whether the array may be written or not.
        x = np.ctypeslib.as_array((ctypes.c_float * x_t.size).from_address(x_t.ctypes.data)).reshape(x_t.shape)
        x *= np.sqrt(alpha_bar(NUMBERS, t))
        return x_t

    def in_one_array(by):
        def denoiser(x_t, t):
            answer = shared.setdefault(len(x_t), np.empty_like(x_t))
            answer[:] = shifted(by)(x_t, t)
            return answer

        return denoiser

    def of(*denoisers):
        return compare({1: denoisers}, TRAIN, HELD_OUT, process=NUMBERS, noise=(0.34, 0.15), key=KEY).curves

    for found, plain in (
        (of(in_place, in_place), of(shifted(0), shifted(0))),
        (of(in_one_array(0), in_one_array(1)), of(shifted(0), shifted(1))),
    ):
        for name in ("split", "loss", "own_against_other"):
            np.testing.assert_allclose(found[name], plain[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"held_out": HELD_OUT[:70]}, "held_out: got 70, needs an integer from 100"),
        ({"train": (TRAIN[0], TRAIN[1][:, :2])}, r"train: got \(40, 2, 2\), needs samples of the shape \(3, 2\)"),
        ({"noise": (0.5, 1.5)}, r"noise: got \(0.5, 1.5\), needs distinct numbers above 0 and up to 1"),
        ({"noise": (0.5, 0.501)}, r"noise: got \(0.5, 0.501\), needs values that are distinct among the 100 noise"),
        ({"checkpoints": {}}, r"steps: got \[\], needs at least one after step 0"),
        ({"checkpoints": {0: 2 * [shifted(0)]}}, r"steps: got \[0\], needs at least one after step 0"),
        ({"checkpoints": {-1: 2 * [shifted(0)]}}, "step: got -1, needs an integer of at least 0"),
        ({"checkpoints": {1: 3 * [shifted(0)]}}, "denoisers: got 3, needs one for each training set, 2"),
        ({"train": TRAIN[:1], "checkpoints": {1: [shifted(0)]}}, "train: got '1 training sets', needs at least two"),
        ({"slope_noise": 0.2}, r"slope_noise: got 0.2, needs 0, or one of the noise levels \(0.5,\)"),
        ({"train": (TRAIN[0][:0], TRAIN[1])}, r"train: got \(0, 3, 2\), needs at least one sample"),
        ({"held_out": np.full_like(HELD_OUT, np.inf)}, "held_out: got 'numbers that are not finite'"),
        ({"checkpoints": {1: (shifted(0), lambda x_t, t: x_t[:, 0])}}, r"denoiser 1: got \(100, 2\)"),
        ({"checkpoints": {1: (shifted(np.nan), shifted(0))}}, "denoiser 0: got 'numbers that are not finite'"),
    ],
)
def test_what_will_not_do_is_refused(change, words):
    given = {"checkpoints": {1: (shifted(0), shifted(0))}, "train": TRAIN, "held_out": HELD_OUT, "noise": (0.5,)}
    given |= change
    with pytest.raises(ValueError, match=words):
        compare(given.pop("checkpoints"), given.pop("train"), given.pop("held_out"), process=NUMBERS, key=KEY, **given)


@pytest.mark.parametrize("grammar", [None, GRAMMAR], ids=["no grammar", "grammar"])
@pytest.mark.parametrize(
    ("denoiser", "words"),
    [
        (lambda x_t, t: np.full_like(x_t, 0.4), r"denoiser 1: got 'rows that sum to .*1.2', needs probabilities"),
        (
            lambda x_t, t: np.broadcast_to(np.array([-0.2, 0.6, 0.6]), x_t.shape),
            "denoiser 1: got .* needs probabilities",
        ),
        (
            lambda x_t, t: exact(x_t, t).argmax(-1),
            r"denoiser 1: got \(200, 4\), needs outputs of the shape \(200, 4, 3\)",
        ),
        (lambda x_t, t: np.full_like(x_t, np.nan), "denoiser 1: got 'numbers that are not finite', needs finite"),
    ],
    ids=["sums", "negative", "shape", "finite"],
)
def test_answers_that_are_no_probabilities_are_refused(denoiser, words, grammar):
    with pytest.raises(ValueError, match=words):
        on_symbols({1: (exact, denoiser)}, 2, grammar=grammar)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"train": [each.astype(float) for each in SETS[:2]]},
            r"train: got 'float64 \(20, 4\)', needs integers \(n, L\)",
        ),
        ({"held_out": 0.9 * np.eye(3)[TOKENS]}, "held_out: got 'numbers from 0 to 0.9', needs symbols: one-hot rows"),
        ({"noise": ()}, r"noise: got \(\), needs distinct numbers"),
        (
            {"grammar": random_grammar(jax.random.key(0), depth=3, vocab=3, rules=2)},
            "grammar: got 'one of 8 and 3', needs that of 4 leaves of 3 symbols",
        ),
        ({"held_out": TOKENS + 1}, "held_out: got 'symbols from 1 to 3', needs symbols from 0 to 2"),
        ({"train": [SETS[0], SETS[1] - 1]}, "train: got 'symbols from -1 to 1', needs symbols from 0 to 2"),
    ],
)
def test_sequences_that_are_none_are_refused(change, words):
    given = {"train": SETS[:2], "held_out": TOKENS, "noise": (0.15,)} | change
    with pytest.raises(ValueError, match=words):
        compare({1: (exact, exact)}, **given, process=PROCESS, key=KEY)


@pytest.mark.slow
def test_the_example_compares_models_of_its_own(tmp_path: Path, capsys):
    pictures = RNG.integers(0, 256, (200, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "some.npz", pictures)
    sizes = ["--size", "50", "--held-out", "100", "--features", "40", "--copies", "2"]
    folder = tmp_path / "run"
    other_models.main([*sizes, "--data-dir", str(tmp_path / "some.npz"), "--out", str(folder)])
    found = record.read_json(folder / "other_models.json")
    assert "The two agree best at step" in found["sentence"]
    assert "\n".join([*found["table"], "", found["sentence"]]) in capsys.readouterr().out
    # It has a report, as every question has.
    assert report.write(folder, QUESTIONS) == [folder / report.NAME]
    page = (folder / report.NAME).read_text(encoding="utf-8")
    assert found["sentence"] in page
    assert 'id="other_models"' in page
