"""The data as files: a run's own, exact, the same whatever the parts and the format, and whole or not at all."""

import errno
import json
import shutil
import sys

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from runs import ask
from test_files import Boundaries, Killed

import hierdiff as hd
from hierdiff.errors import OptionError
from hierdiff.grammar import GrammarConfig
from hierdiff.questions import data
from hierdiff.questions.configs import DataConfig
from hierdiff.runs import record
from hierdiff.runs.options import rebuild
from hierdiff.worlds.run_config import MeasureConfig, OnsetConfig
from hierdiff.worlds.sequences import Sequences

OPTIONS = ["--seed", "3", "--split", "1", "--depth", "2", "--sets", "2", "--size", "300", "--held-out", "100"]
NOISE, DEPTH = (0.1, 0.3), 2
OPTIONS += ["--noise", *map(str, NOISE)]


def written(folder, *more):
    ask("data", [*OPTIONS, *more, "--out", str(folder)])
    return folder


def read(folder, name):
    """The arrays of all files of one name, one after another."""
    parts = [dict(np.load(path)) for path in sorted(folder.glob(f"{name}-*.npz"))]
    return {array: np.concatenate([part[array] for part in parts]) for array in parts[0]}


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return written(tmp_path_factory.mktemp("data") / "whole")


@pytest.fixture
def small_parts(monkeypatch):
    """Files of few sequences; the sizes divide none of the sets."""
    monkeypatch.setattr(data, "IN_FILE", 2**11)


@pytest.mark.parametrize("process", ["gaussian", "masking"])
def test_data_and_noise_are_those_of_a_run(process, tmp_path, small_parts):
    folder = written(tmp_path, "--process", process)
    measure = MeasureConfig(held_out=100, noise=NOISE, onset_noise=0.1)
    sizes = {"sets": 2, "size": 300, "grammar": GrammarConfig(depth=DEPTH), "measure": measure}
    world = Sequences.set_up(OnsetConfig(seed=3, split=1, process=process, **sizes))
    sets = [*world.train, world.held_out]
    for name, tokens in zip(("train-0", "train-1", "held-out"), sets, strict=True):
        np.testing.assert_array_equal(read(folder, name)[f"level_{DEPTH}"], tokens)
    of_run = world.at_levels("held-out", world.held_out, NOISE)
    for i, level in enumerate((50, 150)):
        noised = read(folder, f"noised-t{level}")
        np.testing.assert_array_equal(noised["t"], of_run.t[i])
        np.testing.assert_array_equal(noised["x_0"], world.held_out)
        np.testing.assert_allclose(noised["x_t"], of_run.x_t[i], atol=1e-6)
        for k in range(DEPTH + 1):
            np.testing.assert_allclose(noised[f"bp_{k}"], of_run.exact[i, k], atol=2e-5)


def test_posteriors_are_those_of_what_the_files_hold(whole):
    """By the grammar that is read back; and what a level holds are children of the one above."""
    grammar, process = hd.load_grammar(whole / "grammar.npz"), hd.Gaussian(vocab=6)
    noised = read(whole, "noised-t150")
    ll = process.log_likelihood(jnp.asarray(noised["x_t"]), 150)
    assert noised["x_t"].shape == (100, 4, 6)
    for number in range(DEPTH + 1):
        exact, window = hd.leaf_posterior(grammar, ll, filtered=number), hd.window_posterior(grammar, ll, height=number)
        np.testing.assert_allclose(noised[f"bp_{number}"], exact, atol=1e-6)
        np.testing.assert_allclose(noised[f"window_{number}"], window, atol=1e-6)
    derived, children = read(whole, "train-1"), np.asarray(grammar.children)
    for d in range(DEPTH):
        below = derived[f"level_{d + 1}"].reshape(300, 2**d, 2)
        rules = children[d, derived[f"level_{d}"].astype(int)]
        assert (rules == below[:, :, None]).all(-1).any(-1).all()
        assert below.dtype == np.uint8


def test_the_same_command_gives_the_same_bytes(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "provenance", lambda: {"command": "the same"})
    folders = [written(tmp_path / name) for name in ("a", "b")]
    assert content(folders[0]) == content(folders[1])
    made = [{name: x for name, x in content(each).items() if name.endswith("npz")} for each in (whole, folders[0])]
    assert made[0] == made[1]


def test_parts_change_no_number(whole, tmp_path, small_parts):
    folder = written(tmp_path)
    assert [len([*folder.glob(f"{name}-*")]) for name in ("train-0", "noised-t50")] == [2, 13]
    for name in ("train-0", "train-1", "held-out", "noised-t50", "noised-t150"):
        parts, at_once = read(folder, name), read(whole, name)
        assert parts.keys() == at_once.keys()
        for array, x in parts.items():
            np.testing.assert_allclose(x, at_once[array], atol=1e-6)
            assert x.dtype == at_once[array].dtype


