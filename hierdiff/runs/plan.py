"""What a run will cost, said without carrying it out: operations, memory, disk and time."""

import functools
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun
from jax.stages import Compiled

from hierdiff.errors import require
from hierdiff.learning.devices import in_any_process
from hierdiff.learning.loop import Training
from hierdiff.runs import record
from hierdiff.runs.checkpoint import KEPT
from hierdiff.runs.laboratory import make_measure, prepare
from hierdiff.runs.world import World

# Steps are timed until they take so many seconds.
LONG_ENOUGH = 2.0


def plan(config: Any, world: World, folder: Path) -> dict[str, Any]:
    """What `describe` says of a run in `folder`, which need not exist; a few steps of it are timed.

    Raises:
      ValueError: `folder` cannot be made or written.
    """
    place = record.existing(folder)
    good = place.is_dir() and os.access(place, os.W_OK)
    require(good, "out", str(folder), "a folder that can be written")
    inputs, training = jax.eval_shape(lambda: world.inputs(config.measure)), prepare(config, world)
    state, networks, checkpoints = training.state, len(training.keys), len(config.train.checkpoint_steps())
    advance = training.advance.trace(state, training.data, training.keys, 0, 1)
    measure = make_measure(world).trace(state.average, inputs)
    compiled = advance.lower().compile()
    # What one program does not use stays in memory while it runs.
    train_memory = _memory_of(compiled) + _bytes(inputs)
    unused = (_bytes(state) - _bytes(state.average)) // world.mesh.shape["network"]
    memory, results = _memory_of_a_device(), checkpoints * _bytes(measure.out_info)
    return {
        "devices": f"{world.mesh.size} of {jax.device_count()} devices ({jax.devices()[0].device_kind})",
        "networks": networks,
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)) // networks,
        "steps": config.train.steps,
        "epochs": config.train.steps * config.train.batch / config.size,
        "checkpoints": checkpoints,
        "step_flops": flops(advance.jaxpr),
        "measure_flops": flops(measure.jaxpr),
        "train_memory": train_memory,
        "measure_memory": _memory_of(measure.lower().compile()) + unused,
        "memory": memory,
        "place": place,
        "snapshots": len(config.train.snapshot_steps()) * _bytes(state.average),
        # One more save is written before the oldest is dropped.
        "state": (KEPT + 1) * (_bytes(state) + results),
        "results": results,
        "free": shutil.disk_usage(place).free,
        "step_seconds": math.nan if train_memory > memory else _seconds_per_step(compiled, training),
    }


def flops(program: ClosedJaxpr) -> float:
    """Floating-point operations on all devices together, of the program as it is written, before XLA simplifies it.

    XLA counts the body of a loop once, however often it runs, and of a program spread over devices the part of one of
    them. What it leaves out is added here, but for loops whose length is an argument of the program: they count once.
    """
    return _analysed(program) + _left_out(program)


def _analysed(program: ClosedJaxpr) -> float:
    inputs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in program.in_avals]
    costs = jax.jit(jaxpr_as_fun(program)).lower(*inputs).cost_analysis()
    return math.nan if costs is None else costs.get("flops", 0.0)


def _left_out(program: ClosedJaxpr) -> float:
    """What bodies do after their first run, and what is left out within them."""
    bodies = [(_times(equation), body) for equation in program.jaxpr.eqns for body in _bodies(equation)]
    again = sum((times - 1) * _analysed(body) for times, body in bodies if times > 1)
    return sum((times * _left_out(body) for times, body in bodies), float(again))


def _times(equation: JaxprEqn) -> int:
    """How often the body of an equation runs, on all devices together."""
    if equation.primitive.name == "scan":
        return equation.params["length"]
    if equation.primitive.name == "shard_map":
        return math.prod(equation.params["mesh"].shape[axis] for axis in equation.params["newly_manual_axes"])
    return 1


