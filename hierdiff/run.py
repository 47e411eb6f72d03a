"""A run: carried out from where it was left, and, once finished, opened again to measure its snapshots."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from flax import nnx

from hierdiff import record
from hierdiff.devices import in_any_process, spread_networks, to_host
from hierdiff.laboratory import OnsetConfig, Setting, label, make_inputs, make_measure, prepare, set_up, train
from hierdiff.measures.divergence import pairs
from hierdiff.options import OptionError, rebuild, require
from hierdiff.resume import TERMINATED, Termination, restore, save

# The state is saved after so many seconds: a run that is killed loses no more than these.
SAVE_AFTER = 60.0


def carry_out(
    config: OnsetConfig, setting: Setting, folder: Path, report: Callable[[int, dict[str, np.ndarray], float], None]
) -> xr.Dataset:
    """Train the ensemble of `config` and measure it at each checkpoint, going on from the state saved in `folder`.

    The weights of some checkpoints are kept as snapshots. `report(step, measured, seconds)` is called now and then,
    with an empty `measured` between checkpoints, and for each checkpoint that was measured before.

    Raises:
      FloatingPointError: a loss or a measurement is not finite.
      OSError: a file cannot be written.
      SystemExit: SIGTERM has come; the state is saved.
    """
    inputs, checkpoints = make_inputs(setting, config.measure), config.train.checkpoint_steps()
    states = folder / "state"
    for place in (states, folder / "snapshots"):
        place.mkdir(exist_ok=True)
    with Termination() as termination:
        training = prepare(config, setting)
        measure, kept = make_measure(setting), config.train.snapshot_steps()
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

        for step, state in train(config.train, training._replace(state=progress["state"]), done):
            if step in checkpoints:
                i = checkpoints.index(step)
                jax.block_until_ready(state)
                seconds[-1, 0] += elapsed()
                now = to_host(measure(state.average, inputs))
                for name, x in now.items():
                    if not np.isfinite(x).all():
                        raise FloatingPointError(f"{name} is not finite at step {step}")
                    measured[name][i] = x
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
    results = label(checkpoints, config.measure.noise, setting, inputs, each)
    results.attrs |= {"seconds_training": float(seconds[-1, 0]), "seconds_measuring": float(seconds[-1, 1])}
    return results


class Run(NamedTuple):
    """The folder of a finished run, and what it stands for."""

    folder: Path
    config: OnsetConfig
    setting: Setting
    steps: list[int]

    @property
    def sets_of(self) -> dict[str, np.ndarray]:
        """The data sets of each network, and of each pair of networks on two sets."""
        return {"network": self.setting.set_of[:, None], "pair": self.setting.set_of[np.array(self.pairs)]}

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of networks that are trained on two data sets."""
        set_of = self.setting.set_of
        return [(a, b) for a, b in pairs(len(set_of)) if set_of[a] != set_of[b]]


def open_run(folder: Path) -> Run:
    """The run in `folder`.

    Raises:
      ValueError: `folder` holds no finished run, or one without snapshots, or cannot be written.
    """
    need = "the folder of a finished run of experiments.onset"
    try:
        options = record.flat(record.read_json(folder / "config.json")["options"])
        config = rebuild(OnsetConfig(), options)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise OptionError("run", str(folder), need) from None
    require(record.finished(folder, "run"), "run", str(folder), need)
    unchanged = record.made_with(folder / "curves.nc", config)
    require(unchanged, "run", str(folder), f"{need}; its config.json was changed")
    record.require_writable("run", folder)
    steps = record.snapshot_steps(folder)
    require(len(steps) > 0, "run", str(folder), f"{need} that has kept snapshots")
    return Run(folder, config, set_up(config), steps)


def snapshots(run: Run) -> Iterator[tuple[int, nnx.State]]:
    """Step and weights of each snapshot, the weights laid out on the devices."""
    keys = jax.random.split(run.setting.init_key, len(run.setting.set_of))
    template = jax.eval_shape(jax.vmap(run.setting.network.init), keys)
    for step in run.steps:
        weights = record.read_arrays(record.snapshot_file(run.folder, step), template)
        yield step, spread_networks(weights, run.setting.mesh)


def at_snapshots(
    run: Run, measure: Callable[[Any], dict[str, Any]], done: Callable[[], object]
) -> list[dict[str, np.ndarray]]:
    """`measure` of the weights of each snapshot; `done` is called after each."""
    measured = []
    for _, weights in snapshots(run):
        measured.append(to_host(measure(weights)))
        done()
    return measured


def measure_snapshots(
    run: Run,
    measure: Callable[[Any], dict[str, Any]],
    dimensions: dict[str, tuple[str, ...]],
    coordinates: dict[str, Any],
    done: Callable[[], object],
) -> xr.Dataset:
    """`at_snapshots`, labelled; `dimensions` are those of each variable beside the step."""
    measured = at_snapshots(run, measure, done)
    stacked = {
        name: (("step", *dims), np.stack([each[name] for each in measured])) for name, dims in dimensions.items()
    }
    return xr.Dataset(stacked, {"step": run.steps, **coordinates})


def own_and_other(run: Run, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of `x[network, set]`, the means over each pair of networks: on the own data sets, and on each other's."""
    first, second = np.array(run.pairs).T
    set_a, set_b = run.setting.set_of[first], run.setting.set_of[second]
    return 0.5 * (x[first, set_a] + x[second, set_b]), 0.5 * (x[first, set_b] + x[second, set_a])
