"""One laboratory for any world: a third one, of vectors, goes through all of it; so do plugins of one's own."""

import dataclasses
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from runs import ask, same, save_often
from vectors import Vectors, VectorsConfig

from hierdiff.learning.network import NETWORKS, Network
from hierdiff.learning.train_config import OPTIMIZERS
from hierdiff.noising import PROCESSES
from hierdiff.pictures import run as picture
from hierdiff.posterior import memorizer_of_numbers
from hierdiff.questions import QUESTIONS, command, snapshots
from hierdiff.runs import plan, record, run
from hierdiff.runs.laboratory import label, make_measure, statistics
from hierdiff.runs.options import PLUGINS
from hierdiff.worlds.run_config import MeasureConfig

EXAMPLES = Path(__file__).parents[1] / "docs" / "plugins"


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """As they were before, after each test."""
    every: list[Any] = [(registry, dict(registry)) for registry in (PROCESSES, NETWORKS, OPTIMIZERS, QUESTIONS)]
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for registry, before in every:
        registry.clear()
        registry.update(before)
    PLUGINS.clear()


def hierdiff(monkeypatch, *arguments):
    """What the installed command does."""
    monkeypatch.setattr(sys, "argv", ["hierdiff", *map(str, arguments)])
    command.main()


MEASURE = MeasureConfig(held_out=1000, members=50, noise=(0.1, 0.3), onset_noise=0.1)


@pytest.fixture(scope="module")
def world():
    config = VectorsConfig(sets=3, size=60, noise_levels=100, measure=MEASURE)
    return Vectors.set_up(config)


def results_of(world, answer, params):
    """What is measured of networks that answer so, at one step, and on what."""
    planted = dataclasses.replace(world, network=Network(None, lambda params, x_t, t, _: answer(params, x_t, t)))  # pyright: ignore[reportArgumentType]
    inputs = planted.inputs(MEASURE)
    values = {name: np.asarray(x) for name, x in make_measure(planted)(params, inputs).items()}
    return label({"step": [1], "noise": list(MEASURE.noise)}, planted, planted.references(inputs), [values]), inputs


def measured(world, answer, params):
    """The means of it."""
    return statistics(Vectors, results_of(world, answer, params)[0]).mean.isel(step=0)


def test_the_exact_mean_of_the_mixture_is_that_of_monte_carlo(world):
    """Of a million draws of x_0, weighed by the density of the noise, at a few x_t."""
    rng = np.random.default_rng(0)
    centres = np.asarray(world.centres)
    x_0 = centres[rng.integers(0, 4, 1_000_000)] + world.spread * rng.standard_normal((1_000_000, 3))
    ab = float(world.process.alpha_bar[49])
    x_t = np.sqrt(ab) * x_0[:5] + np.sqrt(1 - ab) * rng.standard_normal((5, 3))
    exact = np.asarray(world.exact(jnp.asarray(x_t, jnp.float32), jnp.full(5, 50)))
    for x, expected in zip(x_t, exact, strict=True):
        weight = np.exp(-np.square(x - np.sqrt(ab) * x_0).sum(-1) / (2 * (1 - ab)))
        np.testing.assert_allclose((weight[:, None] * x_0).sum(0) / weight.sum(), expected, atol=0.02)


def test_exact_networks_have_no_excess_and_memorizers_slope_one(world):
    exact = measured(world, lambda _, x_t, t: world.exact(x_t, t), jnp.zeros(3))
    for name in ("excess", "member_excess", "split", "member_split", "slope"):
        np.testing.assert_allclose(exact[name], 0, atol=1e-5)
    memory = measured(world, lambda train, x_t, t: memorizer_of_numbers(world.process, train, x_t, t), world.train)
    np.testing.assert_allclose(memory.slope, 1, rtol=1e-3)
    assert memory.excess > 0.01
    # The excess is the loss above that of the exact mean: their noise is the same.
    gap = memory.test_loss - exact.test_loss
    assert float(memory.excess) == pytest.approx(float(gap), rel=0.15)


