"""A run, carried out from where it was left."""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from hierdiff.errors import require
from hierdiff.learning.devices import failing_together, in_any_process, of_first_process, spread_networks, to_host
from hierdiff.learning.loop import Experiment, train
from hierdiff.runs import record
from hierdiff.runs.checkpoint import TERMINATED, Termination, only_writer, restore, save, whole_saves

# The state is saved after so many seconds: a run that is killed loses no more than these.
SAVE_AFTER = 60.0


# Of a step, what was measured there (nothing between checkpoints), and the seconds spent so far.
Report = Callable[[int, dict[str, np.ndarray], float], None]


def in_folder(folder: Path, config: Any, resume: str, run: Callable[[], object], show: Callable[[], object]) -> None:
    """Let `run` do the experiment of `config` in `folder`, or what is left of it, and `show` what was found.

    `run` writes the summary last; the state to go on from is dropped then. `resume` is one of `RESUME`.

    Raises:
      ValueError: the folder will not do, or holds nothing to go on with where `resume` says that it must.
    """
    with contextlib.ExitStack() as stack:
        finished = False
        with failing_together():
            if jax.process_index() == 0:
                finished = _prepare(folder, config, resume, stack)
        # Another host may see the folder as it was a while ago.
        if not of_first_process(finished):
            run()
        if jax.process_index() == 0:
            shutil.rmtree(folder / "state", ignore_errors=True)
            show()
            for path in sorted(folder.iterdir()):
                if not path.name.startswith("."):
                    print(path)


def _prepare(folder: Path, config: Any, resume: str, stack: contextlib.ExitStack) -> bool:
    """Lock the folder until `stack` is left, and make it that of the run; says whether the run in it has ended."""
    # A folder that is refused stays as it is, without a lock; under the lock, nobody else can begin a run there.
    record.require_folder(folder, config)
    stack.enter_context(only_writer(folder, "out"))
    record.require_folder(folder, config)
    goes_on = resume != "never" and ((folder / "summary.json").exists() or bool(whole_saves(folder / "state")))
    require(goes_on or resume != "must", "resume", resume, f"a run that was left in {folder}; there is none")
    record.tidy(folder)
    if goes_on and not (folder / "summary.json").exists():
        record.require_draws("out", folder)
    if not goes_on:
        record.discard(folder)
        record.write_config(folder, config)
    return record.finished(folder, "out")


@contextlib.contextmanager
def reporting(
    folder: Path, steps: int, row: Callable[[dict[str, np.ndarray]], dict[str, float]], shown: tuple[str, ...]
) -> Iterator[Report]:
    """A progress bar with some of the numbers that `row` makes of a measurement; all of them are written down."""
    rows = []
    with tqdm(total=steps, unit="step", disable=jax.process_index() > 0 or None, dynamic_ncols=True) as bar:

        def report(step: int, measured: dict[str, np.ndarray], seconds: float) -> None:
            bar.update(step - bar.n)
            if measured:
                now = row(measured)
                bar.set_postfix({name: f"{now[name]:.3f}" for name in shown})
                rows.append({"step": step, **now, "seconds": seconds})
                record.write_lines(folder / "metrics.jsonl", rows)

        yield report


def carry_out(
    experiment: Experiment, folder: Path, report: Report
) -> tuple[list[dict[str, np.ndarray]], dict[str, float]]:
    """Train an ensemble and measure it at each checkpoint, going on from the state saved in `folder`.

    The weights of some checkpoints are kept as snapshots. `report(step, measured, seconds)` is called now and then,
    with an empty `measured` between checkpoints, and for each checkpoint that was measured before.

    Returns what was measured at each checkpoint, and the seconds spent on training and on measuring.

    Raises:
      FloatingPointError: a loss or a measurement is not finite.
      OSError: a file cannot be written.
      SystemExit: SIGTERM has come; the state is saved.
    """
    config, training, measure, inputs = experiment.config, experiment.training, experiment.measure, experiment.inputs
    checkpoints, kept = config.checkpoint_steps(), config.snapshot_steps()
    states = folder / "state"
    for place in (states, folder / "snapshots"):
        place.mkdir(exist_ok=True)
    with Termination() as termination:
        shapes = jax.eval_shape(measure, training.state.average, inputs)
        # Of each checkpoint: what is measured, and the seconds spent so far on training and on measuring.
        measured = {name: np.zeros((len(checkpoints), *x.shape), x.dtype) for name, x in shapes.items()}
        seconds = np.zeros((len(checkpoints) + 1, 2))
        progress = {"state": training.state, "measured": measured, "seconds": seconds}
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

        for step, state in train(config, dataclasses.replace(training, state=progress["state"]), done):
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
                        record.write_arrays(record.snapshot_file(folder, step), to_host(state.average))
                    seconds[-1, 1] += elapsed()
                    seconds[i] = seconds[-1]
                    report(step, now, seconds[i].sum())
            else:
                report(step, {}, 0.0)
            leaving = in_any_process(termination.came)
            if leaving or in_any_process(time.monotonic() - saved > SAVE_AFTER):
                save(states, step, {"state": state, "measured": measured, "seconds": seconds})
                saved = time.monotonic()
            if leaving:
                raise SystemExit(TERMINATED)
    each = [{name: x[i] for name, x in measured.items()} for i in range(len(checkpoints))]
    return each, {"seconds_training": float(seconds[-1, 0]), "seconds_measuring": float(seconds[-1, 1])}


def read_snapshot(folder: Path, step: int, template: Any, mesh: Mesh) -> Any:
    """The weights of one step of a run, in the form of `template`, laid out on the devices."""
    return spread_networks(record.read_arrays(record.snapshot_file(folder, step), template), mesh)
