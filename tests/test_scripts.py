"""The scripts that go on from a finished run: what they add to it, and their words for bad input."""

import dataclasses
import importlib
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from runs import SMOKE, ask, names

from hierdiff.learning.network import Network
from hierdiff.measures.divergence import log_of
from hierdiff.measures.membership import area_under_curve
from hierdiff.pictures import style
from hierdiff.pictures.command import albums
from hierdiff.pictures.records import SIZES, STOPPING, Need, Records
from hierdiff.pictures.stopping import stopping as stopping_figure
from hierdiff.posterior import leaf_posterior, memorizer
from hierdiff.questions import QUESTIONS, stopping
from hierdiff.questions.configs import (
    Both,
    LossesConfig,
    MembershipConfig,
    NeighboursConfig,
    NoiseConfig,
    UTurnConfig,
)
from hierdiff.questions.losses import LOSSES
from hierdiff.questions.membership import MEMBERSHIP
from hierdiff.questions.noise import NOISE
from hierdiff.questions.samples import NEIGHBOURS
from hierdiff.questions.uturn import STARTS, UTURN
from hierdiff.runs import record
from hierdiff.runs.checkpoint import only_writer
from hierdiff.sampling import coincidences, sample, sample_unseen
from hierdiff.statistics.words import with_interval
from hierdiff.worlds.finished import Run, open_run, snapshots
from hierdiff.worlds.run_config import OnsetConfig
from hierdiff.worlds.sequences import Sequences

SMALL = {
    "neighbours": ["--samples", "100", "--reverse-steps", "6"],
    "membership": ["--targets", "100", "--draws", "2"],
    "losses": ["--targets", "100"],
    "uturn": ["--starts", "50", "--turns", "0.3", "--reverse-steps", "6"],
    "copying": ["--samples", "50", "--reverse-steps", "3", "6"],
    "trajectories": ["--sequences", "100", "--levels", "0.3", "--reverse-steps", "6"],
    "noise": ["--sequences", "100", "--levels", "0.1", "0.15", "0.3"],
}


@pytest.fixture(scope="module")
def folder(smoke_run, tmp_path_factory):
    return shutil.copytree(smoke_run[0], tmp_path_factory.mktemp("runs") / "run")


def results_of(question, run, config, weights=None):
    """What a question makes of the weights of a run's snapshots, or of those given."""
    work = question.work(run, config)
    return work.label([work.measure(each) for each in weights or snapshots(run, run.steps)])


