"""What a run does with files: faults and kills at each of their boundaries, folders of any name, files in use.

All numbers are computed once: what is left of a run is what it does with files.
"""

import builtins
import contextlib
import dataclasses
import errno
import io
import itertools
import os
import shutil
import stat
import subprocess
import sys
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from runs import ask, same

from hierdiff.questions import snapshots, training
from hierdiff.questions.configs import LossesConfig
from hierdiff.questions.losses import LOSSES
from hierdiff.questions.snapshots import Answer, Work
from hierdiff.runs import record, run
from hierdiff.runs.command_line import Parser
from hierdiff.statistics.replicates import Statistics
from hierdiff.worlds.finished import open_run
from hierdiff.worlds.sequences import Sequences

OPTIONS = ["--preset", "smoke", "--depth", "1", "--steps", "4", "--checkpoints", "2", "--first-checkpoint", "2"]
OPTIONS += ["--held-out", "100", "--noise", "0.15", "--snapshots", "2"]


def once(function: Any) -> Any:
    """A function that gives always what it gave at first."""
    found: list[Any] = []

    def first(*args, **kwargs):
        if not found:
            found.append(function(*args, **kwargs))
        return found[0]

    return first


@pytest.fixture(scope="module")
def whole(tmp_path_factory, monkeypatch_module):
    """A run and a question to it. The next ones take no time but for their files; what is measured follows the step."""
    host, before, measure_of = {}, run.prepare, run.make_measure

    def prepare(config, world):
        if not host:
            training = before(config, world)
            measured = measure_of(world)(training.state.average, world.inputs(config.measure))
            host.update(jax.tree.map(np.asarray, {"measured": measured, "state": training.state}), training=training)
        return dataclasses.replace(host["training"], state=on_devices(0))

    def on_devices(step):
        """The state of a step: its number is in all averaged weights."""
        state = jax.tree.map(jnp.asarray, host["state"])
        return state._replace(average=jax.tree.map(lambda x: x * 0 + step, state.average))

    def train(config, _, done):
        yield from ((step, on_devices(step)) for step in range(done + 1, config.steps + 1))

    def measure(weights, _):
        return {name: jnp.asarray(x) * (1 + number_in(weights)) for name, x in host["measured"].items()}

    with monkeypatch_module.context() as patch:
        for owner, name in (
            (Sequences, "set_up"),
            (Sequences, "inputs"),
            (training, "statistics"),
            (training, "summarise"),
            (record, "provenance"),
        ):
            patch.setattr(owner, name, once(getattr(owner, name)))
        for name, stub in (("prepare", prepare), ("train", train), ("make_measure", lambda _: measure)):
            patch.setattr(run, name, stub)
        patch.setattr(run, "SAVE_AFTER", 0.0)
        folder = tmp_path_factory.mktemp("whole")
        ask("onset", [*OPTIONS, "--out", str(folder / "all")])
        # One variable will do.
        statistics: Any = training.statistics
        found, label = statistics(), training.label
        less = Statistics(found.mean[["split"]], found.replicates[["split"]], found.resampling)
        patch.setattr(training, "statistics", lambda *_: less)
        patch.setattr(training, "label", lambda *args: label(*args)[["split"]])
        run_and_ask(folder / "run")
        yield folder / "run"


def run_and_ask(folder):
    """What a command of a training and one of a question do."""
    ask("onset", [*OPTIONS, "--out", str(folder)])
    with Parser().one_sentence():
        snapshots.extend(QUESTION, open_run(folder, Sequences), LossesConfig())


def number_in(weights):
    return jax.tree.leaves(weights)[0].ravel()[0]


def work(*_):
    def label(measured):
        x = np.stack([each["x"] for each in measured])
        return xr.Dataset({"x": (("step", "network", "group"), x)}, {"step": [2, 4]})

    return Work(lambda weights: {"x": np.full((2, 50), float(number_in(weights)))}, label)


QUESTION = dataclasses.replace(
    LOSSES,
    work=work,
    summarise=lambda _: Answer("It is so.", {"so": True}),
    table=lambda _: ["a table"],
    derive=lambda x: x,
)


class Killed(BaseException):
    """What no code catches."""


