"""A training that may be killed at any moment: its state is saved whole, checked when read, and has one writer."""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import shutil
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from hierdiff import record
from hierdiff.options import OptionError

# What a shell gives a program that SIGTERM has ended: schedulers requeue on it.
TERMINATED = 128 + signal.SIGTERM
KEPT = 2

# orbax reports a failure with its traceback, and then raises it; the program says it in one sentence.
logging.getLogger("absl").setLevel(logging.CRITICAL)


def save(folder: Path, step: int, state: Any) -> None:
    """Save `state` in `folder`, and drop all saves but the last two.

    A save counts once its list of files and their hashes is there, which is written last.

    Raises:
      OSError: it cannot be written, for want of space for instance.
    """
    place, manifest = folder / f"{step:08d}", folder / f"{step:08d}.json"
    manifest.unlink(missing_ok=True)
    try:
        # Asked first: where orbax meets a full disk, threads of its own go on and fail once more.
        if shutil.disk_usage(folder).free < sum(x.nbytes for x in jax.tree.leaves(state)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            checkpointer.save(place.resolve(), args=ocp.args.StandardSave(state), force=True)
        if jax.process_index() > 0:
            return
        hashes = {str(path.relative_to(place)): _on_disk(path) for path in _files(place)}
        record.write_json(manifest, hashes)
    except Exception as error:
        shutil.rmtree(place, ignore_errors=True)
        raise OSError(f"the state of step {step} cannot be saved in {folder}: {error}") from error
    for old in saved_steps(folder)[:-KEPT]:
        (folder / f"{old:08d}.json").unlink(missing_ok=True)
        shutil.rmtree(folder / f"{old:08d}", ignore_errors=True)


def saved_steps(folder: Path) -> list[int]:
    """The steps whose state is saved, damaged or not."""
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.json"))


def restore(folder: Path, template: Any) -> tuple[int, Any] | None:
    """Step and state of the last save that is whole, laid out on the devices like `template`; None if there is none.

    A save with a damaged file is passed over with a warning that names the file.
    """
    for step in reversed(saved_steps(folder)):
        place = folder / f"{step:08d}"
        damaged = _damaged(place)
        if damaged:
            warnings.warn(f"{damaged} is damaged; the save before it is used", stacklevel=2)
            continue
        form = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            return step, checkpointer.restore(place.resolve(), args=ocp.args.StandardRestore(form))
    return None


def _damaged(place: Path) -> Path | None:
    """The first file of a save that is not as it was written, if any."""
    manifest = place.with_suffix(".json")
    try:
        hashes = record.read_json(manifest)
    except ValueError:
        hashes = None
    if not isinstance(hashes, dict) or not hashes:
        return manifest
    for name, expected in hashes.items():
        if not (place / name).exists() or _hash(place / name) != expected:
            return place / name
    return None


def _files(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _on_disk(path: Path) -> str:
    """Flush a file to the disk, and return its hash."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return _hash(path)


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a run, in the first of its processes; another run is refused.

    It is let go when the process ends, however it ends.
    """
    if jax.process_index() > 0:
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            need = "a folder that no other process is writing; this run is being carried out now"
            raise OptionError("out", str(folder), need) from None
        yield


class Termination:
    """Notes that SIGTERM has come: the program is then to save, and to leave with the status `TERMINATED`."""

    def __init__(self):
        self.came = False

    def __enter__(self) -> "Termination":
        self.before = signal.signal(signal.SIGTERM, self._note)
        return self

    def _note(self, *_: Any) -> None:
        self.came = True

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGTERM, self.before)
