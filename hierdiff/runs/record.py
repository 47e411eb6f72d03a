"""A run is a folder: its configuration, results and summary. Every file appears whole or not at all.

Folders that will not do are refused before JAX and xarray are imported; what needs these imports them.
"""

import contextlib
import dataclasses
import errno
import fcntl
import importlib.metadata
import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hierdiff import __version__, called
from hierdiff.errors import OptionError, require
from hierdiff.runs.options import PLUGINS, fields_of, flat, options_of, recorded

# How the names of files begin that are being written, and what is in those of files that are only tried.
PARTIAL, TRIAL = ".partial-", "trial" * 8
# Seconds: a trial takes a moment, and one that is older was left by a kill.
TRIED = 60.0
# What the system says of a file that is not there, of one that another program has locked, and of a full disk.
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
LOCKED = (errno.EAGAIN, errno.EACCES)
FULL = (errno.ENOSPC, errno.EDQUOT)
# How random numbers are drawn: what goes on from a record draws the same data again.
DRAWS = "named keys"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "xarray", "matplotlib", "pillow")


class DamagedError(OSError):
    """A file that was read, and is not what it should be."""

    def __init__(self, path: Path):
        super().__init__(f"{path} is damaged, or not yet wholly written by a program that copies it")


# What a file raises that is missing, damaged or of another form; one that cannot be read now is none of these.
USELESS = (FileNotFoundError, DamagedError, ValueError, TypeError, LookupError, AttributeError, RuntimeError)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, and put it in its place once it is on disk.

    Of several processes that carry out one run, only the first one writes.
    """
    if not writes():
        return
    # Workers on other hosts, which share the folder, may have the same process number.
    temporary = path.with_name(f"{PARTIAL}{secrets.token_hex(4)}-{path.name}")
    try:
        write(temporary)
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def writes() -> bool:
    """Whether this is the process that writes: of those of one job, the first."""
    import jax

    return jax.process_index() == 0


def flush(path: Path) -> None:
    """Have a file, or the list of files of a folder, on disk; some file systems know no such thing for folders."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def read_whole(path: Path, read: Callable[[BinaryIO], Any]) -> Any:
    """What `read` makes of a file.

    Raises:
      FileNotFoundError: it is not there.
      DamagedError: `read` fails, for what the file holds.
      OSError: it cannot be read now: another program has locked it, or the system says why.
    """
    try:
        opened = path.open("rb")
    except OSError as error:
        if error.errno in ABSENT:
            raise FileNotFoundError(errno.ENOENT, os.strerror(error.errno or errno.ENOENT), str(path)) from None
        raise
    with opened as file:
        for lock in (fcntl.flock, fcntl.lockf):
            try:
                lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                # Some file systems have no locks.
                if error.errno in LOCKED:
                    need = "once that has closed it, the same command goes on"
                    raise OSError(f"{path} is locked by another program, which may be writing it; {need}") from None
        try:
            return read(file)
        except MemoryError:
            raise
        # Given damaged bytes, readers raise exceptions of nearly every kind; those of the system have another number.
        except Exception as error:
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            raise DamagedError(path) from error


def write_json(path: Path, content: Any) -> None:
    """Write what JSON can say of `content` (`as_json`)."""
    text = json.dumps(as_json(content), indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text))


def write_lines(path: Path, rows: list[dict]) -> None:
    text = "".join(json.dumps(as_json(row), allow_nan=False) + "\n" for row in rows)
    write_whole(path, lambda temporary: temporary.write_text(text))


def write_results(path: Path, results: Any) -> None:
    """Labelled arrays, as netCDF 4; made in memory, for HDF5 itself crashes where the disk is full."""
    # Names of files, which need not be UTF-8 as attributes must.
    texts = {name: x for name, x in results.attrs.items() if isinstance(x, str)}
    texts = {name: x.encode(errors="backslashreplace").decode() for name, x in texts.items()}
    content = results.assign_attrs(texts).to_netcdf(engine="h5netcdf")
    write_whole(path, lambda temporary: temporary.write_bytes(content))


