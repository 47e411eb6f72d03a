"""Where an ensemble of networks runs: its members are spread over the devices.

On the CPU every core becomes a device of its own (`use_every_core`), and the members that share a device take
turns: small matrix products fill one core, but not two. On accelerators they are vectorised.
"""

import os
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec


def use_every_core() -> None:
    """Make each CPU core that this process may use a JAX device, unless their number is chosen already.

    Call it before JAX is used for anything.
    """
    if jax.config.jax_num_cpu_devices < 0:  # pyright: ignore[reportAttributeAccessIssue]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        jax.config.update("jax_num_cpu_devices", cores)


def ensemble_mesh(networks: int) -> Mesh:
    """As many devices as share the networks evenly, in one axis, `network`."""
    used = max(d for d in range(1, min(networks, jax.device_count()) + 1) if networks % d == 0)
    return Mesh(np.array(jax.devices()[:used]), ("network",))


def over_networks(function: Callable, mesh: Mesh, *, stacked: int) -> Callable:
    """`function` of one network, made a function of all.

    The first `stacked` arguments and every result gain a leading network axis, spread over `mesh`; the other
    arguments are the same for all networks.
    """

    def on_one_device(*args):
        def one(mine):
            return function(*mine, *args[stacked:])

        if jax.default_backend() == "cpu":
            return jax.lax.map(one, args[:stacked])
        return jax.vmap(one)(args[:stacked])

    def on_all(*args):
        specs = tuple(PartitionSpec("network") if i < stacked else PartitionSpec() for i in range(len(args)))
        out = PartitionSpec("network")
        # Networks never talk to each other, so what is the same on all devices need not be told from what is not.
        return jax.shard_map(on_one_device, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)(*args)

    return on_all
