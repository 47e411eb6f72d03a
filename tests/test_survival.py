"""A run that is killed again and again, and one whose disk is full. Minutes long: `pytest -m slow` runs them."""

import collections
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from runs import same

from hierdiff.runs import record

pytestmark = pytest.mark.slow

OPTIONS = ["--preset", "smoke", "--depth", "2", "--steps", "600", "--held-out", "100", "--noise", "0.15"]
# Of a run and of a question to it, which follows: what they do when they are killed, each of it so often.
KILLS, TIMES = {"onset": "tmw", "losses": "qw"}, 4

# A new process for each attempt, forked from one that has imported everything and has not yet started JAX; compiled
# programs are kept. What a child is doing stands in a file: training, measuring, writing (t, m, w), measuring what a
# question asks (q) or anything else.
# It is killed when it does what is aimed at for the `number`-th time, if that happens, after a part of the least time
# that this takes: by the kernel's clock, whose signal, which nothing handles, ends a process as SIGKILL does.
DRIVER = """
import contextlib, json, os, signal, sys
import hierdiff.questions.training
from experiments import losses, onset
from hierdiff.runs import record, run
from hierdiff.worlds import finished

run.SAVE_AFTER = 0.5
doing = os.open(sys.argv[1], os.O_RDWR)
aim = {}


@contextlib.contextmanager
def at(letter, least):
    outside = os.pread(doing, 1, 0)
    os.pwrite(doing, letter.encode(), 0)
    if letter == aim["letter"]:
        aim["number"] -= 1
        if aim["number"] == 0:
            signal.setitimer(signal.ITIMER_REAL, aim["part"] * least)
    yield
    os.pwrite(doing, outside, 0)


def told(module, name, letter, least):
    before = getattr(module, name)

    def function(*args):
        with at(letter, least):
            return before(*args)

    setattr(module, name, function)


def train(*args, before=run.train):
    steps = before(*args)
    while True:
        with at("t", 0.005):
            step = next(steps, None)
        if step is None:
            return
        yield step


run.train = train
told(run, "to_host", "m", 0.001)
told(finished, "to_host", "q", 0.001)
told(run, "save", "w", 0.2)
told(record, "write_whole", "w", 0.0005)
for line in sys.stdin:
    name, options, aim = json.loads(line)
    os.pwrite(doing, b" ", 0)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        {"onset": onset, "losses": losses}[name].main(options)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_twenty_kills_at_random_moments_change_nothing(tmp_path):
    """Each aimed at what was hit least: training, measuring or writing; the first ones early in the run.

    Then at the question that follows; a run that has been asked is followed by another.
    """
    rng, killed, saves = random.Random(0), {name: collections.Counter() for name in KILLS}, set()
    errors, doing, pipe = tmp_path / "errors", tmp_path / "doing", subprocess.PIPE
    doing.touch()
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command, environment = [sys.executable, "-c", DRIVER, str(doing)], {**os.environ, **cache}
    with (
        errors.open("w") as file,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=file, text=True, env=environment) as driver,
    ):
        requests, answers = driver.stdin, driver.stdout
        assert requests
        assert answers

        def status_of(name, folder, letter="", number=0, part=0.0):
            options = [*OPTIONS, "--out", str(folder)] if name == "onset" else ["--targets", "50", "--run", str(folder)]
            requests.write(json.dumps([name, options, {"letter": letter, "number": number, "part": part}]) + "\n")
            requests.flush()
            return int(answers.readline())

        whole = tmp_path / "whole"
        assert [status_of(name, whole) for name in KILLS] == [0, 0], errors.read_text()
        for number in itertools.count():
            folder = tmp_path / str(number)
            for name, letters in KILLS.items():
                status = None
                while status != 0:
                    aim = ("", 0, 0.0)
                    letter = min(letters, key=killed[name].__getitem__)
                    if killed[name][letter] < TIMES:
                        aim = (letter, rng.randint(1, 1 + 3 * killed[name][letter]), rng.uniform(0.01, 1))
                    status = status_of(name, folder, *aim)
                    assert status in (0, -signal.SIGALRM), errors.read_text()
                    if status != 0:
                        killed[name][doing.read_text()] += 1
                        saves.add(len(list((folder / "state").glob("[0-9]*.npz"))))
            same(folder, whole)
            a, b = (record.read_results(each / "losses.results.nc") for each in (folder, whole))
            assert a.drop_attrs().identical(b.drop_attrs())
            assert not [path for path in folder.rglob("*") if path.name.startswith(".") and path.name != ".lock"]
            assert not list(folder.glob("*.pieces"))
            if all(killed[name][letter] >= TIMES for name, letters in KILLS.items() for letter in letters):
                break
        requests.close()
    # Some before the first save, some after the second.
    assert min(saves) == 0, saves
    assert max(saves) >= 2, saves


def test_no_file_of_results_is_left_half_written_by_a_full_disk(tmp_path):
    """Where HDF5 itself writes to a full disk, the process crashes."""
    need_disks()
    program = """
import pathlib, sys
import numpy as np, xarray as xr
from hierdiff.runs import record
from hierdiff.runs.command_line import Parser
folder = pathlib.Path(sys.argv[1])
with Parser().one_sentence():
    record.write_results(folder / "a.nc", xr.Dataset({"x": ("i", np.zeros(1000))}))
    record.write_results(folder / "b.nc", xr.Dataset({f"x{n}": ("i", np.arange(2000.0)) for n in range(90)}))
"""
    script = 'mount -t tmpfs -o size=300k tmpfs $0 && $1 -c "$2" $0; status=$?; ls -A $0; exit $status'
    command = ["unshare", "-rm", "sh", "-c", script, str(tmp_path), sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("stopped: [Errno 28] No space left on device")
    assert done.stderr.count("\n") == 1
    assert done.stdout.split() == ["a.nc"]


def need_disks():
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine lets nobody mount a disk")


SMALL_DISK = """
set -e
mount -t tmpfs -o size={size} tmpfs {disk}
if {command}; then exit 9; fi
cp -r {disk} {left}
mount -o remount,size=64m {disk}
{command}
cp -r {disk} {end}
"""


@pytest.mark.parametrize("size", ["300k", "700k"])
def test_a_full_disk_damages_nothing_and_the_run_goes_on_once_there_is_room(size, tmp_path):
    need_disks()
    disk, left, end = (tmp_path / name for name in ("disk", "left", "end"))
    disk.mkdir()
    options = [*OPTIONS, "--out", str(disk)]
    program = (
        f"from experiments.onset import main; from hierdiff.runs import run; run.SAVE_AFTER = 0.5; main({options})"
    )
    command = f'{sys.executable} -c "{program}"'
    script = SMALL_DISK.format(size=size, disk=disk, left=left, end=end, command=command)
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "stopped: " in done.stderr
    assert "No space left on device" in done.stderr
    assert "once there is room, the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr
    # What is there is whole.
    for path in left.rglob("*.json"):
        record.read_json(path)
    for step in record.steps_in(left / "snapshots"):
        with np.load(record.file_of_step(left / "snapshots", step)) as arrays:
            assert len(dict(arrays)) > 1
    assert not (left / "summary.json").exists()
    assert (end / "summary.json").exists()