def read_results(path: Path) -> Any:
    import xarray as xr

    return read_whole(path, lambda file: xr.load_dataset(io.BytesIO(file.read()), engine="h5netcdf"))


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Arrays by name, as npz."""
    write_whole(path, lambda temporary: np.savez(temporary, **arrays))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    return read_whole(path, lambda file: dict(np.load(file, allow_pickle=False)))


def is_whole(path: Path) -> bool:
    """Whether a file of arrays is there, and holds what its checksums say."""
    try:
        return read_whole(path, lambda file: zipfile.ZipFile(file).testzip()) is None
    except (FileNotFoundError, DamagedError):
        return False


def write_tree(path: Path, tree: Any) -> None:
    """A pytree of arrays, an array for each path in the tree."""
    import jax

    write_arrays(path, {jax.tree_util.keystr(name): x for name, x in jax.tree_util.tree_leaves_with_path(tree)})


def read_tree(path: Path, template: Any) -> Any:
    """What `write_tree` wrote, in the form of `template`, a pytree of arrays or their shapes.

    Raises:
      ValueError: the file is damaged, or holds other arrays.
    """
    import jax

    wanted, form = jax.tree_util.tree_flatten_with_path(template)
    try:
        arrays = read_arrays(path)
        leaves = [arrays[jax.tree_util.keystr(name)] for name, _ in wanted]
    except (FileNotFoundError, DamagedError, LookupError):
        leaves = []
    need = "arrays of this run's networks; this file is damaged, not yet wholly copied, or of others"
    require([x.shape for x in leaves] == [x.shape for _, x in wanted], "run", str(path), need)
    return jax.tree_util.tree_unflatten(form, leaves)


def pieces(folder: Path, question: str, steps: list[int], config: Any) -> list[Path]:
    """Where the pieces of a question's work are kept, one for each step, until all are there.

    Those that were made with other options are taken away.
    """
    place = folder / f"{question}.pieces"
    if not made_with(place / "options.json", config):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        write_json(place / "options.json", origin(config))
    return [file_of_step(place, step) for step in steps]


def steps_in(place: Path) -> list[int]:
    """The steps of which `place` holds a file of arrays."""
    return sorted(int(path.stem) for path in place.glob("*.npz") if path.stem.isdecimal())


def file_of_step(place: Path, step: int) -> Path:
    return place / f"{step:08d}.npz"


def read_json(path: Path) -> Any:
    return read_whole(path, lambda file: json.loads(file.read()))


def as_json(content: Any) -> Any:
    """Results as JSON has them: fields that are None or arrays are left out, and numbers not finite become null."""
    if dataclasses.is_dataclass(content):
        kept = {name: x for name, x in vars(content).items() if x is not None and not isinstance(x, np.ndarray)}
        return {name: as_json(x) for name, x in kept.items()}
    if isinstance(content, dict):
        return {key: as_json(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [as_json(value) for value in content]
    if isinstance(content, float) and not abs(content) < float("inf"):
        return None
    return content


def numbers(content: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON has of named numbers; null stands for those that are not finite."""
    return {name: float("nan") if x is None else x for name, x in content.items()}