def test_noise_that_is_not_drawn_at_once_is_new_in_each_block(tmp_path, monkeypatch, small_parts):
    """The first block has the noise that a smaller set has."""
    monkeypatch.setattr(data, "AT_ONCE", 2**11)
    folder = written(tmp_path / "all", "--process", "masking", "--held-out", "200")
    masks = read(folder, "noised-t150")["x_t"] == 6
    assert 0.2 < masks.mean() < 0.4
    assert (masks[:64] != masks[64:128]).any()
    less = written(tmp_path / "less", "--process", "masking", "--held-out", "64")
    np.testing.assert_array_equal(read(less, "noised-t150")["x_t"], read(folder, "noised-t150")["x_t"][:64])


def test_parquet_holds_the_same(whole, tmp_path, small_parts):
    folder = written(tmp_path, "--format", "parquet")
    for name in ("train-0", "held-out", "noised-t50"):
        table = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob(f"{name}-*.parquet"))])
        arrays = read(whole, name)
        assert [*table.columns] == [*arrays]
        for array, x in arrays.items():
            column = table[array].to_numpy()
            column = np.stack([np.stack([*row]) for row in column]) if x.ndim > 1 else column
            np.testing.assert_allclose(column, x, atol=1e-6)
            assert column.dtype == x.dtype


def fault(folder, fails, number):
    """Write with a fault at a boundary of files; what was done to them, and whether that ended the program."""
    with pytest.MonkeyPatch.context() as patch:
        boundaries = Boundaries(patch, folder, fails, number)
        try:
            written(folder, "--noise", "0")
        except (SystemExit, Killed):
            return boundaries.done, True
    return boundaries.done, False


def test_a_fault_at_a_boundary_of_files_leaves_whole_ones_and_is_made_good(tmp_path, monkeypatch, small_parts):
    """A kill and a full disk in turn, at some of them."""
    monkeypatch.setattr(record, "provenance", lambda: {"command": "the same"})
    monkeypatch.setattr(record, "TRIED", -1.0)
    whole = content(written(tmp_path / "whole", "--noise", "0"))
    total, ends = len(fault(tmp_path / "none", 0, 0)[0]), []
    for fails in range(6, total + 1, 7):
        folder = tmp_path / str(fails)
        ends.append(fault(folder, fails, (0, errno.ENOSPC)[fails % 2])[1])
        there = {name: x for name, x in content(folder).items() if not name.startswith(".")}
        assert there.items() <= whole.items()
        assert "data.json" not in there or there.keys() | {".lock"} == whole.keys()
        assert content(written(folder, "--noise", "0")) == whole
    assert sum(ends) > 8


def test_what_is_there_is_said_and_what_is_missing_made_anew(whole, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(whole, tmp_path / "data")
    before = content(folder)
    with monkeypatch.context() as patch:
        patch.setattr(data, "sample", lambda *_, **__: pytest.fail("nothing is drawn"))
        written(folder)
    assert content(folder) == before
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:6]] == [
        ["files", "sequences"],
        ["train-*.npz", "600"],
        ["held-out-*.npz", "100"],
        ["noised-t50-*.npz", "100"],
        ["noised-t150-*.npz", "100"],
    ]
    assert json.loads(before["data.json"])["table"] == lines[1:6]
    (folder / "noised-t150-00000.npz").unlink()
    written(folder)
    assert content(folder)["noised-t150-00000.npz"] == before["noised-t150-00000.npz"]


def refused(capsys, *line):
    with pytest.raises(SystemExit, match="2"):
        ask("data", [*line])
    (sentence,) = capsys.readouterr().err.splitlines()
    return sentence


def test_what_will_not_do_is_refused_before_anything_is_drawn(whole, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data, "random_grammar", None)
    said = refused(capsys, *OPTIONS, "--seed", "4", "--out", str(whole))
    assert said.startswith(f"error: --out: got {whole}, needs another folder: this one holds a run with other seed (3")
    (tmp_path / "other").touch()
    assert "needs an empty folder" in refused(capsys, *OPTIONS, "--out", str(tmp_path))
    made = record.read_json(whole / "config.json")
    older = tmp_path / "older"
    older.mkdir()
    record.write_json(older / "config.json", made | {"draws": "otherwise"})
    assert "needs a run that draws its data as this version does" in refused(capsys, *OPTIONS, "--out", str(older))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    said = refused(capsys, "--format", "parquet", "--out", str(tmp_path / "none"))
    assert said.startswith(
        "error: --format: got parquet, needs npz, or an installation of pyarrow, which comes with hier"
    )
    assert not (tmp_path / "none").exists()
    for change, word in (
        ({"size": 2**31 - 1}, "size: got 2147483647, needs at most 1,073,741,423"),
        ({"noise": (0.1, 0.1001)}, "noise: got"),
        ({"noise_levels": 20}, "noise_levels: got 20, needs an integer from 21"),
    ):
        with pytest.raises(OptionError, match=word):
            rebuild(DataConfig(), change)
