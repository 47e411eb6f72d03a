"""A finished run, opened again to measure its snapshots."""

import dataclasses
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from hierdiff import called
from hierdiff.errors import OptionError, require
from hierdiff.keys import key_for, keys_of
from hierdiff.learning.devices import failing_together, over_networks, spread_networks, to_host
from hierdiff.runs import record
from hierdiff.runs.world import World


@dataclasses.dataclass(frozen=True)
class Run:
    """The folder of a finished run, and what it stands for."""

    folder: Path
    config: Any
    world: Any
    steps: list[int]

    @property
    def sets_of(self) -> dict[str, np.ndarray]:
        """The data sets of each network, and of each pair of networks on two sets."""
        set_of = self.world.set_of
        return {"network": set_of[:, None], "pair": np.stack([set_of[ends] for ends in self.pairs], 1)}

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs of networks that are trained on two data sets."""
        first, second = self.world.pairs
        across = self.world.set_of[first] != self.world.set_of[second]
        return first[across], second[across]

    def own_and_other(self, **of_sets: np.ndarray) -> dict[str, np.ndarray]:
        """Of each `x[network, set]`, its means over each pair of networks: on the own data sets, and on each other's.

        Of `NAME` they are `own_NAME` and `other_NAME`, `(pairs, ...)`.
        """
        (first, second), (set_a, set_b) = self.pairs, self.sets_of["pair"].T
        sides = {"own": (set_a, set_b), "other": (set_b, set_a)}
        return {
            f"{side}_{name}": 0.5 * (x[first, of_first] + x[second, of_second])
            for name, x in of_sets.items()
            for side, (of_first, of_second) in sides.items()
        }

    def of_networks(self, function: Callable, *, stacked: int) -> Callable:
        """`function` of one network, compiled for all, `stacked` arguments for each; it gives arrays of the host."""
        compiled = jax.jit(over_networks(function, self.world.mesh, stacked=stacked))
        return lambda *args: to_host(compiled(*args))


def open_run(folder: Path, kind: type[World]) -> Run:
    """The run in `folder`, of that kind of world.

    Raises:
      ValueError: `folder` holds no finished run of it, or one without snapshots or on data that have changed since,
        or cannot be written.
    """
    need = f"the {called.finished_run(kind.COMMAND)}"
    config = record.read_finished(folder, kind.CONFIG(), kind.COMMAND)
    record.finished(folder, "run")
    unchanged = record.made_with(folder / "curves.nc", config)
    require(unchanged, "run", str(folder), f"{need}; its config.json was changed")
    with failing_together():
        record.require_writable("run", folder)
    steps = record.steps_in(folder / "snapshots")
    require(len(steps) > 0, "run", str(folder), f"{need} that has kept snapshots")
    try:
        world = kind.set_up(config)
    except OptionError as error:
        anew = "where they were moved, the command that made it, with their new place, takes note of it"
        raise OptionError("run", str(folder), f"{need} with its data ({error}); {anew}") from None
    record.require_same_data("run", folder, world.about)
    return Run(folder, config, world, steps)


def world_of(folder: Path) -> type[World]:
    made = record.read_json(folder / "config.json")
    # Older runs do not say it.
    older = "images:Images" if "images" in made["options"] else "sequences:Sequences"
    return pkgutil.resolve_name(made.get("world", f"hierdiff.worlds.{older}"))


def snapshots(run: Run, steps: list[int]) -> Iterator[Any]:
    keys = keys_of(key_for(run.world.key, "first weights"), range(len(run.world.set_of)))
    template = jax.eval_shape(jax.vmap(run.world.network.init), keys)
    for step in steps:
        yield spread_networks(
            record.read_tree(record.file_of_step(run.folder / "snapshots", step), template), run.world.mesh
        )


def label_steps(
    run: Run, measured: list[dict[str, np.ndarray]], dims: dict[str, tuple[str, ...]], known: xr.Dataset | None = None
) -> xr.Dataset:
    """What was measured at each snapshot as labelled arrays; `dims` are the dimensions beside the step.

    They join what is known from the start: coordinates, what measurements are compared with, attributes.
    """
    stacked = {name: (("step", *dims[name]), np.stack([each[name] for each in measured])) for name in dims}
    return (xr.Dataset() if known is None else known).assign_coords(step=run.steps).assign(stacked)