def require_writable(name: str, folder: Path) -> None:
    """Make `folder`, and raise `OptionError` where it cannot be made, or what is saved there cannot be restored.

    The process that writes tries it.
    """
    if not writes():
        return
    # Longer than all names of files that are to be below it.
    trial, content = folder / f"{PARTIAL}{secrets.token_hex(4)}-{TRIAL}.npz", np.arange(3)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(trial, lambda temporary: np.savez(temporary, content))
        restored = read_arrays(trial)["arr_0"].tolist() == content.tolist()
    except OSError as error:
        if error.errno in FULL:
            raise
        raise OptionError(name, str(folder), f"a folder that can be written ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):
            trial.unlink(missing_ok=True)
    require(restored, name, str(folder), "a folder that gives back what is saved in it")


def require_folder(folder: Path, config: Any) -> None:
    """Raise `OptionError` where `folder` cannot be written, or holds something else than a run of `config`."""
    require_writable("out", folder)
    require_own(folder, config)


def require_own(folder: Path, config: Any) -> None:
    """Raise `OptionError` where `folder` holds something else than a run of `config`, or cannot be made.

    The message says which options differ. Nothing is written.
    """
    place = existing(folder)
    require(place.is_dir() and os.access(place, os.W_OK), "out", str(folder), "a folder that can be written")
    if place != folder.absolute():
        return
    if not (folder / "config.json").exists():
        foreign = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
        require(not foreign, "out", str(folder), f"an empty folder, or that of a run; this one holds {foreign[:3]}")
        return
    need, unlike = "another folder: the config.json in it is not a run's", "another folder: of the run in this one,"
    there = flat(options_of(read_config("out", folder, type(config)(), need, unlike)))
    given = {k: v for k, v in flat(options_of(config)).items() if k not in free(config)}
    changed = [f"{k} ({there.get(k)} there)" for k, v in given.items() if there.get(k) != v]
    need = f"another folder: this one holds a run with other {', '.join(changed)}"
    require(not changed, "out", str(folder), need)


def free(config: Any) -> set[str]:
    """The options with which a run may go on that has others: where its data are."""
    return {field.name for _, field in fields_of(config) if not field.compare}


def existing(folder: Path) -> Path:
    """`folder`, or where it is to be made: the nearest folder above it that there is."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))


def read_finished(folder: Path, default: Any, command: str) -> Any:
    """The config of the finished run in `folder`, of the question `command`; as `read_config` gives it.

    Raises:
      ValueError: there is none.
    """
    need = f"the {called.finished_run(command)}"
    config = read_config("run", folder, default, need, f"{need}; of this one,")
    require((folder / "summary.json").exists(), "run", str(folder), need)
    return config


def read_config(name: str, folder: Path, default: Any, need: str, unlike: str) -> Any:
    """The config of the run in `folder`; what its record does not name has the value of `default`.

    Raises:
      ValueError: there is none, which `need` says, or an option in it will not do, which is said after `unlike`, or the
        run was made with a plugin that is not loaded. `name` is the option that names the folder.
    """
    try:
        made = read_json(folder / "config.json")
        missing = " --plugin ".join(plugin for plugin in made.get("plugins", []) if plugin not in PLUGINS)
        require(not missing, name, str(folder), f"a plugin that this run was made with: --plugin {missing}")
        return recorded(default, made["options"])
    except USELESS as error:
        if isinstance(error, OptionError):
            need = error.need if error.name == name else f"{unlike} {error}"
        raise OptionError(name, str(folder), need) from None


def require_same_data(name: str, folder: Path, about: Mapping[str, Any], *, shown: bool = False) -> None:
    """Raise `OptionError` where the run in `folder` was begun with other data than are drawn or read today.

    `about` is what the record of a run says of its data; a hash among it says all. A run that is only `shown` may be of
    an older version, which drew otherwise.
    """
    made = read_json(folder / "config.json")
    if shown and made.get("draws") != DRAWS:
        return
    need = f"a run that draws its data as this version does; this one is older, and made anew by {made.get('command')}"
    require(made.get("draws") == DRAWS, name, str(folder), f"{need}, with another --out")
    there = made.get("data", about)
    same = there.get("sha256") == about["sha256"] if "sha256" in about else there == about
    need = "the data that this run was begun with; they have changed since"
    require(same, name, str(folder), need)


def note_options(folder: Path, config: Any) -> None:
    """Let the record of a run say with which options it goes on, where these may differ: where its data are now."""
    made = read_json(folder / "config.json")
    there, given = flat(made["options"]), flat(options_of(config))
    if any(there.get(name) != given[name] for name in free(config)):
        write_json(folder / "config.json", made | {"options": options_of(config)})


def finished(folder: Path, name: str) -> bool:
    """Whether the run in `folder` has come to its end.

    Raises:
      ValueError: its summary or its curves are damaged; `name` is the option that names the folder.
    """
    path = folder / "summary.json"
    if not path.exists():
        return False
    try:
        path = folder / "curves.nc" if "verdict" in read_json(path) else path
        read_results(path)
    except USELESS:
        raise OptionError(
            name, str(folder), f"a whole run; its {path.name} is missing or damaged, or not yet wholly copied"
        ) from None
    return True


def tidy(folder: Path) -> None:
    """Take away the files that a process was writing when it was killed, but not what others may be trying now."""
    for path in folder.rglob(f"{PARTIAL}*"):
        with contextlib.suppress(FileNotFoundError):
            if TRIAL not in path.name or time.time() - path.stat().st_mtime > TRIED:
                path.unlink()


def discard(folder: Path) -> None:
    """Take away all that a run has left in `folder`, but its options."""
    # Without a summary and a state there is nothing to go on from: if this is left half done, it is done again.
    first, results = ("summary.json", "state", "snapshots", "*.pieces"), ("*results.nc", "*curves.nc")
    for pattern in (*first, *results, "metrics.jsonl", "onset.png", "report.html"):
        for path in folder.glob(pattern):
            remove = shutil.rmtree if path.is_dir() else Path.unlink
            remove(path)


def provenance() -> dict[str, Any]:
    """What made a result: the command, the versions, the device and the commit (null outside a checkout of our own)."""
    import jax

    device = jax.devices()[0]
    return {
        "command": called.command(),
        "commit": commit(Path(__file__).parents[2]),
        "device": f"{device.device_kind} x {jax.device_count()}",
        "python": sys.version.split()[0],
        "versions": {"hierdiff": __version__, **{name: version(name) for name in PACKAGES}},
    }


def commit(root: Path) -> str | None:
    """The git commit of this package's own checkout; None where `root`, its folder, is that of something else."""
    # A hook of another repository would have its git look there.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()

    try:
        project = tomllib.loads((root / "pyproject.toml").read_text())["project"]["name"]
        if project != "hierdiff" or not Path(git("rev-parse", "--show-toplevel")).samefile(root):
            return None
        return git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    except (OSError, ValueError, LookupError, subprocess.CalledProcessError):
        return None


def version(package: str) -> str | None:
    """The version of a package that is installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def begun(config: Any) -> dict[str, Any]:
    """What `config.json` says of any folder: the options, how random numbers are drawn, plugins, and what made it."""
    return {"options": options_of(config), "draws": DRAWS, "plugins": PLUGINS, **provenance()}


def origin(config: Any) -> dict[str, str]:
    """What made a file of results, as its attributes: options, command, commit and device."""
    made = {name: value or "" for name, value in provenance().items() if name in ("command", "commit", "device")}
    return {"options": json.dumps(options_of(config)), **made}


def made_with(path: Path, config: Any) -> bool:
    """Whether results, or an origin in JSON, are in `path`, whole, and were made with these options."""
    try:
        made = read_json(path) if path.suffix == ".json" else read_results(path).attrs
        return recorded(type(config)(), json.loads(made["options"])) == config
    except USELESS:
        return False
