"""Images for the same measure on real data: small squares, grey or in colour, in disjoint sets."""

import dataclasses
import gzip
import hashlib
import os
import subprocess
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from hierdiff.errors import OptionError, require
from hierdiff.runs.record import PARTIAL
from hierdiff.worlds.run_config import ImageConfig

PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
# SHA-256 of the two files of images in version 0.0~git20200523.55506a9-1 of the package.
HASHES = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
}


@dataclasses.dataclass(frozen=True)
class ImageSets:
    """Disjoint sets of images in [-1, 1], of one channel or three: no two images in all of them are equal.

    `duplicates` counts the images left out because they are equal to one drawn before, `unreadable` those that cannot
    be read, both among the images that were looked at.
    """

    train: Float[np.ndarray, "sets P side side channels"]
    held_out: Float[np.ndarray, "n side side channels"]
    duplicates: int
    unreadable: int


def draw_images(config: ImageConfig, seed: int | Sequence[int], *, sets: int, size: int, held_out: int) -> ImageSets:
    """Draw `sets` training sets of `size` images and a held-out set, without replacement.

    The images are read in a random order that `seed` and the names of the files determine, until enough are there.

    From each image a centred square is cut out, made grey (ITU-R 601 luma) or red, green and blue, as the config says
    (transparency is ignored), and resized with a Lanczos filter, in 8 bits. A box filter would average now one, now two
    pixels where the sizes are no multiples of each other, as in 28 to 16, and so show patterns that are not in the
    image.

    Raises:
      ValueError: there are too few images, or a file is damaged or of another kind; the message says which.
    """
    for name, number in (("sets", sets), ("size", size), ("held_out", held_out)):
        require(number >= 1, name, number, "an integer of at least 1")
    source, needed = config.data_dir or "Fashion-MNIST", sets * size + held_out
    items = _items(config.data_dir)
    require(len(items) >= needed, "data_dir", source, f"at least {needed:,} images; this has {len(items):,}")

    # Its keys are in the order in which they came.
    found: Counter[bytes] = Counter()
    unreadable = []
    for index in np.random.default_rng(seed).permutation(len(items)):
        try:
            found[_pixels(items[index], config)] += 1
        # Given damaged bytes, the readers in Pillow raise exceptions of nearly every kind.
        except Exception:
            unreadable.append(str(items[index]))
        if len(found) == needed:
            break
    if unreadable:
        names = ", ".join(unreadable[:3]) + (" and others" if unreadable[3:] else "")
        warnings.warn(f"images that cannot be read, {len(unreadable):,}: {names}", stacklevel=2)
    duplicates = found.total() - len(found)
    need = f"at least {needed:,} different images; this has {len(found):,}, besides {duplicates:,} that repeat others"
    require(len(found) == needed, "data_dir", source, f"{need} and {len(unreadable):,} that cannot be read")
    images = np.frombuffer(b"".join(found), np.uint8).reshape(needed, config.side, config.side, config.channels)
    images = images.astype(np.float32) / np.float32(127.5) - 1
    return ImageSets(
        train=images[: sets * size].reshape(sets, size, *images.shape[1:]),
        held_out=images[sets * size :],
        duplicates=duplicates,
        unreadable=len(unreadable),
    )


def _pixels(item: Path | np.ndarray, config: ImageConfig) -> bytes:
    """The rows of one image, cut to a square, with the channels of `config` and resized."""
    with Image.open(item) if isinstance(item, Path) else Image.fromarray(item) as image:
        # Cameras store photographs lying on their side, with a note that they are.
        upright = ImageOps.exif_transpose(image)
        cut = min(upright.size)
        left, top = (upright.width - cut) // 2, (upright.height - cut) // 2
        square = upright.crop((left, top, left + cut, top + cut))
    # Pillow would make everything above 255 white.
    if square.mode.startswith("I;16"):
        square = Image.fromarray((np.asarray(square) >> 8).astype(np.uint8))
    if square.mode in ("I", "F"):
        raise ValueError("the pixels have no known range")
    square = square.convert("RGB" if config.colour else "L")
    return square.resize((config.side, config.side), Image.Resampling.LANCZOS).tobytes()


