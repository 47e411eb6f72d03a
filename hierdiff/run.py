"""A finished run: its setting, drawn anew from its configuration, and measurements of its snapshots."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from hierdiff import record
from hierdiff.laboratory import OnsetConfig, Setting, set_up
from hierdiff.measures.divergence import pairs
from hierdiff.options import OptionError, rebuild, require


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
      ValueError: `folder` holds no finished run, or one without snapshots.
    """
    need = "the folder of a finished run of experiments.onset"
    try:
        options = record.flat(record.read_json(folder / "config.json")["options"])
        config = rebuild(OnsetConfig(), options)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise OptionError("run", str(folder), need) from None
    require((folder / "summary.json").exists(), "run", str(folder), need)
    steps = record.snapshot_steps(folder)
    require(len(steps) > 0, "run", str(folder), f"{need} that has kept snapshots")
    return Run(folder, config, set_up(config), steps)


def snapshots(run: Run) -> Iterator[tuple[int, nnx.State]]:
    """Step and weights of each snapshot, the weights laid out on the devices."""
    keys = jax.random.split(run.setting.init_key, len(run.setting.set_of))
    template = jax.eval_shape(jax.vmap(run.setting.network.init), keys)
    spread = NamedSharding(run.setting.mesh, PartitionSpec("network"))
    for step in run.steps:
        yield step, jax.device_put(record.read_snapshot(run.folder, step, template), spread)


def measure_snapshots(
    run: Run,
    measure: Callable[[Any], dict[str, Any]],
    dimensions: dict[str, tuple[str, ...]],
    coordinates: dict[str, Any],
) -> xr.Dataset:
    """`measure` of the weights of each snapshot, labelled; `dimensions` are those of each variable beside the step."""
    measured = [jax.device_get(measure(weights)) for _, weights in snapshots(run)]
    stacked = {
        name: (("step", *dims), np.stack([each[name] for each in measured])) for name, dims in dimensions.items()
    }
    return xr.Dataset(stacked, {"step": run.steps, **coordinates})


def own_and_other(run: Run, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of `x[network, set]`, the means over each pair of networks: on the own data sets, and on each other's."""
    first, second = np.array(run.pairs).T
    set_a, set_b = run.setting.set_of[first], run.setting.set_of[second]
    return 0.5 * (x[first, set_a] + x[second, set_b]), 0.5 * (x[first, set_b] + x[second, set_a])