def test_snapshots_are_of_checkpoints_the_last_among_them(folder):
    run = open_run(folder, Sequences)
    steps = record.read_results(folder / "results.nc").step.values
    assert len(run.steps) == 3
    assert run.steps[-1] == steps[-1]
    assert set(run.steps) <= set(steps)
    kept = list(snapshots(run, run.steps))
    assert any(not np.array_equal(a, b) for a, b in zip(*(x.flat_state().leaves for x in kept[:2]), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_script_adds_its_results_to_the_run(name, folder, capsys):
    ask(name, ["--run", str(folder), *SMALL[name]])
    printed = capsys.readouterr().out
    summary = record.read_json(folder / "summary.json")
    assert summary[name]["sentence"] in printed
    assert "onset" in summary
    curves = record.read_results(folder / f"{name}.curves.nc")
    assert curves.step.values.tolist() == record.steps_in(folder / "snapshots")
    for variable in curves.data_vars:
        # Shares of what is not told from zero are blank.
        if not str(variable).endswith(("_error", "_half", "share")):
            assert np.isfinite(curves[variable]).all(), variable
            assert (curves[f"{variable}_error"] >= 0).all(), variable
    assert "Minima, by measure: sample split" in printed
    assert summary["agreement"] in printed


@pytest.mark.slow
def test_what_was_measured_with_the_same_options_is_not_measured_again(folder, monkeypatch, capsys):
    """Nor while another process writes the run."""
    command = ["--run", str(folder), *SMALL["losses"]]
    ask("losses", command)
    first = capsys.readouterr().out
    (folder / "losses.curves.nc").unlink()

    def fail(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr("hierdiff.questions.snapshots.snapshots", fail)
    ask("losses", command)
    assert capsys.readouterr().out == first
    assert (folder / "losses.curves.nc").exists()
    with pytest.raises(AssertionError, match="measured again"):
        ask("losses", ["--run", str(folder), "--targets", "50"])
    with only_writer(folder, "run"), pytest.raises(SystemExit, match="2"):
        ask("losses", command)
    assert "needs a folder that no other process is writing" in capsys.readouterr().err


@pytest.mark.slow
def test_figures_are_drawn_from_what_the_program_records(folder, tmp_path):
    """One run stands for all sizes; the comparison of stopping rules is not among its records."""
    for name in SMALL:
        if not (folder / f"{name}.curves.nc").exists():
            ask(name, ["--run", str(folder), *SMALL[name]])
    records = Records(tmp_path, "smoke", QUESTIONS)
    for size in SIZES:
        records.run(size).parent.mkdir(exist_ok=True)
        records.run(size).symlink_to(folder)
    drawn = 0
    for name, module in albums(QUESTIONS).items():
        draw = getattr(importlib.import_module(module), name)
        if all(records.there(need) for need in draw.needs):
            with style.drawing():
                figure = draw(records)
            assert all(axes.has_data() for axes in figure.axes if axes.get_xlabel()), name
            drawn += 1
    assert drawn == 12


@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.slow) for kind in ("memorizer", "exact")])
def planted(request, folder):
    """The run with networks in place of its own: each memorizes its own training set, or all are exact.

    With them come their weights at the only step.
    """
    run = open_run(folder, Sequences)
    grammar, process, few = run.world.grammar, run.world.process, run.world.train[:, :50]

    def memory(params, x_t, t, _):
        known = memorizer(params["train"], process.log_likelihood(x_t, t))
        return jnp.log(0.999 * known + 0.001 / grammar.vocab)

    def exact(params, x_t, t, _):
        return log_of(leaf_posterior(grammar, process.log_likelihood(x_t, t)))

    network = Network(run.world.network.init, memory if request.param == "memorizer" else exact)
    world = dataclasses.replace(run.world, network=network, train=few)
    return request.param, dataclasses.replace(run, world=world, steps=[1]), {"train": few[world.set_of]}


def test_planted_networks_lean_to_their_own_sets_or_to_none(planted):
    """Own against other, copies, membership, loss and U-turns: the memorizer shows in each, the exact in none."""
    kind, run, weights = planted
    asked = {
        NEIGHBOURS: NeighboursConfig(samples=400, reverse_steps=20),
        MEMBERSHIP: MembershipConfig(targets=50, draws=8),
        LOSSES: LossesConfig(targets=50),
        UTURN: UTurnConfig(starts=50, turns=(0.25,), reverse_steps=20),
    }
    found = {
        question: question.statistics(run, results_of(question, run, config, [weights])).curves().isel(step=0)
        for question, config in asked.items()
    }
    samples = found[NEIGHBOURS]
    leans = [
        (samples, "nearer"),
        # A symbol or a pair of symbols stands somewhere in any set.
        *[(samples.sel(height=height), "more_copies") for height in ((2, 3) if kind == "memorizer" else range(4))],
        (found[MEMBERSHIP].sel(attack="calibrated"), "advantage"),
        (found[LOSSES].sel(inputs="training"), "known_average"),
        (found[UTURN].sel(turn=0.25), "own_above_new"),
    ]
    for curves, name in leans:
        if kind == "memorizer":
            assert curves[name] > 2.5 * curves[f"{name}_error"], name
        else:
            assert abs(curves[name]) <= 4 * curves[f"{name}_error"] + 1e-6, name
    if kind == "exact":
        np.testing.assert_allclose(samples.validity, 1)
        np.testing.assert_allclose(found[UTURN].ratio_of_means, 1, atol=1e-6)
        np.testing.assert_allclose(
            found[UTURN].of_filtered.sel(filtered=0), found[UTURN].exact.sel(start="random"), atol=1e-6
        )
    else:
        np.testing.assert_allclose(samples.own_distance, 0, atol=0.05)
        np.testing.assert_allclose(found[UTURN].overlap.sel(start="random"), found[UTURN].of_empirical, atol=0.02)


