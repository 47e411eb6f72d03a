"""What a run does with files: faults and kills at each of their boundaries, folders of any name, files in use.

All numbers are computed once: what is left of a run is what it does with files.
"""

import builtins
import dataclasses
import errno
import fcntl
import io
import itertools
import os
import shutil

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
from hierdiff.worlds.finished import open_run
from hierdiff.worlds.sequences import Sequences

OPTIONS = ["--preset", "smoke", "--depth", "1", "--steps", "4", "--checkpoints", "2", "--first-checkpoint", "2"]
OPTIONS += ["--held-out", "100", "--noise", "0.15", "--snapshots", "2"]


def once(function):
    """A function that gives always what it gave at first."""
    found = []

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
        for owner, name in ((Sequences, "set_up"), (Sequences, "inputs"), (training, "statistics")):
            patch.setattr(owner, name, once(getattr(owner, name)))
        patch.setattr(training, "summarise", once(training.summarise))
        patch.setattr(run, "SAVE_AFTER", 0.0)
        for name, stub in (("prepare", prepare), ("train", train), ("make_measure", lambda _: measure)):
            patch.setattr(run, name, stub)
        folder = tmp_path_factory.mktemp("whole") / "run"
        run_and_ask(folder)
        yield folder


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
    LOSSES, work=work, summarise=lambda _: Answer("It is so.", {"so": True}), derive=lambda x: x
)


class Killed(BaseException):
    """What no code catches."""


class Boundaries:
    """Everything that a program does to files, counted; the `fails`-th fails with `number`, or ends the program.

    A program that is ended does nothing more, not even tidy up.
    """

    def __init__(self, patch, fails=0, number=0):
        self.done, self.fails, self.number, self.dead = [], fails, number, False
        for name in ("open", "mkdir", "replace", "rename", "unlink", "rmdir", "fsync"):
            patch.setattr(os, name, self.at(name, getattr(os, name)))
        patch.setattr(fcntl, "flock", self.at("flock", fcntl.flock))
        for module in (io, builtins):
            patch.setattr(module, "open", self.open)

    def at(self, what, function):
        def call(*args, **kwargs):
            self.come(what)
            return function(*args, **kwargs)

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

    def open(self, file, mode="r", *args, before=open, **kwargs):
        if not isinstance(file, int):
            self.come(f"open {mode}")
        opened = before(file, mode, *args, **kwargs)
        return opened if mode in ("r", "rb") else Written(self, opened)


class Written:
    """A file whose writing is counted."""

    def __init__(self, boundaries, file):
        self.boundaries, self.file = boundaries, file

    def write(self, content):
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
        boundaries, end = Boundaries(patch, fails, number), None
        try:
            run_and_ask(folder)
        except (SystemExit, Killed) as stop:
            end = stop
    return boundaries.done, end


def sweep(whole, tmp_path, capsys, every, numbers):
    """Each fault ends in one sentence or is of no matter; the same commands then end with the same record."""
    total = len(fault(tmp_path / "none", 0, 0)[0])
    for fails, number in itertools.product(range(1, total + 1, every), numbers):
        folder = tmp_path / f"{fails}-{number}"
        capsys.readouterr()
        done, end = fault(folder, fails, number)
        printed, where = capsys.readouterr().err, (done[-1], fails, number)
        assert len(done) >= fails, where
        if number and isinstance(end, SystemExit):
            said = printed if end.code == 2 else end.code
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


def test_a_fault_at_a_boundary_of_files_leaves_a_folder_that_goes_on(whole, tmp_path, capsys):
    """Every seventh is tried, and every eleventh is the last thing that the program does."""
    assert sweep(whole, tmp_path, capsys, 7, (errno.EIO,)) > 100
    sweep(whole, tmp_path, capsys, 11, (0,))


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EINTR])
def test_a_fault_at_any_boundary_of_files_leaves_a_folder_that_goes_on(number, whole, tmp_path, capsys):
    sweep(whole, tmp_path, capsys, 1, (number,))
