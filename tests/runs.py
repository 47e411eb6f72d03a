"""Small runs, what a command asks for, and what it takes for two runs to be the same."""

import dataclasses
import importlib
from argparse import Namespace

import numpy as np

from hierdiff.runs import record, run

# The run that a user would make, with three sets for the intervals.
SMOKE = ["--preset", "smoke", "--steps", "200", "--held-out", "100", "--sets", "3", "--snapshots", "3"]
OPTIONS = ["--preset", "smoke", "--depth", "1", "--steps", "60", "--checkpoints", "4", "--held-out", "100"]
OPTIONS += ["--noise", "0.15", "--snapshots", "2"]


def save_often(monkeypatch):
    """Save the state every twenty steps, whatever the time."""
    before = run.save
    monkeypatch.setattr(run, "SAVE_AFTER", 0.0)
    monkeypatch.setattr(run, "save", lambda folder, step, state: step % 20 or before(folder, step, state))


def ask(name, arguments):
    """What `python -m experiments.NAME` does, in this process."""
    importlib.import_module(f"experiments.{name}").main(arguments)


def asked(monkeypatch, name, arguments):
    """The config and the options that `python -m experiments.NAME` would answer; it exits where one will not do."""
    found = {}
    with monkeypatch.context() as patch:
        patch.setattr("hierdiff.learning.devices.set_up_devices", lambda **_: None)
        patch.setattr("hierdiff.questions.command.require_folders", lambda *_: None)
        answer = "hierdiff.questions.command.answer"
        patch.setattr(answer, lambda name, config, **options: found.update({name: (config, Namespace(**options))}))
        ask(name, arguments)
    return found[name]


def names(config):
    """The fields of a config and of those nested in it; of which kind one of several is, is a field too."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if "kinds" in field.metadata or not dataclasses.is_dataclass(value):
            yield field.name
        if dataclasses.is_dataclass(value):
            yield from names(value)


def same(folder, whole):
    """All measurements and all weights are equal, bit by bit."""
    a, b = (record.read_results(each / "results.nc") for each in (folder, whole))
    assert a.drop_attrs().identical(b.drop_attrs())
    assert record.steps_in(folder / "snapshots") == record.steps_in(whole / "snapshots")
    for step in record.steps_in(whole / "snapshots"):
        files = [np.load(record.file_of_step(each / "snapshots", step)) for each in (folder, whole)]
        for name in files[1].files:
            np.testing.assert_array_equal(files[0][name], files[1][name])
        for file in files:
            file.close()