def test_planted_differences_are_split_and_loss(world):
    """Answers that differ by a constant, number by number."""
    shift = jnp.array([0.0, 0.1, -0.2])
    found = measured(world, lambda by, x_t, t: world.exact(x_t, t) + by, shift)
    np.testing.assert_allclose(found.split, 3 * (0.01 + 0.04 + 0.09) / 3, rtol=1e-4)
    np.testing.assert_allclose(found.member_split, found.split, rtol=1e-4)
    # Over all levels it counts where the error in x_0 is smaller than that in the noise, and less elsewhere.
    alpha_bar = np.asarray(world.process.alpha_bar, np.float64)
    counts = np.minimum(1, alpha_bar / (1 - alpha_bar)).mean()
    assert 0.2 < counts < 0.5
    assert float(found.excess) == pytest.approx(counts * 3 * (0 + 0.01 + 0.04) / 3, rel=0.02)


def test_own_against_other_is_what_the_others_lose_on_a_networks_own_members(world):
    """Of memorizers, in NumPy float64: by the losses of all on the members of all; nothing of what is alike."""
    results, inputs = results_of(
        world, lambda train, x_t, t: memorizer_of_numbers(world.process, train, x_t, t), world.train
    )
    assert results.member_loss.dims == ("step", "noise", "network", "members_of")
    assert inputs.members.x_t.shape == (2, 3, 50, 3)
    train, alpha_bar = np.asarray(world.train, np.float64), np.asarray(world.process.alpha_bar, np.float64)
    loss = np.zeros((2, 3, 3))
    for level, network, members_of in np.ndindex(2, 3, 3):
        piece = [np.asarray(x[level, members_of], np.float64) for x in inputs.members]
        x_0, x_t, ab = piece[0], piece[1], alpha_bar[piece[2].astype(int) - 1][:, None, None]
        np.testing.assert_allclose(x_0, train[members_of, :50], rtol=1e-6)
        distance = np.square(x_t[:, None] - np.sqrt(ab) * train[network]).sum(-1) / (2 * (1 - ab[:, 0]))
        weight = np.exp(distance.min(1, keepdims=True) - distance)
        mean = weight @ train[network] / weight.sum(1, keepdims=True)
        loss[level, network, members_of] = np.square(mean - x_0).sum(-1).mean()
    np.testing.assert_allclose(results.member_loss[0], loss, rtol=1e-3)
    curves = statistics(Vectors, results).curves().isel(step=0)
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = [0.5 * (loss[:, b, a] - loss[:, a, a] + loss[:, a, b] - loss[:, b, b]) for a, b in pairs]
    np.testing.assert_allclose(curves.own_against_other, np.mean(expected, 0), rtol=1e-3)
    assert (curves.own_against_other > 0.04).all()
    assert "member_loss" not in curves
    alike, _ = results_of(world, lambda by, x_t, t: x_t + by, jnp.zeros(3))
    np.testing.assert_array_equal(Vectors.curves(alike)["own_against_other"], 0)


def test_networks_on_one_data_set_are_not_each_others_others(world):
    """However far they lie apart; and a record that has no losses on members has no such curve."""
    two_seeds = dataclasses.replace(world, set_of=np.repeat(np.arange(2), 2), train=world.train[:2])
    results, _ = results_of(two_seeds, lambda by, x_t, t: x_t * (1 + by), jnp.array([0.0, 0.3, -0.2, 0.7]))
    between = Vectors.curves(results)["own_against_other"].isel(step=0)
    same = results.data_set.values[results["first"]] == results.data_set.values[results["second"]]
    np.testing.assert_array_equal(between[:, same], 0)
    assert (between[:, ~same] != 0).all()
    assert "own_against_other" not in Vectors.curves(results.drop_vars("member_loss"))


def test_members_of_each_set_meet_noise_of_their_own_and_are_as_many_as_there_are(world):
    """Measured on average: they are no groups of test samples."""
    many = dataclasses.replace(MEASURE, members=1000)
    inputs = world.inputs(many)
    assert inputs.members.t.shape == (2, 3, 60)
    assert inputs.any_members.t.shape == (1, 3, 60)
    ab = world.process.alpha_bar
    for piece in (inputs.members, inputs.any_members):
        scale = jnp.sqrt(ab[piece.t - 1])[..., None]
        noise = np.asarray((piece.x_t - scale * piece.target) / jnp.sqrt(1 - scale**2))
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert abs(np.corrcoef(noise[:, a].ravel(), noise[:, b].ravel())[0, 1]) < 0.25
    # The levels of each set are stratified, each set's by themselves.
    for t in np.asarray(inputs.any_members.t[0]):
        assert np.histogram(t, 20, (0.5, 100.5))[0].tolist() == 20 * [3]
    assert (inputs.any_members.t[0, 0] != inputs.any_members.t[0, 1]).any()
    assert {name for name, each in Vectors.VARIABLES.items() if "group" not in each.dims} == {
        "member_split",
        "member_loss",
        "member_excess",
        "train_loss",
    }


