"""A finished run of sequences, opened again to measure its snapshots."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from hierdiff.errors import OptionError, require
from hierdiff.keys import key_for, keys_of
from hierdiff.learning.devices import to_host
from hierdiff.measures.divergence import pairs
from hierdiff.runs import record
from hierdiff.runs.options import recorded
from hierdiff.runs.run import read_snapshot
from hierdiff.worlds.run_config import OnsetConfig
from hierdiff.worlds.sequences import Setting, set_up


@dataclasses.dataclass(frozen=True)
class Run:
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
        config = recorded(OnsetConfig(), record.read_json(folder / "config.json")["options"])
    except OptionError as error:
        raise OptionError("run", str(folder), f"{need}; of this one, {error}") from None
    except record.UNREADABLE:
        raise OptionError("run", str(folder), need) from None
    require(record.finished(folder, "run"), "run", str(folder), need)
    record.require_draws("run", folder)
    unchanged = record.made_with(folder / "curves.nc", config)
    require(unchanged, "run", str(folder), f"{need}; its config.json was changed")
    record.require_writable("run", folder)
    steps = record.snapshot_steps(folder)
    require(len(steps) > 0, "run", str(folder), f"{need} that has kept snapshots")
    return Run(folder, config, set_up(config), steps)


def snapshots(run: Run) -> Iterator[tuple[int, Any]]:
    """Step and weights of each snapshot, the weights laid out on the devices."""
    keys = keys_of(key_for(run.setting.key, "first weights"), range(len(run.setting.set_of)))
    template = jax.eval_shape(jax.vmap(run.setting.network.init), keys)
    for step in run.steps:
        yield step, read_snapshot(run.folder, step, template, run.setting.mesh)


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
