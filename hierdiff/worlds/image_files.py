"""Images for the same measure on real data: small squares, grey or in colour, in disjoint sets."""

import contextlib
import dataclasses
import gzip
import hashlib
import math
import os
import stat
import struct
import subprocess
import tempfile
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import NoReturn
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from hierdiff.errors import OptionError, require
from hierdiff.runs.record import PARTIAL
from hierdiff.worlds.pixels import Pixels, UnreadableError, read_pixels
from hierdiff.worlds.run_config import ImageConfig

PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
# SHA-256 of the two files of images in version 0.0~git20200523.55506a9-1 of the package.
HASHES = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
}
# Endings of pictures in pixels: documents, drawings, films and data, which Pillow may know by name, are none.
NO_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
RASTER = {ending for ending, kind in Image.registered_extensions().items() if kind not in NO_PIXELS}
# The axes of images beside number, height and width.
CHANNELS = ((), (1,), (3,), (4,))
# Arrays of a file that a refusal names.
LISTED = 12
# What reading an IDX or an npz file raises that is damaged, encrypted or of another form.
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    SyntaxError,
    TokenError,
    BadZipFile,
    struct.error,
    zlib.error,
)


@dataclasses.dataclass(frozen=True)
class ImageSets:
    """Disjoint sets of images in [-1, 1], of one channel or three: no two images in all of them are equal.

    `duplicates` counts the images left out because they are equal to one drawn before, `unreadable` those that cannot
    be read, both among the images that were looked at; `left_out` says why they cannot be read, and `read_as` what was
    assumed of the pixels.
    """

    train: Float[np.ndarray, "sets P side side channels"]
    held_out: Float[np.ndarray, "n side side channels"]
    duplicates: int
    unreadable: int
    left_out: str
    read_as: str


def draw_images(config: ImageConfig, seed: int | Sequence[int], *, sets: int, size: int, held_out: int) -> ImageSets:
    """Draw `sets` training sets of `size` images and a held-out set, without replacement.

    The images are read in a random order that `seed` and the names of the files determine, until enough are there.

    From each image a centred square is cut out, made grey (ITU-R 601 luma) or red, green and blue, as the config says
    (transparency is ignored), and resized with a Lanczos filter, in 8 bits. A box filter would average now one, now two
    pixels where the sizes are no multiples of each other, as in 28 to 16, and so show patterns that are not in the
    image. What a file has in more than 8 bits is scaled first: the lowest value in all files of its kind becomes black,
    the highest white.

    Raises:
      ValueError: there are too few images, or a file is damaged or of another kind; the message says which.
    """
    for name, number in (("sets", sets), ("size", size), ("held_out", held_out)):
        require(number >= 1, name, number, "an integer of at least 1")
    source, needed = config.data_dir or "Fashion-MNIST", sets * size + held_out
    items, notes = _items(config.data_dir)
    has = "; ".join((f"this has {len(items):,}", *notes))
    require(len(items) >= needed, "data_dir", source, f"at least {needed:,} images; {has}")

    # Its keys are in the order in which they came.
    found: Counter[bytes] = Counter()
    ranges: dict[str, tuple[float, float]] = {}
    unreadable: dict[str, list[str]] = defaultdict(list)
    several = 0
    for index in np.random.default_rng(seed).permutation(len(items)):
        item = items[index]
        try:
            pixels = read_pixels(item)
        except UnreadableError as error:
            unreadable[str(error)].append(_shown(item) if isinstance(item, Path) else f"number {index}")
            continue
        if pixels.kind and pixels.kind not in ranges:
            ranges[pixels.kind] = _range(items, pixels.kind)
        found[_resized(_in_bytes(pixels, ranges), config)] += 1
        several += pixels.several
        if len(found) == needed:
            break
    duplicates, left_out = found.total() - len(found), _reasons(unreadable)
    need = f"at least {needed:,} different images; this has {len(found):,}, besides {duplicates:,} that repeat others"
    require(len(found) == needed, "data_dir", source, f"{need} and {left_out or 'none'} that cannot be read")
    images = np.frombuffer(b"".join(found), np.uint8).reshape(needed, config.side, config.side, config.channels)
    notes += [
        f"{kind}: values {low:,.10g} to {high:,.10g} over all of them are black to white"
        for kind, (low, high) in ranges.items()
    ]
    notes += [f"files of several pages or frames, of which the first is read: {several:,}"] if several else []
    low, high = np.percentile(images, (0.5, 99.5))
    images = images.astype(np.float32) / np.float32(127.5) - 1
    return ImageSets(
        train=images[: sets * size].reshape(sets, size, *images.shape[1:]),
        held_out=images[sets * size :],
        duplicates=duplicates,
        unreadable=sum(map(len, unreadable.values())),
        left_out=left_out,
        read_as="; ".join((f"99% of the pixels are of levels {low:.0f} to {high:.0f} of 255", *notes)),
    )