@pytest.mark.slow
def test_a_third_world_goes_through_all_of_it(tmp_path, monkeypatch, capsys):
    """Plan, training, a kill, record, summary, table, verdict and picture, by the installed command."""
    options = ["vectors", "--plugin", "vectors"]
    monkeypatch.setattr(plan, "LONG_ENOUGH", 0.1)
    hierdiff(monkeypatch, *options, "--plan")
    assert "3 networks of" in capsys.readouterr().out
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    hierdiff(monkeypatch, *options, "--out", whole)
    printed, summary = capsys.readouterr().out, record.read_json(whole / "summary.json")
    assert "3 networks on 3 disjoint sets of 60 vectors" in printed
    assert "\n".join(summary["table"]) in printed
    assert summary["verdict"] in printed
    assert [row["noise"] for row in summary["noise"]] == [0.1, 0.3]
    results = record.read_results(whole / "results.nc")
    excess = results.excess.mean(("network", "group"))
    assert excess[-1] < 0.5 * excess[0]
    picture.draw_finished(whole)
    assert (whole / "onset.png").exists()

    save_often(monkeypatch)
    before = run.save

    def kill(folder, step, state):
        before(folder, step, state)
        if step >= 20:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "save", kill)
        with pytest.raises(SystemExit, match="130"):
            hierdiff(monkeypatch, *options, "--out", killed)
    hierdiff(monkeypatch, *options, "--out", killed, "--resume", "must")
    same(killed, whole)


@pytest.mark.slow
def test_two_seeds_on_one_data_set_are_told_apart_in_any_world(tmp_path, monkeypatch):
    hierdiff(monkeypatch, "vectors", "--plugin", "vectors", "--seeds-per-set", "2", "--out", tmp_path)
    curves = record.read_results(tmp_path / "curves.nc")
    np.testing.assert_allclose(curves.data_split, curves.split - curves.seed_split, rtol=1e-12)
    assert {"seed_split", "data_split"} <= set(record.read_json(tmp_path / "summary.json"))


TINY = ["--preset", "smoke", "--depth", "1", "--steps", "40", "--checkpoints", "3", "--held-out", "100"]
TINY += ["--sets", "3", "--noise", "0.15", "--snapshots", "2"]


@pytest.mark.slow
def test_plugins_train_and_ask_and_the_record_names_them(tmp_path, monkeypatch, capsys):
    """The examples of docs/plugins: a process, a network, an optimizer and a question."""
    monkeypatch.chdir(EXAMPLES)
    out, names = tmp_path / "run", ["cosine", "per_leaf", "warm"]
    plugins = [word for name in names for word in ("--plugin", name)]
    chosen = [*TINY, "--process", "cosine", "--network", "per_leaf", "--hidden", "8", "--optimizer", "warm"]
    ask("onset", [*plugins, *chosen, "--out", str(out)])
    content = record.read_json(out / "config.json")
    assert content["plugins"] == names
    assert content["options"]["process"] == "cosine"
    assert content["options"]["network"] == {"network": "per_leaf", "hidden": 8}
    assert content["options"]["train"]["optimizer"] == "warm"
    # The updates grow from nothing: after ten of forty steps, weights have hardly moved.
    rows = record.read_results(out / "results.nc").train_loss.mean("network")
    assert rows[0] - rows[1] < 0.5 * (rows[0] - rows[-1])
    capsys.readouterr()
    hierdiff(monkeypatch, "weights", *plugins, "--plugin", "weights", "--run", out)
    printed = capsys.readouterr().out
    assert "At the last step the weights of two networks lie" in printed
    curves = record.read_results(out / "weights.curves.nc")
    last = record.read_arrays(record.file_of_step(out / "snapshots", 40))
    flat = np.concatenate([x.reshape(3, -1) for x in last.values()], 1)
    expected = np.mean([np.linalg.norm(flat[a] - flat[b]) for a, b in ((0, 1), (0, 2), (1, 2))])
    assert float(curves.apart[-1]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_run_without_its_plugin_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(EXAMPLES)
    ask("onset", ["--plugin", "cosine", *TINY, "--process", "cosine", "--out", str(tmp_path / "run")])
    del PROCESSES["cosine"]
    PLUGINS.clear()
    for name, options in (("losses", ["--run"]), ("onset", [*TINY, "--out"])):
        with pytest.raises(SystemExit, match="2"):
            ask(name, [*options, str(tmp_path / "run")])
        assert "needs a plugin that this run was made with: --plugin cosine" in capsys.readouterr().err
    ask("losses", ["--run", str(tmp_path / "run"), "--targets", "50", "--plugin", "cosine"])
    assert (tmp_path / "run" / "losses.curves.nc").exists()


def test_what_an_installed_package_names_is_registered(monkeypatch, capsys):
    points = {"hierdiff": [SimpleNamespace(value="vectors")]}
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points[group])
    with pytest.raises(SystemExit, match="0"):
        hierdiff(monkeypatch, "vectors", "--help")
    assert "--clusters" in capsys.readouterr().out
    assert PLUGINS == ["vectors"]


