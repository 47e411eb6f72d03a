"""One run on any number of devices and of processes: the same program, and the same numbers within rounding.

Minutes long: `pytest -m slow` runs them.
"""

import importlib
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from runs import OPTIONS, ask, save_often

from hierdiff.runs import record, run

pytestmark = pytest.mark.slow


def use_one(monkeypatch):
    """Lay everything out on one of the two devices of the tests."""
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: first)


def close(folder, whole):
    """All measurements agree to 1e-5 of the largest: float32, after 60 steps of training."""
    a, b = (record.read_results(each / "results.nc") for each in (folder, whole))
    for name, x in b.data_vars.items():
        np.testing.assert_allclose(a[name], x, rtol=0, atol=1e-5 * float(abs(x).max()), err_msg=str(name))


@pytest.fixture(scope="module", params=["onset", "images"])
def command(request, tmp_path_factory):
    """A program of experiments, and its options."""
    if request.param == "onset":
        return "experiments.onset", OPTIONS
    data = tmp_path_factory.mktemp("data") / "noise.npz"
    np.savez(data, images=np.random.default_rng(0).integers(0, 256, (300, 8, 8), dtype=np.uint8))
    sizes = ["--steps", "60", "--checkpoints", "4", "--snapshots", "2", "--grids", "1"]
    return "experiments.images", ["--preset", "smoke", "--data-dir", str(data), *sizes]


def carry_out(command, folder, *more):
    program, options = command
    importlib.import_module(program).main([*options, "--out", str(folder), *more])


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """The run on four devices: two for the networks, and two for the sequences or images of each."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    program, options = command
    line = [sys.executable, "-m", program, *options, "--out", str(folder)]
    subprocess.run(line, env={**os.environ, "JAX_NUM_CPU_DEVICES": "4"}, capture_output=True, check=True)
    assert record.read_json(folder / "config.json")["device"] == "cpu x 4"
    return folder


@pytest.mark.parametrize("devices", [1, 2])
def test_the_number_of_devices_does_not_matter(devices, command, whole, tmp_path, monkeypatch):
    if devices == 1:
        use_one(monkeypatch)
    carry_out(command, tmp_path)
    close(tmp_path, whole)


def test_a_run_goes_on_with_another_number_of_devices(command, whole, tmp_path, monkeypatch):
    def left(*args):
        before(*args)
        if len(record.steps_in(tmp_path / "state")) == 2:
            raise KeyboardInterrupt

    save_often(monkeypatch)
    before = run.save
    monkeypatch.setattr(run, "save", left)
    with pytest.raises(SystemExit, match="130"):
        carry_out(command, tmp_path)
    monkeypatch.undo()
    use_one(monkeypatch)
    carry_out(command, tmp_path, "--resume", "must")
    close(tmp_path, whole)


def in_two_processes(command, folder, *more, first="", of="--out"):
    """Carry out `first` and a program as Slurm starts them, on this machine, joined by gloo; statuses and outputs."""
    program, options = command
    line = [*options, of, str(folder), "--distributed", *more]
    code = f"import {program} as program\n{first}\nprogram.main({line})"
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    job |= {"SLURM_LOCALID": "0", "JAX_NUM_CPU_DEVICES": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **job, "SLURM_PROCID": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    # A process that waits for another one for ever is given up by JAX after 300 seconds.
    outputs = [process.communicate(timeout=200) for process in processes]
    return [process.returncode for process in processes], outputs


def test_two_processes_carry_out_one_run_and_write_one_record(command, whole, tmp_path):
    statuses, outputs = in_two_processes(command, tmp_path)
    assert statuses == [0, 0], outputs
    close(tmp_path, whole)
    assert record.read_json(tmp_path / "config.json")["device"] == "cpu x 2"
    # The first process alone speaks.
    verdict = record.read_json(tmp_path / "summary.json")["verdict"]
    assert [verdict in output for output, _ in outputs] == [True, False]


TERMINATED_IN_ONE = """
import os, signal, jax
from hierdiff.runs import run
before, run.SAVE_AFTER = run.save, 0.0

def save(*args):
    before(*args)
    if jax.process_index() == 1:
        os.kill(os.getpid(), signal.SIGTERM)

run.save = save
"""


def test_two_processes_leave_when_one_is_told_to_and_go_on_together(command, whole, tmp_path):
    statuses, outputs = in_two_processes(command, tmp_path, first=TERMINATED_IN_ONE)
    assert statuses == [143] * 2, outputs
    assert len(record.steps_in(tmp_path / "state")) == 2
    statuses, outputs = in_two_processes(command, tmp_path, "--resume", "must")
    assert statuses == [0, 0], outputs
    close(tmp_path, whole)


FULL_AT_A_SNAPSHOT = """
import errno, os, jax
from hierdiff.runs import record

def full(*_):
    if jax.process_index() == 0:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

record.write_arrays = full
"""


def test_what_fails_in_one_process_ends_both(command, tmp_path):
    """A disk is full, for the only process that writes; the other one would wait for it."""
    statuses, outputs = in_two_processes(command, tmp_path, first=FULL_AT_A_SNAPSHOT)
    assert statuses == [1, 1], outputs
    assert "Disk quota exceeded; once there is room, the same command goes on" in outputs[0][1]


def test_two_processes_plan_together(command, tmp_path):
    statuses, outputs = in_two_processes(command, tmp_path, "--plan")
    assert statuses == [0, 0], outputs
    assert "on 2 of 2 devices (cpu)" in outputs[0][0]
    assert "devices" not in outputs[1][0]


def test_two_processes_answer_a_question_together(command, whole, tmp_path):
    """As one does; and after a kill of both, from the piece that was measured."""
    program, _ = command
    name, options = ("losses", ["--targets", "50"]) if program.endswith("onset") else ("samples", ["--samples", "50"])
    question = f"experiments.{name}", options
    one, two = (shutil.copytree(whole, tmp_path / number) for number in ("one", "two"))
    for folder in (one, two):
        for file in folder.glob(f"{name}.*"):
            file.unlink()
    ask(name, [*options, "--run", str(one)])
    statuses, outputs = in_two_processes(question, two, first=KILLED_AFTER_A_PIECE, of="--run")
    assert statuses == [1, 1], outputs
    assert len(list((two / f"{name}.pieces").glob("*.npz"))) == 1
    statuses, outputs = in_two_processes(question, two, of="--run")
    assert statuses == [0, 0], outputs
    sentence = record.read_json(two / "summary.json")[name]["sentence"]
    assert [sentence in output for output, _ in outputs] == [True, False]
    a, b = (record.read_results(folder / f"{name}.results.nc") for folder in (one, two))
    for variable, x in b.data_vars.items():
        np.testing.assert_allclose(a[variable], x, rtol=1e-4, atol=1e-5, err_msg=str(variable))


KILLED_AFTER_A_PIECE = """
import jax
from hierdiff.runs import record
before = record.write_arrays

def write(path, arrays):
    before(path, arrays)
    raise RuntimeError("killed")

record.write_arrays = write
"""