def _reasons(unreadable: Mapping[str, Sequence[str]]) -> str:
    """How many images were left out for each reason, with the names of some."""

    def named(names: Sequence[str]) -> str:
        return ", ".join(names[:3]) + (" and others" if names[3:] else "")

    return ", ".join(f"{len(names):,} {reason} ({named(names)})" for reason, names in unreadable.items())


def _shown(path: Path) -> str:
    """A name in letters that can be printed and recorded, whatever its bytes are."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(path))


def _range(items: Sequence[Path | np.ndarray], kind: str) -> tuple[float, float]:
    """The lowest and the highest value in all images of a kind."""
    low, high = math.inf, -math.inf
    for item in items:
        with contextlib.suppress(UnreadableError):
            pixels = read_pixels(item)
            if pixels.kind == kind:
                low, high = min(low, float(pixels.square.min())), max(high, float(pixels.square.max()))
    return low, high


def _in_bytes(pixels: Pixels, ranges: Mapping[str, tuple[float, float]]) -> UInt8[np.ndarray, "H H *channels"]:
    if not pixels.kind:
        return pixels.square
    low, high = ranges[pixels.kind]
    return np.rint(255 * ((pixels.square.astype(float) - low) / ((high - low) or 1))).astype(np.uint8)


def _resized(square: UInt8[np.ndarray, "H H *channels"], config: ImageConfig) -> bytes:
    """The rows of an image, with the channels and the side of `config`."""
    image = Image.fromarray(square).convert("RGB" if config.colour else "L")
    return image.resize((config.side, config.side), Image.Resampling.LANCZOS).tobytes()


def _items(data_dir: str) -> tuple[Sequence[Path | np.ndarray], list[str]]:
    """All images of a source, as files or as arrays (H, W) or (H, W, channels), and what there is to say of them.

    What a file in a folder is, its ending says; other files than images, IDX and npz are passed over. `FILE.npz:NAME`
    is one array of a file.
    """
    if not data_dir:
        return [image for path in _fashion_mnist() for image in _read_idx(path)], []
    root, name = _source(data_dir)
    if root.is_file():
        return _read_npz(root, name) if name or zipfile.is_zipfile(root) else (list(_read_idx(root)), [])
    files = _files(root)
    pictures = [path for path in files if path.suffix.lower() in RASTER]
    # Downloaders leave a file beside its compressed form: the same images.
    idx = list({str(path).removesuffix(".gz"): path for path in files if "idx3" in path.name}.values())
    npz = [path for path in files if path.suffix.lower() == ".npz"]
    several = (
        f"images of one kind; here are {len(pictures):,} image, {len(idx):,} IDX and {len(npz):,} npz files, of which "
        "a folder or a file can be named"
    )
    require(sum(map(bool, (pictures, idx, npz))) <= 1 and len(npz) <= 1, "data_dir", data_dir, several)
    if npz:
        return _read_npz(npz[0])
    other = Counter(path.suffix for path in files if path.suffix.lower() not in RASTER and "idx3" not in path.name)
    kinds = ", ".join(ending or "without an ending" for ending, _ in other.most_common(3))
    notes = [f"files of other kinds passed over: {other.total():,} ({kinds})"] if other else []
    return pictures or [image for path in idx for image in _read_idx(path)], notes


def _source(data_dir: str) -> tuple[Path, str]:
    """The folder or the file of a source and, of `FILE.npz:NAME`, the name of the array; other names may have colons.

    Raises:
      ValueError: there is none.
    """
    for end in [len(data_dir), *(place for place, letter in enumerate(data_dir) if letter == ":")]:
        # What the system cannot look for, a name too long or another's home, is not there.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            path = Path(data_dir[:end]).expanduser()
            if path.is_file() or (path.is_dir() and end == len(data_dir)):
                return path, data_dir[end + 1 :]
    raise OptionError("data_dir", data_dir, "a folder or a file that exists")


def _require_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise OptionError("data_dir", str(path), f"a file that can be read ({error.strerror})") from None


def _files(root: Path) -> list[Path]:
    """All files in a folder and the folders in it, but hidden ones, in an order that is the same on every system.

    Links are followed; what has several names is there once.
    """

    def refuse(error: OSError) -> None:
        raise OptionError("data_dir", error.filename, f"a folder that can be read ({error.strerror})")

    found, seen = {}, set()
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        here = Path(folder).stat()
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(folder, name) for name in sorted(names) if not name.startswith(".")):
            try:
                status = path.stat()
            # A link to nothing is said where it is read.
            except OSError:
                found[path] = path
                continue
            # Reading from a pipe might never end.
            if stat.S_ISREG(status.st_mode):
                found.setdefault((status.st_dev, status.st_ino), path)
    return sorted(found.values(), key=str)


def _read_idx(path: Path) -> UInt8[np.ndarray, "n H W"]:
    _require_readable(path)
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        magic, *shape = np.frombuffer(data, ">u4", 4).tolist()
        images = np.frombuffer(data, np.uint8, offset=16).reshape(shape)
    except UNREADABLE:
        magic, images = 0, np.empty((0, 0, 0), np.uint8)
    require(
        # The magic number of unsigned bytes with three axes.
        magic == 0x803 and images.size > 0,
        "data_dir",
        str(path),
        "a whole IDX file of images in bytes or a whole npz file, or a folder of images",
    )
    return images


def _read_npz(path: Path, name: str = "") -> tuple[list[np.ndarray], list[str]]:
    """The images in an npz file, in the array of that name or in the only one that holds any."""

    def refuse(need: str) -> NoReturn:
        raise OptionError("data_dir", str(path), need)

    _require_readable(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            forms = {each.removesuffix(".npy"): _form(archive, each) for each in names if each.endswith(".npy")}
    except UNREADABLE:
        refuse("a whole npz file")
    if not forms:
        refuse(
            f"an npz file of arrays; this is a zip file of {len(names):,} other files: unpack it, and give its folder"
        )
    listed = [f"{each}: {dtype} {shape}" for each, (dtype, shape) in forms.items()]
    more = f" and {len(listed) - LISTED:,} others" if len(listed) > LISTED else ""
    need = f"one array of images, (n, H, W) or (n, H, W, channels); this file holds {', '.join(listed[:LISTED])}{more}"
    fitting = [each for each, form in forms.items() if _holds_images(*form)]
    chosen = [name] if name else fitting
    if len(chosen) != 1 or chosen[0] not in fitting:
        refuse(need + (f"; name one as in {path}:{fitting[0]}" if fitting else ""))
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images = arrays[chosen[0]]
    except UNREADABLE:
        refuse("a whole npz file")
    first = images.shape[3:] not in CHANNELS
    return list(np.moveaxis(images, 1, -1) if first else images), ["taken as (n, channels, H, W)"] if first else []


def _form(archive: zipfile.ZipFile, name: str) -> tuple[np.dtype, tuple[int, ...]]:
    """The type and the shape of an array in a file."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        return dtype, shape


def _holds_images(dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    """Whether an array holds images: a narrow one of three axes is a single image in colour."""
    last = shape[3:] in CHANNELS and (len(shape) == 4 or (len(shape) == 3 and shape[2] > 4))
    first = len(shape) == 4 and shape[1:2] in CHANNELS
    return dtype.kind in "buif" and (last or first) and min(shape) > 0


def _fashion_mnist() -> list[Path]:
    """The files of Fashion-MNIST: those of the package installed, or in the user's cache, or fetched into it."""
    cache = _caches() / "hierdiff" / "fashion-mnist"
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


def _caches() -> Path:
    """Where programs keep what they can fetch again: a user without a home has the folder of temporary files."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return Path(tempfile.gettempdir())


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