def attacked(sets):
    """An attack on a network of each data set, told from chance at the second step; too few others for a rate."""
    known = {"step": [10, 100], "attack": ["calibrated", "uncalibrated"]}
    noise = 0.01 * np.random.default_rng(0).standard_normal((2, 2, sets, 50))
    area = xr.DataArray(noise, known, ("step", "attack", "network", "group")) + xr.DataArray([0.5, 0.7], dims="step")
    none = xr.zeros_like(area, dtype=int).rename(group="rank")
    results = xr.Dataset({"area": area, "hits": none.astype(float), "of": none}, attrs={"others": 50})
    set_of = np.arange(sets)
    run = Run(Path("none"), None, SimpleNamespace(set_of=set_of, pairs=np.triu_indices(sets, 1)), [10, 100])
    return MEMBERSHIP.statistics(run, results)


def test_an_older_record_that_has_the_scores_is_read():
    score = np.random.default_rng(0).standard_normal((2, 2, 3, 2, 100)) + np.array([1.0, 0.0])[:, None]
    known = {"step": [10, 100], "attack": ["calibrated", "uncalibrated"], "known": [True, False]}
    results = xr.Dataset({"score": (("step", "attack", "network", "known", "target"), score)}, known)
    run = Run(Path("none"), None, SimpleNamespace(set_of=np.arange(3), pairs=np.triu_indices(3, 1)), [10, 100])
    curves = MEMBERSHIP.statistics(run, results).curves()
    areas = [area_under_curve(*score[1, 0, network], groups=50).mean() for network in range(3)]
    np.testing.assert_allclose(curves.area.sel(step=100, attack="calibrated"), np.mean(areas))
    rates = (score[1, 0, :, 0] > score[1, 0, :, 1].max(1)[:, None]).mean()
    # At 1% of 101, near to what lies above the highest.
    found = curves.true_positives.sel(step=100, attack="calibrated")
    assert rates <= found[0] < rates + 0.05
    assert np.isnan(found[1])


def test_of_two_data_sets_the_attack_names_no_step():
    sentence = MEMBERSHIP.summarise(attacked(2)).sentence
    assert "is not estimated with two data sets" in sentence
    assert "no step" not in sentence
    assert "from step 100 on" in MEMBERSHIP.summarise(attacked(3)).sentence


def test_a_rate_that_too_few_others_tell_is_left_blank():
    lines = MEMBERSHIP.table(attacked(3).curves())
    assert lines[-1].split()[-2:] == ["-", "-"]
    assert "nan" not in "".join(lines)


def test_an_interval_that_is_not_known_is_said_to_be_not_estimated():
    x = xr.Dataset({"a": 0.561, "a_half": 0.02, "b": 0.561, "b_half": np.nan})
    assert with_interval(x, "a", 3) == "0.561 (0.541 to 0.581)"
    assert with_interval(x, "b", 3) == "0.561 (not estimated)"


def test_samples_of_a_run_are_described_consistently(folder):
    run = open_run(folder, Sequences)
    results = results_of(NEIGHBOURS, run, NeighboursConfig(samples=100, reverse_steps=4))
    assert dict(results.own_distance.sizes) == {"step": 3, "pair": 3, "group": 50}
    np.testing.assert_allclose(results.own_histogram.sum("distance"), 1, atol=1e-6)
    mean = (results.own_histogram * results.distance).sum("distance")
    np.testing.assert_allclose(mean, results.own_distance, atol=1e-5)
    np.testing.assert_allclose(results.validity.sel(height=0), 1)