def test_a_plugin_that_is_none_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.py").write_text("PROCESSES = {'gaussian': object}\n")
    (tmp_path / "listed.py").write_text("QUESTIONS = ['mine']\n")
    (tmp_path / "broken.py").write_text("\n1 / 0\n")
    (tmp_path / "unfinished.py").write_text("PROCESSES = {")
    for name, sentence in (
        ("nowhere", "--plugin: got nowhere, needs a module that can be imported: No module named 'nowhere'"),
        ("taken", "--plugin: got taken, needs names that are not taken; in PROCESSES, gaussian is"),
        ("listed", "--plugin: got listed, needs a module whose QUESTIONS is a dictionary"),
        ("broken", f"a module that can be imported: division by zero ({tmp_path / 'broken.py'}, line 2)"),
        ("unfinished", "a module that can be imported: '{' was never closed (unfinished.py, line 1)"),
        ("", "--plugin: got '', needs a module that can be imported: Empty module name"),
        ("..mine", "--plugin: got ..mine, needs a module that can be imported: "),
    ):
        with pytest.raises(SystemExit, match="2"):
            ask("onset", ["--plugin", name])
        printed = capsys.readouterr().err
        assert sentence in printed
        assert printed.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        hierdiff(monkeypatch, "nothing")


@pytest.mark.slow
def test_a_question_is_killed_and_goes_on(smoke_run, tmp_path, monkeypatch):
    """After each piece of its work; what is measured is not measured again, and all is as if it had not been killed."""
    folders = [shutil.copytree(smoke_run[0], tmp_path / name) for name in ("whole", "killed")]
    options = ["--targets", "50", "--run"]
    ask("losses", [*options, str(folders[0])])
    before, times = record.write_arrays, []

    def kill(path, arrays):
        before(path, arrays)
        times.append(path.name)
        raise KeyboardInterrupt

    for number in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(record, "write_arrays", kill)
            with pytest.raises(SystemExit, match="130"):
                ask("losses", [*options, str(folders[1])])
        assert len(list((folders[1] / "losses.pieces").glob("*.npz"))) == number + 1
    assert len(set(times)) == 3

    def fail(*_):
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "snapshots", lambda run, steps: map(fail, steps))
        ask("losses", [*options, str(folders[1])])
    results = [record.read_results(folder / "losses.results.nc").drop_attrs() for folder in folders]
    assert results[0].identical(results[1])
    assert not (folders[1] / "losses.pieces").exists()
    # Pieces of other options are dropped.
    with monkeypatch.context() as patch:
        patch.setattr(record, "write_arrays", kill)
        for targets in ("100", "150"):
            with pytest.raises(SystemExit, match="130"):
                ask("losses", ["--targets", targets, "--run", str(folders[1])])
    assert len(list((folders[1] / "losses.pieces").glob("*.npz"))) == 1