class Boundaries:
    """What a program does to the files of a folder, counted; the `fails`-th fails with `number`, or kills the program.

    That does nothing more, not even tidy up.
    """

    def __init__(self, patch, folder, fails, number):
        self.folder, self.done, self.fails, self.number, self.dead = str(folder), [], fails, number, False
        for name in ("open", "mkdir", "replace", "rename", "unlink", "rmdir", "fsync"):
            patch.setattr(os, name, self.at(name, getattr(os, name)))
        for module in (io, builtins):
            patch.setattr(module, "open", self.at("open", module.open, Written))

    def at(self, what, function, of_written=lambda _, file: file):
        def call(file, *args, **kwargs):
            # Of a folder that is taken away, names are given without it.
            own = what == "fsync" or "dir_fd" in kwargs or str(file).startswith(self.folder)
            if own:
                self.come(what)
            made = function(file, *args, **kwargs)
            return of_written(self, made) if own and not {"r", "rb"} & {*args, kwargs.get("mode")} else made

        return call

    def come(self, what):
        if self.dead:
            raise Killed
        self.done.append(what)
        if len(self.done) == self.fails:
            if self.number:
                raise OSError(self.number, os.strerror(self.number))
            self.dead = True
            raise Killed


class Written:
    """A file whose writing is counted: its beginning, and once more, where a part is written."""

    def __init__(self, boundaries, file):
        self.boundaries, self.file, self.writes = boundaries, file, 0

    def write(self, content):
        self.writes += 1
        if self.boundaries.dead or self.writes < 3:
            self.boundaries.come("write")
        return self.file.write(content)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def fault(folder, fails, number):
    """Run and ask with a fault; gives what was done to files, and what ended it."""
    with pytest.MonkeyPatch.context() as patch:
        boundaries, end = Boundaries(patch, folder, fails, number), None
        try:
            run_and_ask(folder)
        except (SystemExit, Killed) as stop:
            end = stop
    return boundaries.done, end


def sweep(whole, tmp_path, capsys, every, numbers):
    """Each fault ends in one sentence or is of no matter; the same commands then end with the same record."""
    total = len(fault(tmp_path / "none", 0, 0)[0])
    for fails, number in itertools.product(range(1 + every // 2, total + 1, every), numbers):
        folder = tmp_path / f"{fails}-{number}"
        capsys.readouterr()
        done, end = fault(folder, fails, number)
        printed, where = capsys.readouterr().err, (done[-1], fails, number)
        assert len(done) >= fails, where
        if number and isinstance(end, SystemExit):
            said = printed if end.code == 2 else str(end.code)
            assert said.startswith(("error: ", "stopped: ")), where
            assert said.strip().count("\n") == 0, where
            assert os.strerror(number) in said, (where, said)
        run_and_ask(folder)
        same(folder, whole)
        files = [{str(path.relative_to(each)) for path in each.rglob("*")} for each in (folder, whole)]
        assert files[0] == files[1], where
        for name in ("summary.json", "config.json"):
            a, b = (record.read_json(each / name) for each in (folder, whole))
            assert {**a, **dict.fromkeys(TIMES)} == {**b, **dict.fromkeys(TIMES)}, where
        shutil.rmtree(folder)
    return total


TIMES = ("seconds_training", "seconds_measuring")


@pytest.mark.slow
def test_a_fault_at_a_boundary_of_files_leaves_a_folder_that_goes_on(whole, tmp_path, capsys):
    """Some of them; at others the program is killed."""
    assert sweep(whole, tmp_path, capsys, 25, (errno.EIO,)) > 100
    sweep(whole, tmp_path, capsys, 41, (0,))


SWEEPS = {0: 1, errno.EIO: 1, errno.ENOSPC: 4, errno.EACCES: 6, errno.EROFS: 7, errno.EINTR: 8}


@pytest.mark.slow
@pytest.mark.parametrize("number", SWEEPS)
def test_a_fault_at_any_boundary_of_files_leaves_a_folder_that_goes_on(number, whole, tmp_path, capsys):
    """Kills and one kind of fault at each of them, other kinds at some."""
    sweep(whole, tmp_path, capsys, SWEEPS[number], (number,))


NAMES = ["a[1]", "*?", "back\\slash", "new\nline", " spaces ", "$x_y^2$ {%}", "-dash", "~"]


@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"not UTF-8: \xff"), 255 * "n"])
def test_a_folder_may_have_any_name(name, whole, tmp_path, capsys):
    """A run there is killed half way, goes on, is asked a question and shown."""
    folder = tmp_path / name
    assert isinstance(fault(folder, 90, 0)[1], Killed)
    assert record.steps_in(folder / "state")
    ask("onset", [*OPTIONS, "--out", f"{tmp_path}/{name}", "--resume", "must"])
    run_and_ask(folder)
    same(folder, whole)
    assert record.read_json(folder / "summary.json")["losses"]["so"]
    assert ascii(name)[1:-1].replace("\\\\", "\\")[:9] in capsys.readouterr().out or "\n" in name