def test_the_held_out_residual_vanishes_within_its_error(folder):
    run = open_run(folder, Sequences)
    results = results_of(LOSSES, run, LossesConfig(targets=200))
    curves = LOSSES.statistics(run, results).curves().sel(inputs="held-out")
    assert (np.abs(curves.known_average) < 4 * curves.known_average_error).all()
    assert (np.abs(curves.residual_average) < 4 * curves.residual_average_error).all()


def test_the_ratio_of_means_and_the_mean_of_ratios_are_two_things(folder):
    values = {"overlap": [0.2, 0.9], "exact": [0.4, 0.6], "ratio": [0.5, 1.5], "counted": [1.0, 1.0]}
    dims = {"network": 3, "turn": 1, "start": 3, "group": 50}
    full = {
        name: (list(dims), np.broadcast_to(np.repeat(x, 25), tuple(dims.values())).copy()) for name, x in values.items()
    }
    coordinates = {"turn": [0.3], "start": list(STARTS)}
    results = xr.Dataset(full, coordinates)
    for name in ("overlap", "ratio"):
        results[name] = results[name].expand_dims(step=[1, 2])
    mean = UTURN.statistics(open_run(folder, Sequences), results).mean
    np.testing.assert_allclose(mean.ratio_of_means, 1.1)
    np.testing.assert_allclose(mean.mean_of_ratios, 1.0)


def test_copies_are_not_put_beside_an_excess_that_a_run_has_not_measured(folder, tmp_path, capsys):
    older = shutil.copytree(folder, tmp_path / "older")
    record.write_results(older / "results.nc", record.read_results(folder / "results.nc").drop_vars("excess_bound"))
    with pytest.raises(SystemExit, match="2"):
        ask("copying", ["--run", str(older), "--samples", "100", "--reverse-steps", "3"])
    assert "needs a run that has measured the excess of the bound" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=[] if x in ("membership", "neighbours") else [pytest.mark.slow]) for x in sorted(SMALL)],
)
def test_bad_input_ends_with_status_2_and_one_sentence(name, folder, tmp_path, capsys):
    (tmp_path / "damaged").mkdir()
    for file in ("config.json", "summary.json", "curves.nc", "results.nc"):
        (tmp_path / "damaged" / file).write_bytes((folder / file).read_bytes())
    (tmp_path / "damaged" / "snapshots").mkdir()
    (tmp_path / "damaged" / "snapshots" / "00000010.npz").write_bytes(b"PK\x03\x04 half a file")
    cases = [
        (["--run", str(tmp_path / "none")], "needs the folder of a finished run of hierdiff onset"),
        (["--run", str(folder), "--depth", "3"], f"--depth is not an option of hierdiff {name}"),
        (["--run", str(tmp_path / "damaged"), *SMALL[name]], "00000010.npz, needs arrays of this run's networks"),
    ]
    for options, sentence in cases:
        with pytest.raises(SystemExit) as stop:
            ask(name, options)
        printed = capsys.readouterr()
        assert stop.value.code == 2
        assert sentence in printed.err
        assert printed.err.strip().count("\n") <= 1


@pytest.mark.parametrize("name", [name for name, x in QUESTIONS.items() if (x.of, x.training) == ("run", "onset")])
def test_every_field_of_every_config_is_an_option(name, capsys):
    """Of the run too, where one is to be made first."""
    own = QUESTIONS[name].presets["laptop"]
    for options, config in (([], Both(training=OnsetConfig(), own=own)), (["--run", "runs/laptop-0"], own)):
        with pytest.raises(SystemExit, match="0"):
            ask(name, [*options, "--help"])
        text = capsys.readouterr().out
        for field in names(config):
            assert re.search(rf"--{field.replace('_', '-')}\b", text), field


def test_more_targets_than_sequences_are_refused(folder, capsys):
    for name in ("membership", "losses"):
        with pytest.raises(SystemExit):
            ask(name, ["--run", str(folder), "--targets", "5000"])
        assert "--targets: got 5000, needs at most the size of a data set, 200" in capsys.readouterr().err


