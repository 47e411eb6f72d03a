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

from hierdiff.errors import OptionError
from hierdiff.learning.devices import failing_together, in_any_process, of_first_process
from hierdiff.runs import record

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
        with failing_together():
            # Asked first: where orbax meets a full disk, threads of its own go on and fail once more.
            if in_any_process(shutil.disk_usage(folder).free < sum(x.nbytes for x in jax.tree.leaves(state))):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
                checkpointer.save(place.resolve(), args=ocp.args.StandardSave(state), force=True)
            if jax.process_index() == 0:
                _list_files(place, manifest)
    except Exception as error:
        raise OSError(f"the state of step {step} cannot be saved in {folder}: {error}") from error
    finally:
        _keep_only(folder, saved_steps(folder)[-KEPT:])


def _list_files(place: Path, manifest: Path) -> None:
    """Have a save on disk, and then the list of its files with their hashes."""
    paths = sorted(place.rglob("*"))
    for path in (*paths, place):
        record.flush(path)
    record.write_json(manifest, {str(path.relative_to(place)): _hash(path) for path in paths if path.is_file()})


def _keep_only(folder: Path, steps: list[int]) -> None:
    """Remove all but the saves of these steps, in the first process: what a kill has left of a save as well."""
    if jax.process_index() > 0:
        return
    kept = {f"{step:08d}{suffix}" for step in steps for suffix in ("", ".json")}
    # Lists of files first: without its list a save does not count.
    for path in sorted(folder.iterdir(), key=Path.is_dir):
        if path.name in kept:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def saved_steps(folder: Path) -> list[int]:
    """The steps whose state is saved, damaged or not."""
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.json"))


def whole_saves(folder: Path) -> list[int]:
    """The steps of the last save that is whole, and of those before it.

    Damaged ones after it are passed over with a warning that names the file, and removed, as is all else in `folder`.
    """
    steps = saved_steps(folder)
    while steps and (damaged := _damaged(folder / f"{steps[-1]:08d}")):
        steps.pop()
        warnings.warn(
            f"{damaged} is damaged; {'the save before it is used' if steps else 'no save is left'}", stacklevel=2
        )
    if folder.exists():
        _keep_only(folder, steps)
    return steps


def restore(folder: Path, template: Any) -> tuple[int, Any] | None:
    """Step and state of the last save, laid out on the devices like `template`; None if there is none.

    What `template` has on the devices makes room for it, and is used up.
    """
    step = of_first_process(max(saved_steps(folder), default=-1))
    if step < 0:
        return None
    form = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
    for x in jax.tree.leaves(template):
        if isinstance(x, jax.Array):
            x.delete()
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        place = (folder / f"{step:08d}").resolve()
        return step, checkpointer.restore(place, args=ocp.args.StandardRestore(form))


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


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def only_writer(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock of a run, which is let go when the process ends, however it ends.

    Raises:
      ValueError: another process holds it; `name` is the option that names the folder.
      OSError: the file system has no locks.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            need = "a folder that no other process is writing; this run is being carried out now"
            raise OptionError(name, str(folder), need) from None
        except OSError as error:
            raise OSError(f"{folder} cannot be locked, so two runs could write it: {error.strerror}") from None
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

    def __exit__(self, kind: Any, *_: Any) -> None:
        signal.signal(signal.SIGTERM, self.before)
        # It has come too late for anybody to ask.
        if self.came and kind is None:
            signal.raise_signal(signal.SIGTERM)
