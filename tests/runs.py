"""Small runs, what a command asks for, and what it takes for two runs to be the same."""

import importlib

import numpy as np

from hierdiff.questions import command
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
    found = []
    with monkeypatch.context() as patch:
        patch.setattr(command, "set_up_devices", lambda **_: None)
        patch.setattr(f"hierdiff.questions.{name}.answer", lambda *each: found.append(each))
        ask(name, arguments)
    return found[0]


def same(folder, whole):
    """All measurements and all weights are equal, bit by bit."""
    a, b = (record.read_results(each / "results.nc") for each in (folder, whole))
    assert a.drop_attrs().identical(b.drop_attrs())
    assert record.snapshot_steps(folder) == record.snapshot_steps(whole)
    for step in record.snapshot_steps(whole):
        files = [np.load(record.snapshot_file(each, step)) for each in (folder, whole)]
        for name in files[1].files:
            np.testing.assert_array_equal(files[0][name], files[1][name])
        for file in files:
            file.close()
