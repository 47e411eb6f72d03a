"""Where an ensemble of networks runs, and all that differs between a CPU and an accelerator.

Networks and the sequences of a batch are laid out on a mesh of all devices, those of other processes included. On one
device the networks are vectorised on an accelerator, and take turns on a CPU, where that needs less memory and, with
Transformers and U-Nets, less time. Whatever the layout, the numbers are the same within rounding.

Exact code asks for the highest precision of matrix products everywhere (accelerators would take less); networks take
the platform's default, and bfloat16 if asked (`--dtype`).
"""

import contextlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hierdiff.chunks import on_cpu
from hierdiff.errors import OptionError
from hierdiff.learning.compiled import keep_compiled
from hierdiff.learning.cores import usable_cores


def set_up_devices(*, distributed: bool = False) -> None:
    """Make each usable CPU core a JAX device, let a GPU give the same result each time, join the processes of a job.

    And keep what is compiled. Call it before JAX is used for anything. What the user has chosen already stays: the
    number of CPU devices, by `JAX_NUM_CPU_DEVICES` or, with a word, by `xla_force_host_platform_device_count` in
    `XLA_FLAGS`, the flag `xla_gpu_deterministic_ops` there, and JAX's options of its cache.

    Raises:
      ValueError: there are no other processes that could be found.
    """
    flags, cores = os.environ.get("XLA_FLAGS", ""), usable_cores()
    if jax.config.jax_num_cpu_devices < 0:  # pyright: ignore[reportAttributeAccessIssue]
        if forced := re.findall(r"--xla_force_host_platform_device_count=(\d+)", flags):
            sys.stderr.write(f"note: {forced[-1]} CPU devices, as XLA_FLAGS has it, on {cores} usable cores\n")
        else:
            jax.config.update("jax_num_cpu_devices", cores)
    if "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true"
    keep_compiled()
    if distributed:
        # It would keep SIGTERM to itself.
        jax.config.update("jax_enable_preemption_service", False)
        try:
            jax.distributed.initialize()
        except ValueError as error:
            need = f"a Slurm job, a TPU slice or a Kubernetes JobSet: {error}"
            raise OptionError("distributed", distributed, need) from None


def ensemble_mesh(networks: int) -> Mesh:
    """Every device of every process: the axis `network` shares the networks evenly, `batch` the sequences of each."""
    devices = jax.devices()
    shares = math.gcd(networks, len(devices))
    return Mesh(np.array(devices).reshape(shares, -1), ("network", "batch"))


def spread_networks(tree: Any, mesh: Mesh) -> Any:
    """Arrays with a leading network axis, which every process has whole, laid out on the devices."""

    def spread(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(spread(jax.random.key_data(x)))
        return jax.device_put(np.asarray(x), NamedSharding(mesh, PartitionSpec("network")))

    return jax.tree.map(spread, tree)


def spread_batch(tree: Any, mesh: Mesh) -> Any:
    """Arrays with a leading axis of sequences, of one network, laid out on that network's devices.

    Inside a function that `over_networks` runs, where the axis of the networks is taken.
    """
    inside = mesh.abstract_mesh.update_axis_types({"network": AxisType.Manual})
    return jax.lax.with_sharding_constraint(tree, NamedSharding(inside, PartitionSpec("batch")))


def over_networks(function: Callable, mesh: Mesh, *, stacked: int) -> Callable:
    """`function` of one network, made a function of all.

    The first `stacked` arguments and every result gain a leading network axis, spread over `mesh`; the other
    arguments are the same for all networks.
    """

    def on_one_share(*args):
        def one(mine):
            return function(*mine, *args[stacked:])

        return jax.lax.map(one, args[:stacked]) if on_cpu() else jax.vmap(one)(args[:stacked])

    def on_all(*args):
        specs = tuple(PartitionSpec("network") if i < stacked else PartitionSpec() for i in range(len(args)))
        return jax.shard_map(
            on_one_share,
            mesh=mesh,
            in_specs=specs,
            out_specs=PartitionSpec("network"),
            # XLA sees to the batch.
            axis_names={"network"},
            # Networks never talk to each other, so what is the same on all devices need not be told from what is not.
            check_vma=False,
        )(*args)

    return on_all


def to_host(tree: Any) -> Any:
    """The values of arrays that may lie on the devices of several processes, in each of these."""
    return multihost_utils.process_allgather(tree, tiled=True)


def of_first_process(number: int) -> int:
    """What `number` is in the first process; all of them must ask."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def in_any_process(flag: bool) -> bool:
    """Whether `flag` is set in one of the processes; all of them must ask."""
    return bool(to_host(np.array([flag])).any())


@contextlib.contextmanager
def failing_together() -> Iterator[None]:
    """Where this fails in one process, it ends in all, which would wait for that one for ever; all of them must enter.

    Raises:
      SystemExit: it has failed in another process, which says why.
    """
    problem = None
    try:
        yield
    except Exception as error:
        problem = error
    if in_any_process(problem is not None):
        raise problem or SystemExit(1)
