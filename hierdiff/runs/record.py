"""A run is a folder: its configuration, results and summary. Every file appears whole or not at all."""

import dataclasses
import errno
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import jax
import numpy as np
import xarray as xr

from hierdiff.errors import OptionError, require
from hierdiff.runs.options import flat, options_of, recorded, same_options

# How the names of files begin that are being written.
PARTIAL = ".partial-"
# What reading a file raises that is missing, damaged or of another form.
UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError)
# How random numbers are drawn: what goes on from a record draws the same data again.
DRAWS = "named keys"
PACKAGES = ("hierdiff", "jax", "jaxlib", "flax", "optax", "numpy", "xarray", "matplotlib", "pillow")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, and put it in its place once it is on disk.

    Of several processes that carry out one run, only the first one writes.
    """
    if jax.process_index() > 0:
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=PARTIAL, suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        flush(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


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


def write_json(path: Path, content: Any) -> None:
    """Write what JSON can say of `content` (`as_json`)."""
    text = json.dumps(as_json(content), indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text))


def write_lines(path: Path, rows: list[dict]) -> None:
    """One JSON object a line."""
    text = "".join(json.dumps(as_json(row), allow_nan=False) + "\n" for row in rows)
    write_whole(path, lambda temporary: temporary.write_text(text))


def write_results(path: Path, results: xr.Dataset) -> None:
    """Labelled arrays, as netCDF 4; made in memory, for HDF5 itself crashes where the disk is full."""
    content = results.to_netcdf(engine="h5netcdf")
    write_whole(path, lambda temporary: temporary.write_bytes(content))


def read_results(path: Path) -> xr.Dataset:
    """The labelled arrays in one file of a run."""
    return xr.load_dataset(path, engine="h5netcdf")


def over_steps(
    dimensions: dict[str, tuple[tuple[str, ...], str, str]], measured: list[dict[str, np.ndarray]]
) -> dict[str, Any]:
    """The measurements at each step as variables, given the dimensions beside the step, the unit and the meaning."""
    return {
        name: (("step", *dims), np.stack([each[name] for each in measured]), {"units": units, "meaning": meaning})
        for name, (dims, units, meaning) in dimensions.items()
    }


def write_arrays(path: Path, tree: Any) -> None:
    """A pytree of arrays as npz, an array for each path in the tree."""
    arrays = {jax.tree_util.keystr(name): leaf for name, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    write_whole(path, lambda temporary: np.savez(temporary, **arrays))


def read_arrays(path: Path, template: Any) -> Any:
    """What `write_arrays` wrote, in the form of `template`, a pytree of arrays or their shapes.

    Raises:
      ValueError: the file is damaged, or holds other arrays.
    """
    wanted, form = jax.tree_util.tree_flatten_with_path(template)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            leaves = [arrays[jax.tree_util.keystr(name)] for name, _ in wanted]
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile):
        leaves = []
    good = [x.shape for x in leaves] == [x.shape for _, x in wanted]
    require(good, "run", str(path), "arrays of this run's networks; this file is damaged or of others")
    return jax.tree_util.tree_unflatten(form, leaves)


def snapshot_steps(folder: Path) -> list[int]:
    """The steps whose weights are kept."""
    return sorted(int(path.stem) for path in (folder / "snapshots").glob("*.npz") if path.stem.isdigit())


def snapshot_file(folder: Path, step: int) -> Path:
    """Where the weights of one step are kept."""
    return folder / "snapshots" / f"{step:08d}.npz"


def read_json(path: Path) -> Any:
    """The content of one JSON file of a run."""
    return json.loads(path.read_text())


def as_json(content: Any) -> Any:
    """Results as JSON has them: fields that are None are left out, and numbers that are not finite become null."""
    if dataclasses.is_dataclass(content):
        return {name: as_json(value) for name, value in vars(content).items() if value is not None}
    if isinstance(content, dict):
        return {key: as_json(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [as_json(value) for value in content]
    if isinstance(content, float) and not abs(content) < float("inf"):
        return None
    return content


def from_json(kind: Any, content: Any) -> Any:
    """Results of type `kind` from their JSON; null becomes nan, and what `kind` has no field for is passed over."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: from_json(hints[name], value) for name, value in content.items() if name in hints})
    if get_origin(kind) is tuple:
        return tuple(from_json(get_args(kind)[0], value) for value in content)
    if get_origin(kind) is UnionType:
        return from_json(get_args(kind)[0], content)
    return float("nan") if content is None else content


