"""A run that is killed again and again, and one whose disk is full. Minutes long: `pytest -m slow` runs them."""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from runs import same

from hierdiff import record

pytestmark = pytest.mark.slow

OPTIONS = ["--preset", "smoke", "--depth", "2", "--steps", "600", "--held-out", "100", "--noise", "0.15"]
KILLS = 20

# A new process for each attempt, forked from one that has imported everything and has not yet started JAX.
DRIVER = """
import json, os, signal, sys
from experiments import onset
from hierdiff import run
run.SAVE_AFTER = 0.5
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        onset.main(json.loads(line))
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_twenty_kills_at_random_moments_change_nothing(tmp_path):
    """Each some time after the run has begun to write; where a run comes to its end, another one is begun.

    The first run compiles, so it takes longer than the others: a run that was not killed says how long these take.
    """
    rng, killed, during = random.Random(0), 0, set()
    errors, pipe = tmp_path / "errors", subprocess.PIPE
    with (
        errors.open("w") as file,
        subprocess.Popen([sys.executable, "-c", DRIVER], stdin=pipe, stdout=pipe, stderr=file, text=True) as driver,
    ):
        requests, answers = driver.stdin, driver.stdout
        assert requests
        assert answers

        def start(folder):
            requests.write(json.dumps([*OPTIONS, "--out", str(folder)]) + "\n")
            requests.flush()
            return int(answers.readline())

        def wait_until_it_writes(folder):
            end = time.monotonic() + 100
            while not (folder / "state").exists() and time.monotonic() < end:
                time.sleep(0.01)
            return time.monotonic()

        whole = tmp_path / "whole"
        start(whole)
        begun = wait_until_it_writes(whole)
        assert int(answers.readline()) == 0
        took = time.monotonic() - begun
        for number in itertools.count():
            if killed == KILLS:
                break
            folder = tmp_path / str(number)
            while not (folder / "onset.png").exists():
                anew = not folder.exists()
                child = start(folder)
                begun = wait_until_it_writes(folder)
                if killed < KILLS:
                    time.sleep(rng.uniform(0, took))
                    with contextlib.suppress(ProcessLookupError):  # It may have come to its end.
                        os.kill(child, signal.SIGKILL)
                status = int(answers.readline())
                assert status in (0, -signal.SIGKILL), errors.read_text()
                if status == 0 and anew:
                    took = min(took, time.monotonic() - begun)
                if status != 0:
                    killed += 1
                    during.add(len(list((folder / "state").glob("*.json"))))
            same(folder, whole)
            assert not [path for path in folder.rglob("*") if path.name.startswith(".") and path.name != ".lock"]
        requests.close()
    # Some before the first save, some after it, some after the second.
    assert len(during) >= 2


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
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    disk, left, end = (tmp_path / name for name in ("disk", "left", "end"))
    disk.mkdir()
    options = [*OPTIONS, "--out", str(disk)]
    program = f"from experiments import onset; from hierdiff import run; run.SAVE_AFTER = 0.5; onset.main({options})"
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
    for step in record.snapshot_steps(left):
        with np.load(record.snapshot_file(left, step)) as arrays:
            assert len(dict(arrays)) > 1
    assert not (left / "summary.json").exists()
    assert (end / "summary.json").exists()
