"""Every test: types checked at run time, no silent promotion of dtype or rank, two devices."""

import atexit
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

# The suite compiles hundreds of small programs, and runs each for milliseconds.
FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"

# What one test has compiled, no other compiles again; workers inherit the folder.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    cache = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="hierdiff-tests-")
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def pytest_configure(config):
    """Set up JAX in the processes that run tests; the one that hands them out to others need not wait for it."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    import jax
    from jaxtyping import install_import_hook

    install_import_hook("hierdiff", "beartype.beartype")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")

    from hierdiff.questions import command, training

    # The picture of a run, and its report, take longer than a small run; runs in processes of their own make them.
    training.draw = lambda folder, world: None
    REAL["write_report"], command.write_report = command.write_report, lambda folder: None


REAL = {}


@pytest.fixture
def write_report(monkeypatch):
    """Reports are written in this test."""
    from hierdiff.questions import command

    monkeypatch.setattr(command, "write_report", REAL["write_report"])


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory, worker_id):
    """The folder of a run that was made as a user makes it, and what it printed; not to be changed.

    It is made once for all processes: the first one to ask for it makes it.
    """
    from runs import SMOKE

    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    folder, printed = shared / "smoke", shared / "smoke.txt"
    command = [sys.executable, "-m", "experiments.onset", *SMOKE, "--out", str(folder)]
    with (shared / "smoke.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.exists():
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            printed.write_text(done.stdout)
    return folder, printed.read_text()


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture
def float64():
    import jax

    with jax.enable_x64(True):
        yield
