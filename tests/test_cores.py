"""The CPU cores that a process may use: by affinity, and by the quotas of control groups as Linux writes them down."""

import os
import subprocess
import sys

import pytest

from hierdiff.learning import cores

UNIFIED = "34 23 0:29 {root} {mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
FIRST = "32 31 0:29 {root} {mount} rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
OTHER = "33 31 0:30 / {mount}-memory rw,relatime - cgroup cgroup rw,memory\n36 25 0:31 / / rw - overlay overlay rw\n"
# Of the process: its groups, and how they are mounted; then the files of groups below the mount, and the cores.
QUOTAS = {
    "none in version 2": ("0::/\n", UNIFIED, "/", {"cpu.max": "max 100000"}, 64),
    "of a container with a name space of its own": ("0::/\n", UNIFIED, "/", {"cpu.max": "200000 100000"}, 2),
    "of the group itself": ("0::/a/b\n", UNIFIED, "/", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "max 100000"}, 3),
    "of a group around it": ("0::/a/b\n", UNIFIED, "/", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 10000"}, 5),
    "the least of all": ("0::/a/b\n", UNIFIED, "/", {"a/b/cpu.max": "900000 100000", "a/cpu.max": "400000 100000"}, 4),
    "one and a half": ("0::/\n", UNIFIED, "/", {"cpu.max": "150000 100000"}, 2),
    "half a core": ("0::/\n", UNIFIED, "/", {"cpu.max": "50000 100000"}, 1),
    "more than there are": ("0::/\n", UNIFIED, "/", {"cpu.max": "9900000 100000"}, 64),
    "mounted from its own group on": ("0::/a/b\n", UNIFIED, "/a", {"b/cpu.max": "200000 100000"}, 2),
    "seen under another name": ("0::/../b\n", UNIFIED, "/a", {"cpu.max": "200000 100000"}, 2),
    "none in version 1": (
        "4:memory:/\n2:cpu,cpuacct:/\n",
        FIRST,
        "/",
        {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"},
        64,
    ),
    "in version 1": (
        "4:memory:/x\n2:cpu,cpuacct:/a\n0::/\n",
        FIRST,
        "/",
        {"a/cpu.cfs_quota_us": "200000\n", "a/cpu.cfs_period_us": "100000\n"},
        2,
    ),
    "of a container, in version 1": (
        "2:cpu,cpuacct:/docker/abc\n",
        FIRST,
        "/docker/abc",
        {"cpu.cfs_quota_us": "600000\n", "cpu.cfs_period_us": "200000\n"},
        3,
    ),
    "of memory alone": ("4:memory:/a\n0::/\n", FIRST, "/", {"a/cpu.max": "100000 100000"}, 64),
    "not to be read": ("0::/\n", UNIFIED, "/", {"cpu.max": "what is this"}, 64),
}


@pytest.fixture
def many_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)


@pytest.mark.parametrize("name", QUOTAS)
def test_the_quotas_of_control_groups_count(name, many_cores, tmp_path, monkeypatch):
    groups, mounts, root, files, expected = QUOTAS[name]
    mount = tmp_path / "mount"
    for file, text in {"self/cgroup": groups, "self/mountinfo": OTHER + mounts, **files}.items():
        path = (tmp_path if file.startswith("self/") else mount) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(root=root, mount=mount))
    monkeypatch.setattr(cores, "PROCESS", tmp_path / "self")
    assert cores.usable_cores() == expected


def test_where_there_are_no_control_groups_affinity_counts(many_cores, tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "PROCESS", tmp_path / "nowhere")
    assert cores.usable_cores() == 64


DEVICES = """
from hierdiff.learning import devices
devices.usable_cores = lambda: 3
devices.set_up_devices()
import jax
print(jax.device_count())
"""


@pytest.mark.parametrize(
    ("environment", "count", "note"),
    [
        ({}, 3, ""),
        ({"JAX_NUM_CPU_DEVICES": "2"}, 2, ""),
        (
            {"XLA_FLAGS": "--xla_force_host_platform_device_count=5"},
            5,
            "note: 5 CPU devices, as XLA_FLAGS has it, on 3 usable cores\n",
        ),
    ],
    ids=["cores", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS"],
)
def test_a_number_of_devices_that_is_asked_for_stays(environment, count, note):
    others = {name: x for name, x in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    command = [sys.executable, "-c", DEVICES]
    done = subprocess.run(command, env=others | environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{count}\n", note)
