"""The experiment as a user runs it: its files, its numbers, its words for bad input."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from runs import SMOKE as OPTIONS
from runs import asked, names

from experiments import membership, onset
from hierdiff.learning.network import TransformerConfig
from hierdiff.noising import PROCESSES
from hierdiff.pictures import style
from hierdiff.pictures.command import draw_run
from hierdiff.questions import training
from hierdiff.runs import record
from hierdiff.runs.options import flat, options_of
from hierdiff.runs.world import Inputs
from hierdiff.worlds.run_config import OnsetConfig
from hierdiff.worlds.sequences import Sequences


def test_a_run_leaves_all_its_files_and_no_others(smoke_run):
    folder, printed = smoke_run
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {
        "config.json",
        "metrics.jsonl",
        "results.nc",
        "curves.nc",
        "summary.json",
        "onset.png",
        "report.html",
        "snapshots",
    }
    assert all(str(folder / name) in printed for name in names)
    assert record.read_json(folder / "summary.json")["verdict"] in printed


def test_the_record_says_what_made_it(smoke_run):
    config = record.read_json(smoke_run[0] / "config.json")
    assert config["options"]["grammar"]["depth"] == 3
    assert config["options"]["train"]["steps"] == 200
    assert config["world"] == "hierdiff.worlds.sequences:Sequences"
    assert config["data"] == {"coincidences": record.read_results(smoke_run[0] / "results.nc").coincidences}
    assert config["command"].startswith("python -m experiments.onset --preset smoke --steps 200")
    assert {"jax", "flax", "hierdiff"} <= set(config["versions"])
    assert b"experiments.onset" in (smoke_run[0] / "onset.png").read_bytes()


def test_results_are_labelled_and_learning_shows(smoke_run):
    results = record.read_results(smoke_run[0] / "results.nc")
    assert results.split.dims == ("step", "noise", "pair", "group")
    expected = {"step": 12, "filtered": 4, "height": 5, "noise": 3, "pair": 3, "group": 50}
    assert dict(results.sizes) == expected | dict.fromkeys(("network", "other", "members_of"), 3)
    assert all(np.isfinite(results[name]).all() for name in results)
    excess = results.excess.mean(("network", "group"))
    assert excess[-1] < 0.6 * excess[0]
    # Both read the same noise: the plain loss lies above the excess by the Bayes loss, the same at every checkpoint.
    bayes = results.test_loss.mean(("network", "group")) - excess
    np.testing.assert_allclose(bayes, bayes[0], atol=0.25)
    np.testing.assert_allclose(results.scale.sel(filtered=0), 0, atol=1e-6)
    assert (results.scale.mean("group").diff("filtered") > 0).all()


def test_metrics_hold_a_line_for_each_checkpoint(smoke_run):
    rows = [json.loads(line) for line in (smoke_run[0] / "metrics.jsonl").read_text().splitlines()]
    results = record.read_results(smoke_run[0] / "results.nc")
    assert [row["step"] for row in rows] == results.step.values.tolist()
    np.testing.assert_allclose([row["excess"] for row in rows], results.excess.mean(("network", "group")), rtol=1e-5)


def test_another_configuration_is_refused_with_what_differs(smoke_run, capsys):
    with pytest.raises(SystemExit, match="2"):
        onset.main([*OPTIONS, "--depth", "2", "--out", str(smoke_run[0])])
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
        (["--depth", "0"], "--depth: got 0, needs an integer from 1 to 20"),
        (["--depth", "two"], "--depth: got 'two', needs an integer from 1 to 20"),
        (["--rules", "40"], "--rules: got 40, needs an integer from 1 to 6"),
        (["--detph", "4"], "--detph is not an option of hierdiff onset; did you mean --depth?"),
        (["--layers", "3"], "--layers is an option of --network transformer only"),
        (["--preset", "huge"], "--preset: got 'huge', needs one of smoke, laptop, paper"),
        (["--noise", "0.1", "2"], "--noise: got (0.1, 2.0), needs distinct numbers above 0 and up to 1"),
        (
            ["--noise", "0.15", "0.151", "--noise-levels", "100"],
            "--noise: got (0.15, 0.151), needs values that are distinct",
        ),
        (["--held-out", "99"], "--held-out: got 99, needs an integer from 100 to 10,000,000"),
        (["--members", "0"], "--members: got 0, needs an integer from 1 to"),
        (["--sets", "1"], "--sets: got 1, needs an integer from 2 to 1,000"),
        (["--learning-rate", "nan"], "--learning-rate: got nan, needs a number between 0 and 1"),
        (["--network", "transformer", "--width", "10"], "--heads: got 4, needs a divisor of the width, 10"),
        (["--out", "/proc/nothing"], "--out: got /proc/nothing, needs a folder that can be written"),
        (["--steps"], "--steps: got nothing, needs a value"),
        (["--steps", "3000000000"], "--steps: got 3000000000, needs an integer from 2 to 2,147,483,647"),
        (["--checkpoints", "100000000000"], "--checkpoints: got 100000000000, needs an integer from 2 to 10,000"),
        (["--average-width", "1e-200"], "--average-width: got 1e-200, needs 0, or a number from 0.001"),
        (["--sigma", "1e308"], "--sigma: got 1e+308, needs a number from 0 to 1,000,000"),
        (["--noise", "0.15", "1e-12"], "--noise: got (0.15, 1e-12), needs values that are distinct among"),
        (["--noise-levels", "3000000000"], "--noise-levels: got 3000000000, needs an integer from 1 to 1,000,000"),
        (["--split", "-1"], "--split: got -1, needs an integer from 0"),
        (["--process", "salt"], "--process: got salt, needs one of gaussian, masking, uniform"),
        (["--process", "masking", "--noise", "0.1", "0.3"], "--onset-noise: got 0.4, needs one of the noise levels"),
        (["--loss", "squares"], "--loss: got squares, needs one of cross-entropy, bound"),
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


@pytest.mark.parametrize(
    ("options", "config"),
    [([], OnsetConfig()), (["--network", "transformer"], OnsetConfig(network=TransformerConfig()))],
    ids=["default", "transformer"],
)
def test_every_field_of_every_config_is_an_option(options, config, capsys):
    with pytest.raises(SystemExit, match="0"):
        onset.main([*options, "--help"])
    text = capsys.readouterr().out
    for name in names(config):
        assert re.search(rf"--{name.replace('_', '-')}\b", text)


@pytest.mark.parametrize("name", ["masking", "uniform"])
def test_a_process_brings_its_options_and_those_that_are_given_win(name, monkeypatch, capsys):
    """Those of the preset too, where they are asked for."""
    chosen, process = ["--preset", "smoke", "--process", name], PROCESSES[name]

    def told(*options):
        config = asked(monkeypatch, "onset", [*chosen, *options])[0]
        return {name: flat(options_of(config))[name] for name in ("noise", "onset_noise", "slope_noise")}

    own = {"slope_noise": 0.0, **process.defaults, "noise": list(process.defaults["noise"])}
    of_preset = {"noise": [0.1, 0.15, 0.3], "onset_noise": 0.15, "slope_noise": 0.0}
    assert told() == own
    assert told("--noise", "0.1", "0.15", "0.3", "--onset-noise", "0.15", "--slope-noise", "0") == of_preset
    assert told("--onset-noise", "0.1") == own | {"onset_noise": 0.1}
    levels = {"noise": [own["onset_noise"], 0.7], "slope_noise": 0.7}
    assert told("--noise", str(own["onset_noise"]), "0.7", "--slope-noise", "0.7") == own | levels
    assert told("--process", "gaussian") == of_preset
    with pytest.raises(SystemExit, match="0"):
        onset.main([*chosen, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    shares = "distinct numbers above 0 and up to 1"
    assert f"noise levels, as shares t/T: {shares} (default: {process.defaults['noise']})" in text
    assert f"turning point: a number above 0 and up to 1 (default: {own['onset_noise']})" in text


@pytest.fixture
def unmeasured(monkeypatch):
    """The measurement in place of the real one: not a number."""
    monkeypatch.setattr(Sequences, "inputs", lambda *_: Inputs(*5 * [None]))
    measure = jax.jit(lambda *_: {"test_loss": jnp.full(3, jnp.nan)})
    monkeypatch.setattr("hierdiff.runs.run.make_measure", lambda _: measure)


@pytest.mark.usefixtures("unmeasured")
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    """Step 2 meets the weights that an infinite learning rate makes; the message names it. No results are written."""
    monkeypatch.setattr("hierdiff.learning.optimizer.learning_rate", lambda *_: optax.constant_schedule(float("inf")))
    with pytest.raises(SystemExit, match="stopped: the loss of network 0 is not finite at step 2; a smaller"):
        onset.main([*OPTIONS, "--depth", "1", "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.usefixtures("unmeasured")
def test_a_measurement_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(SystemExit, match="stopped: test_loss is not finite at step 10; a smaller"):
        onset.main([*OPTIONS, "--depth", "1", "--out", str(tmp_path / "run")])


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path, capsys):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "precious.txt").write_text("mine")
    for resume in ("auto", "never"):
        with pytest.raises(SystemExit, match="2"):
            onset.main([*OPTIONS, "--out", str(tmp_path), "--resume", resume])
        assert "needs an empty folder, or that of a run; this one holds ['state']" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["state", "precious.txt"]


@pytest.mark.parametrize("file", ["summary.json", "curves.nc"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]"])
def test_a_damaged_run_is_refused(file, content, smoke_run, tmp_path, capsys):
    for name in ("config.json", "summary.json", "curves.nc", "results.nc"):
        (tmp_path / name).write_bytes((smoke_run[0] / name).read_bytes())
    (tmp_path / file).write_bytes(content)
    for main, options in (
        (onset.main, [*OPTIONS, "--out", str(tmp_path)]),
        (draw_run, [str(tmp_path)]),
        (membership.main, ["--targets", "100", "--run", str(tmp_path)]),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(options)
        assert f"needs a whole run; its {file} is missing or damaged" in capsys.readouterr().err


def test_the_options_of_a_run_are_not_to_be_changed(smoke_run, tmp_path, capsys):
    for name in ("config.json", "summary.json", "curves.nc"):
        (tmp_path / name).write_bytes((smoke_run[0] / name).read_bytes())
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "00000010.npz").write_bytes(b"")
    config = record.read_json(tmp_path / "config.json")
    for change, words in (
        ({"seed": 7}, "its config.json was changed"),
        ({"seed": 1.0}, "needs the folder of a finished"),
    ):
        config["options"] |= change
        record.write_json(tmp_path / "config.json", config)
        with pytest.raises(SystemExit, match="2"):
            membership.main(["--targets", "100", "--run", str(tmp_path)])
        assert words in capsys.readouterr().err


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


def test_a_program_that_is_not_started_by_a_cluster_says_so(monkeypatch, capsys):
    def alone():
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", alone)
    with pytest.raises(SystemExit, match="2"):
        onset.main([*OPTIONS, "--distributed"])
    assert "--distributed: got True, needs a Slurm job, a TPU slice or a Kubernetes JobSet" in capsys.readouterr().err


def test_outside_a_checkout_no_commit_is_named(monkeypatch):
    def none(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(record.subprocess, "run", none)
    made = record.origin(OnsetConfig())
    assert style.origin(Path("runs/a/curves.nc"), made).endswith("; commit unknown")


def git(folder, *words):
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(["git", "-C", str(folder), *name, *words], check=True, capture_output=True, text=True).stdout


def test_a_commit_is_named_of_the_packages_own_checkout_alone(tmp_path, monkeypatch):
    """Not that of a repository in which it is installed, or copied, or from whose hook it is called."""
    for folder, project in (("user", "theirs"), ("own", "hierdiff")):
        place = tmp_path / folder
        (place / "env" / "lib" / "hierdiff").mkdir(parents=True)
        (place / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
        git(tmp_path, "init", "-q", str(place))
        git(place, "add", ".")
        git(place, "commit", "-qm", "first")
    head = git(tmp_path / "own", "rev-parse", "HEAD").strip()
    assert record.commit(tmp_path / "own") == head[:12]
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "user" / ".git"))
    assert record.commit(tmp_path / "own") == head[:12]
    (tmp_path / "own" / "pyproject.toml").write_text('[project]\nname = "hierdiff"\nversion = "2"\n')
    assert record.commit(tmp_path / "own") == f"{head[:12]}-dirty"
    # Its root is not the folder that the package is in, its project is another, or there is none.
    vendored = tmp_path / "user" / "vendored"
    shutil.copytree(tmp_path / "own", vendored, ignore=shutil.ignore_patterns(".git"))
    for place in (vendored, tmp_path / "user", tmp_path / "user" / "env" / "lib", tmp_path):
        assert record.commit(place) is None, place


ROOT = Path(__file__).parents[1]
OF_A_CHECKOUT = """
import importlib.metadata, sys