def test_no_training_sequence_is_noised(folder):
    """Of so small a grammar many sequences are drawn twice; where all have been seen, it is said."""
    run = open_run(folder, Sequences)
    train = run.world.train
    drawn = sample(jax.random.key(3), run.world.grammar, 400).leaves
    unseen = sample_unseen(jax.random.key(3), run.world.grammar, 100, train, name="sequences")
    assert coincidences(drawn, train) > 0
    assert coincidences(unseen, train) == 0
    with pytest.raises(ValueError, match="sequences: got 10, needs at most 0"):
        sample_unseen(jax.random.key(3), run.world.grammar, 10, drawn[None], name="sequences")


@pytest.mark.slow
def test_noise_levels_of_the_run_itself_agree_with_its_record(folder):
    """On other sequences, so within the errors of both."""
    run = open_run(folder, Sequences)
    results = results_of(NOISE, run, NoiseConfig(sequences=100, levels=(0.1, 0.15, 0.3)))
    found = NOISE.statistics(run, results).curves()
    whole = record.read_results(folder / "curves.nc").sel(step=run.steps)
    for name in ("divergence", "split", "scale"):
        error = np.hypot(found[f"{name}_error"], whole[f"{name}_error"]).clip(min=1e-6)
        assert (abs(found[name] - whole[name]) < 5 * error).all(), name


@pytest.mark.slow
def test_stopping_rules_are_compared_and_runs_that_are_there_are_used(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(QUESTIONS["neighbours"].presets, "smoke", NeighboursConfig(samples=100, reverse_steps=6))
    monkeypatch.setitem(QUESTIONS["membership"].presets, "smoke", MembershipConfig(targets=100, draws=2))
    first, last = SMOKE.index("--steps"), SMOKE.index("--steps") + 2
    epochs = [*SMOKE[:first], "--train-epochs", "64", *SMOKE[last:]]
    command = [*epochs, "--seeds", "0", "--sizes", "200", "--out", str(tmp_path)]
    ask("stopping", command)
    first = record.read_json(tmp_path / "stopping.json")
    assert [row["rule"] for row in first["rows"]] == [*stopping.RULES, stopping.LATE]
    assert len(first["stops"]) == 3
    assert first["stops"][2]["step"] == pytest.approx(50 * 200 / 64)
    assert "From the smallest sample split to the smallest test loss" in capsys.readouterr().out
    for options, sentence in (
        (["--seed", "3"], "--seed is not an option of hierdiff stopping: --seeds gives it"),
        (["--steps", "90"], "--steps is not an option of hierdiff stopping: --train-epochs gives it"),
        (["--sizes", "200", "40"], "--sizes: got (200, 40), needs distinct integers from 50 to 10,000,000"),
    ):
        with pytest.raises(SystemExit):
            ask("stopping", [*command, *options])
        assert sentence in capsys.readouterr().err

    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr("hierdiff.questions.training.carry_out", fail)
    ask("stopping", command)
    assert record.read_json(tmp_path / "stopping.json")["rows"] == first["rows"]

    records = Records(tmp_path / "runs", "smoke", QUESTIONS)
    records.folder.mkdir()
    records.file(Need(STOPPING, STOPPING)).parent.symlink_to(tmp_path)
    with style.drawing():
        assert all(axes.has_data() for axes in stopping_figure(records).axes)


def test_means_over_grammars_have_students_intervals():
    stops = [
        {"seed": k, "size": 100, "rule": rule, "reached": True, "step": 100.0 * k}
        | dict.fromkeys(stopping.COSTS, float(k))
        for k in (1, 2, 3)
        for rule in stopping.RULES
    ]
    row, late = (stopping.summarise(stops)[i] for i in (0, 3))
    assert late["rule"] == stopping.LATE
    assert late["step"] == {"mean": 0.0, "half_width": 0.0}
    assert row["step"]["mean"] == 200
    assert row[stopping.EXCESS]["half_width"] == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)
