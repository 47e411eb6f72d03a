"""A training that may be killed at any moment: its state is saved whole, checked when read, and has one writer."""

import contextlib
import fcntl
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from hierdiff.errors import OptionError, handling, require
from hierdiff.learning.devices import failing_together, of_first_process, to_host
from hierdiff.runs import record

KEPT = 2


def save(folder: Path, step: int, state: Any) -> None:
    """Save `state`, a pytree of arrays on the devices and of the host's, in `folder`; all but the last two saves go.

    Raises:
      OSError: it cannot be written, for want of space for instance.
    """
    try:
        with failing_together():
            # What is the host's is the same in every process.
            on_host = jax.tree.map(lambda x: to_host(x) if isinstance(x, jax.Array) else x, state)
            record.write_tree(record.file_of_step(folder, step), on_host)
            if jax.process_index() == 0:
                for old in record.steps_in(folder)[:-KEPT]:
                    record.file_of_step(folder, old).unlink()
    except Exception as error:
        raise OSError(f"the state of step {step} cannot be saved in {folder}: {error}") from error


def whole_saves(folder: Path, name: str) -> list[int]:
    """The steps of the last save that is whole, and of those before it.

    Damaged ones after it are put aside, under another name, with a warning.

    Raises:
      ValueError: there are saves, and none is whole; `name` is the option that names the run.
      OSError: a save cannot be read now.
    """
    steps, damaged = record.steps_in(folder), []
    while steps and not record.is_whole(path := record.file_of_step(folder, steps[-1])):
        damaged.append(path)
        steps.pop()
    need = (
        "a run whose state is whole; all its saves are damaged, or not yet wholly copied. Another --out starts it anew"
    )
    require(bool(steps) or not damaged, name, str(folder.parent), need)
    for path in damaged:
        path.replace(path.with_suffix(".damaged"))
        warnings.warn(f"{path} is damaged; the save before it is used", stacklevel=2)
    return steps


def restore(folder: Path, template: Any) -> tuple[int, Any] | None:
    """Step and state of the last save, laid out on the devices like `template`; None if there is none.

    What `template` has on the devices makes room for it, and is used up.
    """
    step = of_first_process(max(record.steps_in(folder), default=-1))
    if step < 0:
        return None

    def in_place_of(old, new):
        if not isinstance(old, jax.Array):
            return new
        old.delete()
        return jax.device_put(new, old.sharding)

    return step, jax.tree.map(in_place_of, template, record.read_tree(record.file_of_step(folder, step), template))


class HeldError(OptionError):
    """A run is being carried out by another process."""


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
            raise HeldError(name, str(folder), need) from None
        except OSError as error:
            raise OSError(f"{folder} cannot be locked, so two runs could write it: {error.strerror}") from None
        yield


@contextlib.contextmanager
def noting_termination() -> Iterator[list[int]]:
    """Gives a list that is empty until SIGTERM or Ctrl-C comes: the program is then to save, and to leave.

    A second Ctrl-C does not wait. Outside the main thread the list stays empty.
    """
    came = []

    def note(number: int, _: Any) -> None:
        if number == signal.SIGINT and number in came:
            raise KeyboardInterrupt
        came.append(number)

    with handling(note, signal.SIGTERM, signal.SIGINT):
        yield came
    # It has come too late for anybody to ask.
    if came:
        signal.raise_signal(came[0])
