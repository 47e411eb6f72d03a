"""What a run will cost, said without carrying it out: operations, memory, disk and time."""

import dataclasses
import functools
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import jax
from jax.stages import Compiled
from matplotlib.ticker import EngFormatter

from hierdiff.errors import require
from hierdiff.learning.devices import in_any_process
from hierdiff.learning.loop import Experiment, Training
from hierdiff.runs.checkpoint import KEPT
from hierdiff.runs.flops import flops

# Steps are timed until they take so many seconds.
LONG_ENOUGH = 2.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run needs, and what is there.

    `parameters` are those of one network, the operations (flops) those of all, of a training step and of a
    checkpoint's measurement. Memory is in bytes a device, `memory` being what a device has; `snapshots`, `state` (to go
    on after an interruption), `results` and `free` are bytes on the disk of `place`. `step_seconds` is measured, and
    not a number where the memory is too small for the training.
    """

    devices: str
    networks: int
    parameters: int
    steps: int
    epochs: float
    checkpoints: int
    step_flops: float
    measure_flops: float
    train_memory: float
    measure_memory: float
    memory: int
    place: Path
    snapshots: int
    state: int
    results: int
    free: int
    step_seconds: float


def plan(experiment: Experiment, folder: Path) -> Plan:
    """The plan of a run in `folder`, which need not exist; a few training steps are timed, and use up its state.

    Raises:
      ValueError: `folder` cannot be made or written.
    """
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    good = place.is_dir() and os.access(place, os.W_OK)
    require(good, "out", str(folder), "a folder that can be written")
    config, training, inputs = experiment.config, experiment.training, experiment.inputs
    state, networks, checkpoints = training.state, len(training.keys), len(config.checkpoint_steps())
    advance = training.trainer.advance.trace(state, training.data, training.keys, 0, 1)
    measure = experiment.measure.trace(state.average, inputs)
    compiled = advance.lower().compile()
    # What one program does not use stays in memory while it runs.
    train_memory = _memory_of(compiled) + _bytes(inputs)
    unused = (_bytes(state) - _bytes(state.average)) // experiment.mesh.shape["network"]
    memory, results = _memory_of_a_device(), checkpoints * _bytes(measure.out_info)
    return Plan(
        devices=f"{experiment.mesh.size} of {jax.device_count()} devices ({jax.devices()[0].device_kind})",
        networks=networks,
        parameters=sum(x.size for x in jax.tree.leaves(state.params)) // networks,
        steps=config.steps,
        epochs=config.steps * config.batch / experiment.size,
        checkpoints=checkpoints,
        step_flops=flops(advance.jaxpr),
        measure_flops=flops(measure.jaxpr),
        train_memory=train_memory,
        measure_memory=_memory_of(measure.lower().compile()) + unused,
        memory=memory,
        place=place,
        snapshots=len(config.snapshot_steps()) * _bytes(state.average),
        # One more save is written before the oldest is dropped.
        state=(KEPT + 1) * (_bytes(state) + results),
        results=results,
        free=shutil.disk_usage(place).free,
        step_seconds=math.nan if train_memory > memory else _seconds_per_step(compiled, training),
    )


def _bytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _memory_of(program: Compiled) -> float:
    """Bytes that a program needs on each device; what it donates is counted once. Not a number if XLA does not say."""
    sizes = program.memory_analysis()
    if sizes is None:
        return math.nan
    needed = sizes.argument_size_in_bytes + sizes.temp_size_in_bytes + sizes.output_size_in_bytes
    return float(needed - sizes.alias_size_in_bytes)


def _memory_of_a_device() -> int:
    """Bytes that a device has; the CPU devices of a process share the machine's."""
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return stats["bytes_limit"]
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_limits()]) // jax.local_device_count()


def _limits(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Bytes of memory that a container or a scheduler lets this process have (Linux control groups, version 2)."""
    lines = own.read_text().splitlines() if own.exists() else []
    groups = [root / line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    files = [folder / "memory.max" for group in groups for folder in (group, *group.parents)]
    words = [file.read_text().strip() for file in files if file.exists()]
    return [int(word) for word in words if word != "max"]


def _seconds_per_step(advance: Compiled, training: Training) -> float:
    """Train a little, twice as long each time, and take the last time; the state is used up."""
    state, steps, seconds = training.state, 1, 0.0
    while in_any_process(seconds < LONG_ENOUGH):
        steps *= 2
        start = time.perf_counter()
        state = jax.block_until_ready(advance(state, training.data, training.keys, 0, steps))
        seconds = time.perf_counter() - start
    return seconds / steps


def say_plan(experiment: Experiment, folder: Path, *beside: str) -> None:
    """Print the plan of a run in `folder`, and what else there is to say; of several processes, the first one does."""
    planned = plan(experiment, folder)
    if jax.process_index() == 0:
        print(describe(planned), *beside, sep="\n")


def describe(plan: Plan) -> str:
    """The plan in words, with a warning where memory or disk will not do.

    Measuring is taken to do its operations as fast as the training does its own.
    """
    rows = [
        ("training", plan.steps, plan.step_flops, plan.train_memory),
        ("measuring", plan.checkpoints, plan.measure_flops, plan.measure_memory),
    ]
    seconds_per_flop = plan.step_seconds / plan.step_flops
    seconds = [plan.steps * plan.step_seconds, plan.checkpoints * plan.measure_flops * seconds_per_flop]
    if math.isnan(plan.step_seconds):
        timing = "not tried, for want of memory"
    else:
        step, rate = _duration(plan.step_seconds), _flop(1 / seconds_per_flop)
        timing = f"{_duration(sum(seconds))} in all, compiling not counted; a step took {step} ({rate}/s), "
        timing += "and measuring is taken to be as fast"
    lines = [
        f"{plan.networks} networks of {plan.parameters:,} parameters, on {plan.devices}",
        f"{plan.steps:,} training steps ({plan.epochs:,.0f} epochs), {plan.checkpoints} checkpoints",
        "",
        f"{'':>9}  {'each time':>12}  {'in all':>12}  {'memory a device':>15}  {'time':>12}",
        *[
            f"{name:>9}  {_flop(each):>12}  {_flop(times * each):>12}  {_byte(memory):>15}  {_duration(taken):>12}"
            for (name, times, each, memory), taken in zip(rows, seconds, strict=True)
        ],
        "",
        f"time: {timing}",
        f"memory: a device has {_byte(plan.memory)}",
        f"disk: {_byte(plan.snapshots)} of snapshots, {_byte(plan.results)} of results and, until the end, "
        f"{_byte(plan.state)} to go on from; {_byte(plan.free)} are free in {plan.place}",
    ]
    return "\n".join([*lines, *_warnings(plan)])


def _warnings(plan: Plan) -> list[str]:
    disk = plan.snapshots + plan.results + plan.state
    needs = [
        ("training", plan.train_memory, plan.memory, "memory a device", "a smaller --batch or network"),
        ("measuring", plan.measure_memory, plan.memory, "memory a device", "a smaller --held-out or --members"),
        ("the run", disk, plan.free, "disk", "fewer --snapshots, or another --out,"),
    ]
    return [
        f"warning: {what} needs {_byte(needed)} of {kind}, and {_byte(there)} are there; {remedy} may do"
        for what, needed, there, kind, remedy in needs
        if needed > there
    ]


def _amount(value: int | float, unit: str) -> str:
    return "not known" if math.isnan(value) else EngFormatter(unit, places=1)(value)


_flop, _byte = functools.partial(_amount, unit="flop"), functools.partial(_amount, unit="B")


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "not known"
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{1e3 * seconds:,.0f} ms"