def require_writable(name: str, folder: Path) -> None:
    """Make `folder`, and raise `OptionError` where it cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=PARTIAL):
            pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OptionError(name, str(folder), f"a folder that can be written ({error.strerror})") from None


def require_folder(folder: Path, config: Any) -> None:
    """Raise `OptionError` where `folder` cannot be written, or holds something else than a run of `config`.

    The message says which options differ.
    """
    require_writable("out", folder)
    path = folder / "config.json"
    if not path.exists():
        foreign = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
        require(not foreign, "out", str(folder), f"an empty folder, or that of a run; this one holds {foreign[:3]}")
        return
    try:
        there = flat(options_of(recorded(type(config)(), read_json(path)["options"])))
    except OptionError as error:
        raise OptionError("out", str(folder), f"another folder: of the run in this one, {error}") from None
    except UNREADABLE:
        raise OptionError("out", str(folder), "another folder: the config.json in it is not a run's") from None
    changed = [f"{k} ({there.get(k)} there)" for k, v in flat(options_of(config)).items() if there.get(k) != v]
    need = f"another folder: this one holds a run with other {', '.join(changed)}"
    require(not changed, "out", str(folder), need)


def require_draws(name: str, folder: Path) -> None:
    """Raise `OptionError` where the run in `folder` has drawn its random numbers otherwise than it would today."""
    made = read_json(folder / "config.json")
    need = f"a run that draws its data as this version does; this one is older, and made anew by {made.get('command')}"
    require(made.get("draws") == DRAWS, name, str(folder), f"{need} --resume never")


def write_config(folder: Path, config: Any) -> None:
    """The options of a run, and what it is made with."""
    write_json(folder / "config.json", {"options": options_of(config), "draws": DRAWS, **provenance()})


def finished(folder: Path, name: str) -> bool:
    """Whether the run in `folder` has come to its end.

    Raises:
      ValueError: its summary or its curves are damaged; `name` is the option that names the folder.
    """
    path = folder / "summary.json"
    if not path.exists():
        return False
    try:
        whole = "verdict" in read_json(path)
        path = folder / "curves.nc" if whole else path
        read_results(path)
    except UNREADABLE:
        raise OptionError(name, str(folder), f"a whole run; its {path.name} is missing or damaged") from None
    return True


def tidy(folder: Path) -> None:
    """Take away the files that a process was writing when it was killed."""
    for path in folder.rglob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Take away all that a run has left in `folder`, but its options."""
    # Without a summary and a state there is nothing to go on from: if this is left half done, it is done again.
    (folder / "summary.json").unlink(missing_ok=True)
    for name in ("state", "snapshots", "samples"):
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    for pattern in ("*results.nc", "*curves.nc", "metrics.jsonl", "onset.png", "images.json"):
        for path in folder.glob(pattern):
            path.unlink()


def provenance() -> dict[str, Any]:
    """What made a result: the command, the versions, the device and the git commit (null outside a checkout)."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    device = jax.devices()[0]
    return {
        "command": " ".join(["python -m", _module(), *sys.argv[1:]]),
        "commit": commit,
        "device": f"{device.device_kind} x {jax.device_count()}",
        "python": sys.version.split()[0],
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def origin(config: Any) -> dict[str, str]:
    """What made a file of results, as its attributes: options, command, commit and device."""
    made = {name: value or "" for name, value in provenance().items() if name in ("command", "commit", "device")}
    return {"options": json.dumps(options_of(config)), **made}


def made_with(path: Path, config: Any) -> bool:
    """Whether results are in `path`, whole, and were made with these options."""
    try:
        return same_options(read_results(path).attrs["options"], config)
    except UNREADABLE:
        return False


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else Path(sys.argv[0]).name