def test_a_folder_whose_files_would_have_too_long_names_is_refused_at_the_start(whole, tmp_path, capsys):
    folder = tmp_path
    while len(str(folder)) < 4096 - 60:
        folder /= "n" * min(200, 4096 - 59 - len(str(folder)))
    with pytest.raises(SystemExit, match="2"):
        ask("onset", [*OPTIONS, "--out", str(folder)])
    assert "File name too long" in capsys.readouterr().err


def test_what_a_run_makes_has_the_modes_that_the_umask_leaves(whole, tmp_path):
    before = os.umask(0o027)
    try:
        assert isinstance(fault(tmp_path / "run", 90, 0)[1], Killed)
        made = [(path, path.stat().st_mode) for path in (tmp_path / "run").rglob("*")]
        run_and_ask(tmp_path / "run")
    finally:
        os.umask(before)
    made += [(path, path.stat().st_mode) for path in (tmp_path / "run").rglob("*")]
    assert {path.name for path, _ in made} >= {"snapshots", "state", ".lock", "curves.nc", "config.json"}
    for path, mode in made:
        assert stat.S_IMODE(mode) == (0o750 if stat.S_ISDIR(mode) else 0o640), path


@contextlib.contextmanager
def locked(path, how):
    """Another program has the file open, and has locked it: HDF5, by the one kind of lock, or by the other."""
    if how == "HDF5":
        with h5py.File(path, "r+"):
            yield
        return
    code = f"import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.{how}(f, fcntl.LOCK_EX); print(flush=True); input()"
    command, pipe = [sys.executable, "-c", code, str(path)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as program:
        assert program.stdout
        program.stdout.readline()
        yield
        program.communicate("")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("curves.nc", "HDF5"),
        ("losses.results.nc", "HDF5"),
        ("summary.json", "flock"),
        ("config.json", "lockf"),
        ("curves.nc", "lockf"),
        ("snapshots/00000002.npz", "flock"),
    ],
)
def test_a_file_that_another_program_has_locked_is_not_called_damaged(name, how, whole, tmp_path, capsys):
    folder = shutil.copytree(whole, tmp_path / "run")
    if "snapshots" in name:
        (folder / "losses.results.nc").unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.name != ".lock"}
    with locked(folder / name, how), pytest.raises(SystemExit) as stop:
        run_and_ask(folder)
    assert stop.value.code == (
        f"stopped: {folder / name} is locked by another program, which may be writing it; "
        "once that has closed it, the same command goes on"
    )
    after = {path: path.stat().st_mtime_ns for path in before}
    del after[folder / name], before[folder / name]
    assert after == before
    run_and_ask(folder)
    same(folder, whole)


def test_a_file_that_another_program_only_reads_is_read(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    with h5py.File(folder / "curves.nc", "r"):
        run_and_ask(folder)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_file_that_cannot_be_read_now_is_not_called_damaged(number, whole, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(io, "open", fail)
    for read in (record.read_json, record.read_results, record.is_whole, record.read_arrays):
        with pytest.raises(OSError, match=os.strerror(number)) as error:
            read(whole / "curves.nc")
        assert not isinstance(error.value, record.DamagedError | FileNotFoundError)
    with pytest.raises(OSError, match=os.strerror(number)):
        record.made_with(whole / "losses.results.nc", LossesConfig())


def test_damaged_bytes_are_told_from_what_cannot_be_read(whole, tmp_path):
    """Half a file, as one that is copied is for a while, and bytes that another program has put there."""
    rng = np.random.default_rng(0)
    for name, read in (
        ("summary.json", record.read_json),
        ("curves.nc", record.read_results),
        ("snapshots/00000002.npz", record.read_arrays),
    ):
        content = (whole / name).read_bytes()
        path = tmp_path / "file"
        for part in (0.0, 0.01, 0.1, 0.5, 0.9):
            path.write_bytes(content[: int(part * len(content))])
            with pytest.raises(record.DamagedError, match="is damaged, or not yet wholly written"):
                read(path)
        path.write_bytes(rng.bytes(len(content)))
        with pytest.raises(record.DamagedError):
            read(path)


def test_a_piece_of_a_question_that_is_damaged_is_measured_again(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "losses.results.nc").unlink()
    (first, _) = record.pieces(folder, "losses", [2, 4], LossesConfig())
    first.write_bytes(b"PK half a file")
    run_and_ask(folder)
    a, b = (record.read_results(each / "losses.results.nc") for each in (folder, whole))
    assert a.drop_attrs().identical(b.drop_attrs())