def _bodies(equation: JaxprEqn) -> list[ClosedJaxpr]:
    found = jax.tree.leaves(equation.params, is_leaf=lambda x: isinstance(x, Jaxpr | ClosedJaxpr))
    bodies = [ClosedJaxpr(x, ()) if isinstance(x, Jaxpr) else x for x in found]
    return [x for x in bodies if isinstance(x, ClosedJaxpr)]


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


def say_plan(config: Any, world: World, folder: Path, *beside: str) -> None:
    """Print the plan of a run in `folder`, and what else there is to say; of several processes, the first one does."""
    planned = plan(config, world, folder)
    if jax.process_index() == 0:
        print(describe(**planned), *beside, sep="\n")


def describe(
    *,
    devices: str,
    networks: int,
    parameters: int,
    steps: int,
    epochs: float,
    checkpoints: int,
    step_flops: float,
    measure_flops: float,
    train_memory: float,
    measure_memory: float,
    memory: int,
    place: Path,
    snapshots: int,
    state: int,
    results: int,
    free: int,
    step_seconds: float,
) -> str:
    """A plan in words, with a warning where memory or disk will not do.

    `parameters` are those of one network, the operations (flops) those of all, of a training step and of a
    checkpoint's measurement, which is taken to do its own as fast. Memory is in bytes a device, `memory` being what a
    device has; `snapshots`, `state` (to go on after an interruption), `results` and `free` are bytes on the disk of
    `place`. `step_seconds` is measured, and not a number where the memory is too small for the training.
    """
    step, rate = _duration(step_seconds), _flop(step_flops / step_seconds)
    seconds = [steps * step_seconds, checkpoints * step_seconds * measure_flops / step_flops]
    timing = (
        f"{_duration(sum(seconds))} in all, compiling not counted; a step took {step} ({rate}/s), "
        "and measuring is taken to be as fast"
    )
    rows = [
        ("training", steps, step_flops, train_memory, seconds[0]),
        ("measuring", checkpoints, measure_flops, measure_memory, seconds[1]),
    ]
    needs = [
        ("training", train_memory, memory, "memory a device", "a smaller --batch or network"),
        ("measuring", measure_memory, memory, "memory a device", "a smaller --held-out or --members"),
        ("the run", snapshots + results + state, free, "disk", "fewer --snapshots, or another --out,"),
    ]
    lines = [
        f"{networks} networks of {parameters:,} parameters, on {devices}",
        f"{steps:,} training steps ({epochs:,.0f} epochs), {checkpoints} checkpoints",
        "",
        f"{'':>9}  {'each time':>12}  {'in all':>12}  {'memory a device':>15}  {'time':>12}",
        *[
            f"{name:>9}  {_flop(each):>12}  {_flop(times * each):>12}  {_byte(needed):>15}  {_duration(taken):>12}"
            for name, times, each, needed, taken in rows
        ],
        "",
        f"time: {'not tried, for want of memory' if math.isnan(step_seconds) else timing}",
        f"memory: a device has {_byte(memory)}",
        f"disk: {_byte(snapshots)} of snapshots, {_byte(results)} of results and, until the end, "
        f"{_byte(state)} to go on from; {_byte(free)} are free in {place}",
        *[
            f"warning: {what} needs {_byte(needed)} of {kind}, and {_byte(there)} are there; {remedy} may do"
            for what, needed, there, kind, remedy in needs
            if needed > there
        ],
    ]
    return "\n".join(lines)


def _amount(value: int | float, unit: str) -> str:
    if math.isnan(value):
        return "not known"
    prefixes = ["", *"kMGTPEZY"]
    # Of what is rounded to 1,000.0, the next one.
    power = next((power for power in range(len(prefixes)) if value < 999.95 * 1000**power), len(prefixes) - 1)
    return f"{value / 1000**power:.1f} {prefixes[power]}{unit}"


_flop, _byte = functools.partial(_amount, unit="flop"), functools.partial(_amount, unit="B")


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "not known"
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{1e3 * seconds:,.0f} ms"
