"""The experiment as a user runs it: its files, its numbers, its words for bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from experiments import onset
from hierdiff import record

OPTIONS = ["--preset", "smoke", "--steps", "200", "--held-out", "100"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    command = [sys.executable, "-m", "experiments.onset", *OPTIONS, "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_run_leaves_all_its_files_and_no_others(run):
    folder, printed = run
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {
        "config.json",
        "metrics.jsonl",
        "results.nc",
        "curves.nc",
        "summary.json",
        "onset.png",
        "snapshots",
    }
    assert all(str(folder / name) in printed for name in names)
    assert record.read_json(folder / "summary.json")["verdict"] in printed


def test_the_record_says_what_made_it(run):
    config = record.read_json(run[0] / "config.json")
    assert config["options"]["grammar"]["depth"] == 3
    assert config["options"]["train"]["steps"] == 200
    assert config["command"].startswith("python -m experiments.onset --preset smoke --steps 200")
    assert {"jax", "flax", "hierdiff"} <= set(config["versions"])
    assert b"experiments.onset" in (run[0] / "onset.png").read_bytes()


def test_results_are_labelled_and_learning_shows(run):
    results = record.read_results(run[0] / "results.nc")
    assert results.split.dims == ("step", "noise", "pair", "group")
    expected = {"step": 12, "filtered": 4, "height": 5, "network": 2, "other": 2, "pair": 1, "noise": 3, "group": 50}
    assert dict(results.sizes) == expected
    assert all(np.isfinite(results[name]).all() for name in results)
    excess = results.excess.mean(("network", "group"))
    assert excess[-1] < 0.6 * excess[0]
    # Both read the same noise: the plain loss lies above the excess by the Bayes loss, the same at every checkpoint.
    bayes = results.test_loss.mean(("network", "group")) - excess
    np.testing.assert_allclose(bayes, bayes[0], atol=0.25)
    np.testing.assert_allclose(results.scale.sel(filtered=0), 0, atol=1e-6)
    assert (results.scale.mean("group").diff("filtered") > 0).all()


def test_metrics_hold_a_line_for_each_checkpoint(run):
    rows = [json.loads(line) for line in (run[0] / "metrics.jsonl").read_text().splitlines()]
    results = record.read_results(run[0] / "results.nc")
    assert [row["step"] for row in rows] == results.step.values.tolist()
    np.testing.assert_allclose([row["excess"] for row in rows], results.excess.mean(("network", "group")), rtol=1e-5)


def test_another_configuration_is_refused_with_what_differs(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        onset.main([*OPTIONS, "--depth", "2", "--out", str(run[0])])
    assert "other depth (3 there)" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"options": 3}'])
def test_a_foreign_folder_is_refused_and_left_as_it_is(content, tmp_path, capsys):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(SystemExit, match="2"):
        onset.main([*OPTIONS, "--out", str(tmp_path)])
    assert "the config.json in it is not a run's" in capsys.readouterr().err
    assert (tmp_path / "config.json").read_text() == content


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--depth", "0"], "--depth: got 0, needs an integer of at least 1"),
        (["--depth", "two"], "--depth: got 'two', needs an integer"),
        (["--rules", "40"], "--rules: got 40, needs an integer from 1 to 6"),
        (["--detph", "4"], "--detph is not an option of python -m experiments.onset; did you mean --depth?"),
        (["--preset", "huge"], "--preset: invalid choice: 'huge'"),
        (["--noise", "0.1", "2"], "--noise: got (0.1, 2.0), needs distinct numbers above 0 and up to 1"),
        (
            ["--noise", "0.15", "0.151", "--noise-levels", "100"],
            "--noise: got (0.15, 0.151), needs values that are distinct",
        ),
        (["--members", "30"], "--members: got 30, needs a multiple of 50"),
        (["--members", "5000"], "--members: got 5000, needs at most the size of a data set, 1000"),
        (["--sets", "1"], "--sets: got 1, needs an integer of at least 2"),
        (["--learning-rate", "nan"], "--learning-rate: got nan, needs a number between 0 and 1"),
        (["--network", "transformer", "--width", "10"], "--heads: got 4, needs a divisor of the width, 10"),
        (["--out", "/proc/nothing"], "--out: got /proc/nothing, needs a folder that can be written"),
        (["--steps"], "--steps: expected one argument"),
    ],
)
def test_bad_input_ends_with_status_2_and_one_sentence(options, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        onset.main(options)
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert sentence in printed.err
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err


def test_every_field_of_every_config_is_an_option(capsys):
    with pytest.raises(SystemExit, match="0"):
        onset.main(["--help"])
    text = capsys.readouterr().out
    for name in ("depth", "shared", "sigma", "size", "width", "dropout", "average-width", "held-out", "onset-noise"):
        assert f"--{name}" in text


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    """The message names the step and the network, and what may help; no results are written."""

    def explode(*_):
        raise FloatingPointError("the loss of network 1 is not finite at step 7")

    monkeypatch.setattr(onset, "carry_out", explode)
    with pytest.raises(SystemExit, match="stopped: the loss of network 1 is not finite at step 7; a smaller"):
        onset.main([*OPTIONS, "--out", str(tmp_path / "run")])
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", ".lock"}


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.nc"
    record.write_results(path, xr.Dataset({"x": ("n", np.arange(3))}))

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        record.write_whole(path, fail)
    np.testing.assert_array_equal(record.read_results(path).x, np.arange(3))
    assert [each.name for each in tmp_path.iterdir()] == ["results.nc"]
