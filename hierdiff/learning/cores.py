"""How many CPU cores this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

# What Linux says of this process.
PROCESS = Path("/proc/self")


def usable_cores() -> int:
    """Those that the process is bound to, or fewer where quotas of its control groups, of version 1 or 2, say so."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        return math.ceil(min([bound, *map(_quota, _control_groups())]))
    except (OSError, ValueError):
        # What is not there, or cannot be read, limits nothing.
        return bound


def _control_groups() -> Iterator[Path]:
    """The folders of the groups that may limit this process's time, and of those around them."""
    groups = [line.split(":", 2) for line in (PROCESS / "cgroup").read_text().splitlines()]
    for line in (PROCESS / "mountinfo").read_text().splitlines():
        mounted, _, system = line.partition(" - ")
        (root, mount), (kind, *_, options) = mounted.split()[3:5], system.split()
        for number, controllers, group in groups:
            # Version 2 has one tree, numbered 0; in version 1 each controller may have its own.
            first = kind == "cgroup" and "cpu" in {*controllers.split(",")} & {*options.split(",")}
            if first or (kind == "cgroup2" and number == "0"):
                # A container may see its own group alone, and not under the name that it has outside.
                inside = Path(group).relative_to(root) if Path(group).is_relative_to(root) else Path()
                yield from (Path(mount, each) for each in (inside, *inside.parents))


def _quota(group: Path) -> float:
    """The cores whose whole time a group may use; infinity where it has no limit."""
    if (limit := group / "cpu.max").exists():
        quota, period = limit.read_text().split()
    elif (limit := group / "cpu.cfs_quota_us").exists():
        quota, period = limit.read_text().strip(), (group / "cpu.cfs_period_us").read_text()
    else:
        return math.inf
    return math.inf if quota in ("max", "-1") else float(quota) / float(period)
