"""Where what JAX compiles is kept for the next process."""

import contextlib
import os
import platform
import zlib
from pathlib import Path
from typing import Any

import jax
from filelock import FileLock

# What was not used for longest goes where there are more bytes.
MOST = 2**30
# Seconds: what takes less is compiled again.
LEAST = 0.1
# Of what says which CPU this is, on Linux.
CPU = ("model name", "flags", "CPU part", "Features")


def keep_compiled() -> None:
    """Keep it in the cache folder of the user, unless JAX is told where, or not to, or there is no folder that will do.

    A program may use what another CPU has not, and homes are shared: each kind of CPU has a folder of its own.
    """
    told: Any = jax.config
    if told.jax_compilation_cache_dir or not told.jax_enable_compilation_cache:
        return
    # Without a home, or room in it, programs are compiled anew, as they would be without this.
    with contextlib.suppress(OSError, RuntimeError):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        folder = cache / "hierdiff" / f"{zlib.crc32(cpu().encode()):08x}"
        folder.mkdir(parents=True, exist_ok=True)
        tidy(folder)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_compilation_cache_max_size", MOST)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST)


def tidy(folder: Path) -> None:
    """Drop what a process that was killed has left half written: JAX notes when an entry was used once it is whole.

    Raises:
      OSError: nothing can be written there.
    """
    with FileLock(folder / ".lockfile", timeout=1):
        for entry in folder.glob("*-cache"):
            if not entry.with_name(entry.name.removesuffix("cache") + "atime").exists():
                entry.unlink()


def cpu() -> str:
    """What kind of CPU this is, with the instructions that it has where Linux says them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted({line for line in lines if line.startswith(CPU)}))
