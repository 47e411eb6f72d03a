"""A run, carried out from where it was left."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hierdiff.errors import GOES_ON, Interrupted, require
from hierdiff.learning.devices import failing_together, in_any_process, of_first_process, to_host
from hierdiff.learning.loop import train
from hierdiff.runs import record
from hierdiff.runs.checkpoint import noting_termination, only_writer, restore, save, whole_saves
from hierdiff.runs.laboratory import make_measure, prepare
from hierdiff.runs.saying import progress
from hierdiff.runs.world import Inputs, World

# The state is saved after so many seconds: a run that is killed loses no more than these.
SAVE_AFTER = 60.0


# Of a step, what was measured there (nothing between checkpoints), and the seconds spent so far.
Report = Callable[[int, dict[str, np.ndarray], float], None]


@contextlib.contextmanager
def in_folder(folder: Path, config: Any, world: World, resume: str) -> Iterator[bool]:
    """Hold `folder`, as that of the run of `config` on `world`; gives whether that run has come to its end.

    `resume` says what is done with a run that was left: `auto`, go on with it; `never`, discard it; `must`, ask for it.

    Raises:
      ValueError: the folder will not do, holds a run on other data, or nothing to go on with where there must be.
    """
    with contextlib.ExitStack() as stack:
        ended = False
        with failing_together():
            if jax.process_index() == 0:
                # A folder that is refused stays as it is, without a lock; under it, nobody else can begin a run there.
                record.require_folder(folder, config)
                stack.enter_context(only_writer(folder, "out"))
                record.require_folder(folder, config)
                # Versions before this one saved a state as a folder.
                older = any(path.is_dir() for path in folder.glob("state/[0-9]*"))
                need = (
                    "a run that this version can go on with; an older one has left this, another --out starts it anew"
                )
                require(not older or resume == "never", "out", str(folder), need)
                ended = (folder / "summary.json").exists()
                goes_on = resume != "never" and (ended or bool(whole_saves(folder / "state", "out")))
                need = f"a run that was left in {folder}; there is none"
                require(goes_on or resume != "must", "resume", resume, need)
                # No interruption leaves results without a state or a summary.
                lost = not goes_on and (folder / "results.nc").exists()
                need = "a whole run; its summary.json is missing, or not yet copied. Another --out starts it anew"
                require(not lost or resume == "never", "out", str(folder), need)
                record.tidy(folder)
                if goes_on:
                    record.require_same_data("out", folder, world.about, shown=ended)
                    record.note_options(folder, config)
                if not goes_on:
                    record.discard(folder)
                    kind = type(world)
                    of_world = {"data": world.about, "world": f"{kind.__module__}:{kind.__qualname__}"}
                    record.write_json(folder / "config.json", record.begun(config) | of_world)
                ended = record.finished(folder, "out")
        # Another host may see the folder as it was a while ago.
        yield bool(of_first_process(ended))


@contextlib.contextmanager
def reporting(
    folder: Path, steps: int, row: Callable[[dict[str, np.ndarray]], dict[str, float]], shown: tuple[str, ...]
) -> Iterator[Report]:
    """Shows the progress, with some of the numbers that `row` makes of a measurement; all of them are written down."""
    rows = []
    with progress(steps, "step") as show:

        def report(step: int, measured: dict[str, np.ndarray], seconds: float) -> None:
            now = row(measured) if measured else {}
            show(step, **{name: f"{now[name]:.3f}" for name in shown if name in now})
            if measured:
                rows.append({"step": step, **now, "seconds": seconds})
                record.write_lines(folder / "metrics.jsonl", rows)

        yield report


def carry_out(
    config: Any, world: World, inputs: Inputs, folder: Path, report: Report
) -> tuple[list[dict[str, np.ndarray]], dict[str, float]]:
    """Train the ensemble of a world and measure it at each checkpoint, going on from the state saved in `folder`.

    The weights of some checkpoints are kept as snapshots. `report(step, measured, seconds)` is called now and then,
    with an empty `measured` between checkpoints, and for each checkpoint that was measured before.

    Returns what was measured at each checkpoint, and the seconds spent on training and on measuring.

    Raises:
      FloatingPointError: a loss or a measurement is not finite.
      OSError: a file cannot be written.
      Interrupted: SIGTERM or Ctrl-C has come; the state is saved.
    """
    training, measure = prepare(config, world), make_measure(world)
    checkpoints, kept = config.train.checkpoint_steps(), config.train.snapshot_steps()
    states = folder / "state"
    for place in (states, folder / "snapshots"):
        place.mkdir(exist_ok=True)
    with noting_termination() as termination:
        shapes = jax.eval_shape(measure, training.state.average, inputs)
        # Of each checkpoint: what is measured, and the seconds spent so far on training and on measuring.
        progress = {
            "state": training.state,
            "measured": {name: np.zeros((len(checkpoints), *x.shape), x.dtype) for name, x in shapes.items()},
            "seconds": np.zeros((len(checkpoints) + 1, 2)),
        }
        done, progress = restore(states, progress) or (0, progress)
        measured, seconds = progress["measured"], progress["seconds"]
        for i, step in enumerate(checkpoints):
            if step <= done:
                report(step, {name: x[i] for name, x in measured.items()}, seconds[i].sum())

        saved = clock = time.monotonic()

        def elapsed() -> float:
            nonlocal clock
            before, clock = clock, time.monotonic()
            return clock - before

        for step, state in train(config.train, dataclasses.replace(training, state=progress["state"]), done):
            if step in checkpoints:
                i = checkpoints.index(step)
                jax.block_until_ready(state)
                seconds[-1, 0] += elapsed()
                now = to_host(measure(state.average, inputs))
                for name, x in now.items():
                    if not np.isfinite(x).all():
                        raise FloatingPointError(f"{name} is not finite at step {step}")
                    measured[name][i] = x
                with failing_together():
                    if step in kept:
                        record.write_tree(record.file_of_step(folder / "snapshots", step), to_host(state.average))
                    seconds[-1, 1] += elapsed()
                    seconds[i] = seconds[-1]
                    report(step, now, seconds[i].sum())
            else:
                report(step, {}, 0.0)
            leaving = in_any_process(bool(termination))
            if leaving or in_any_process(time.monotonic() - saved > SAVE_AFTER):
                save(states, step, {"state": state, "measured": measured, "seconds": seconds})
                saved = time.monotonic()
            if leaving:
                number = termination[0] if termination else signal.SIGTERM
                raise Interrupted(number, f"the state of step {step} is saved in {states}, and {GOES_ON}")
    each = [{name: x[i] for name, x in measured.items()} for i in range(len(checkpoints))]
    return each, {"seconds_training": float(seconds[-1, 0]), "seconds_measuring": float(seconds[-1, 1])}