before = importlib.metadata.Distribution.from_name

def of_others(name):
    if name == "hierdiff":
        raise importlib.metadata.PackageNotFoundError(name)
    return before(name)

importlib.metadata.Distribution.from_name = of_others
import hierdiff
from hierdiff.runs import record
assert hierdiff.__file__.startswith(sys.argv[1])
print(record.provenance()["versions"]["hierdiff"])
"""


def test_a_plain_checkout_on_the_path_knows_its_version(tmp_path):
    """Nothing of it is installed."""
    shutil.copytree(ROOT / "hierdiff", tmp_path / "hierdiff")
    command = [sys.executable, "-c", OF_A_CHECKOUT, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cited = re.search("^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited
    assert done.stdout.strip() == cited[1]


@pytest.mark.slow
def test_a_picture_is_drawn_whatever_backend_and_matplotlibrc_a_program_is_given(smoke_run, tmp_path):
    """A backend that is none, settings that are no text, and a name that mathematics could not read."""
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    folder = shutil.copytree(smoke_run[0], tmp_path / "$a_b^ {")
    (folder / "onset.png").unlink()
    settings = {"MPLBACKEND": "nonsense", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    command = [sys.executable, "-m", "experiments.onset", *OPTIONS, "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **settings})
    assert done.returncode == 0, done.stderr
    assert (folder / "onset.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_drawn_takes_nothing_from_a_run(smoke_run, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(smoke_run[0], tmp_path / "run")

    def fail(*_):
        raise RuntimeError("latex was not able\nto process this")

    monkeypatch.setattr(training, "draw", fail)
    onset.main([*OPTIONS, "--out", str(folder)])
    printed = capsys.readouterr()
    assert record.read_json(folder / "summary.json")["verdict"] in printed.out
    sentence = "the picture cannot be drawn: latex was not able to process this; the results are whole\n"
    assert printed.err == sentence