def _items(data_dir: str) -> Sequence[Path | np.ndarray]:
    """All images of a source, as files or as arrays (H, W) or (H, W, channels).

    What a file in a folder is, its ending says; other files than images, IDX and npz are passed over.
    """
    if not data_dir:
        return [image for path in _fashion_mnist() for image in _read_idx(path)]
    root = Path(data_dir).expanduser()
    require(root.exists(), "data_dir", data_dir, "a folder or a file that exists")
    if not root.is_dir():
        return list(_read_npz(root) if zipfile.is_zipfile(root) else _read_idx(root))
    files = _files(root)
    pictures = [path for path in files if path.suffix.lower() in Image.registered_extensions()]
    # Downloaders leave a file beside its compressed form: the same images.
    idx = list({str(path).removesuffix(".gz"): path for path in files if "idx3" in path.name}.values())
    npz = [path for path in files if path.suffix == ".npz"]
    several = f"images of one kind; here are {len(pictures):,} image, {len(idx):,} IDX and {len(npz):,} npz files"
    require(sum(map(bool, (pictures, idx, npz))) <= 1 and len(npz) <= 1, "data_dir", data_dir, several)
    return pictures or [image for path in idx for image in _read_idx(path)] or [x for p in npz for x in _read_npz(p)]


def _files(root: Path) -> list[Path]:
    """All files in a folder and the folders in it, but hidden ones, in an order that is the same on every system."""

    def refuse(error: OSError) -> None:
        raise OptionError("data_dir", error.filename, f"a folder that can be read ({error.strerror})")

    found = []
    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found, key=str)


def _read_idx(path: Path) -> UInt8[np.ndarray, "n H W"]:
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        magic, *shape = np.frombuffer(data, ">u4", 4).tolist()
        images = np.frombuffer(data, np.uint8, offset=16).reshape(shape)
    except (OSError, EOFError, zlib.error, ValueError):
        magic, images = 0, np.empty((0, 0, 0), np.uint8)
    require(
        # The magic number of unsigned bytes with three axes.
        magic == 0x803 and images.size > 0,
        "data_dir",
        str(path),
        "a whole IDX file of images in bytes, or an npz file, or a folder of images",
    )
    return images


def _read_npz(path: Path) -> UInt8[np.ndarray, "n H W *channels"]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: array for name, array in arrays.items() if _holds_images(array)}
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        raise OptionError("data_dir", str(path), "a whole npz file, without Python objects in it") from None
    need = "one array (n, H, W) or (n, H, W, channels), of uint8 or of floats from 0 to 1"
    require(len(found) == 1, "data_dir", str(path), f"{need}; this file holds {len(found)}: {', '.join(found)}")
    (images,) = found.values()
    # Pillow knows no third axis of length one.
    images = images[..., 0] if images.shape[3:] == (1,) else images
    if images.dtype != np.uint8:
        require(bool(images.min() >= 0 and images.max() <= 1), "data_dir", str(path), f"{need}; these floats go beyond")
        images = np.rint(255 * images).astype(np.uint8)
    return images


def _holds_images(array: np.ndarray) -> bool:
    return (
        array.ndim >= 3
        and array.shape[3:] in ((), (1,), (3,), (4,))
        and array.size > 0
        and (array.dtype == np.uint8 or np.issubdtype(array.dtype, np.floating))
    )


def _fashion_mnist() -> list[Path]:
    """The files of Fashion-MNIST: those of the package installed, or in the user's cache, or fetched into it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "hierdiff", "fashion-mnist")
    try:
        for folder in (INSTALLED, cache):
            if all((folder / name).exists() for name in HASHES):
                return _checked(folder)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.parent, prefix=PARTIAL) as work:
            _call("apt-get", "download", PACKAGE, folder=work)
            _call("dpkg-deb", "-x", *(path.name for path in Path(work).glob("*.deb")), ".", folder=work)
            for path in _checked(Path(f"{work}{INSTALLED}")):
                path.replace(cache / path.name)
        return _checked(cache)
    except OSError as error:
        need = f"Fashion-MNIST, which cannot be fetched here ({error}); install Debian's package {PACKAGE}, or give"
        raise OptionError("data_dir", "nothing", f"{need} --data-dir a folder of images") from None


def _call(*command: str, folder: str) -> None:
    """Carry out a command; raise OSError with its last words if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{command[0]}: {' '.join(done.stderr.splitlines()[-1:])}")


def _checked(folder: Path) -> list[Path]:
    """The files of images in `folder`, if they are what they should be."""
    for name, expected in HASHES.items():
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        require(
            digest == expected,
            "data_dir",
            str(folder / name),
            f"the file of Debian's package {PACKAGE}, of SHA-256 {expected[:12]}...; this one has {digest[:12]}...",
        )
    return [folder / name for name in HASHES]
