"""The pixels of one image, whatever form they come in, and why there are none."""

import math
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt16
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

# By the EXIF orientation, what brings a photograph upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow's words for how numbers are laid out in a file. What it has decompressed of a TIFF is in the order of the
# machine, but it takes these to be in that of the file.
SWAPPED = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"}
WHITE_IS_ZERO = 0


class Pixels(NamedTuple):
    """The centred square of an image, `(H, H)` or `(H, H, 3)`.

    Numbers other than bytes from 0 to 255 have a `kind`, in words: what is black and what is white, only all images
    of the kind can say. Of `several` pages or frames in a file this is the first.
    """

    square: np.ndarray
    kind: str = ""
    several: bool = False


class UnreadableError(Exception):
    """An image that has to be left out; the message is the reason, the same for all of a kind."""


def read_pixels(item: Path | np.ndarray) -> Pixels:
    """The pixels of a file, or of an array (H, W) or (H, W, channels); transparency is ignored.

    Raises:
      UnreadableError: there are none.
    """
    if isinstance(item, Path):
        try:
            # Pillow warns of notes that it cannot read.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pixels = _of_file(item)
        except MemoryError:
            raise
        # Given damaged bytes, the readers in Pillow raise exceptions of nearly every kind.
        except Exception as error:
            raise UnreadableError(_reason(error)) from None
    else:
        pixels = Pixels(item, "" if item.dtype == np.uint8 else f"{item.dtype.name} array")
    if not np.isfinite(pixels.square).all():
        raise UnreadableError("with pixels that are not finite")
    height, width, *channels = pixels.square.shape
    cut = min(height, width)
    top, left = (height - cut) // 2, (width - cut) // 2
    square = pixels.square[top : top + cut, left : left + cut]
    # Pillow knows no third axis of length one; a fourth channel is transparency.
    return pixels._replace(square=square[..., 0] if channels == [1] else square[..., :3] if channels else square)


def _reason(error: Exception) -> str:
    """Why a file cannot be read, in words that follow a number."""
    if isinstance(error, Image.DecompressionBombError):
        return f"of more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, Pillow's limit"
    if isinstance(error, UnidentifiedImageError):
        return "empty or of no type that Pillow reads"
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else "truncated or damaged"


def _of_file(path: Path) -> Pixels:
    with Image.open(path) as image:
        several = getattr(image, "is_animated", False)
        codec, _, offset, args = image.tile[0] if image.tile else ("", None, 0, "")
        rawmode, *more = [args] if isinstance(args, str) else args or [""]
        deep = f"{image.format} of 16 bits a channel"
        if image.mode in ("RGB", "RGBA") and ";16" in str(rawmode):
            return Pixels(_sixteen_bits(path, rawmode), deep, several)
        if image.mode == "RGB" and codec == "ppm" and int(more[0]) > 255:
            return Pixels(
                np.fromfile(path, ">u2", 3 * math.prod(image.size), offset=offset).reshape(*image.size[::-1], 3), deep
            )
        if codec == "libtiff" and rawmode in SWAPPED:
            _lay_out(image, SWAPPED[rawmode])
        upright = _upright(image)
        if not image.mode.startswith(("I", "F")):
            mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
            return Pixels(np.asarray(upright.convert(mode)), several=several)
        numbers = np.asarray(upright)
        # Pillow has no integers without a sign in 32 bits.
        numbers = numbers.view(np.uint32) if rawmode == "I;32N" else numbers
        tags = getattr(image, "tag_v2", {})
        numbers = ~numbers if tags.get(ExifTags.Base.PhotometricInterpretation) == WHITE_IS_ZERO else numbers
        kind = {"F": "floats", "I": "integers"}.get(image.mode, "16 bits")
        return Pixels(numbers, f"{image.format} of {kind}", several)


def _lay_out(image: ImageFile.ImageFile, rawmode: str) -> None:
    """Have the numbers of a file, not yet read, taken as laid out so."""
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *(tile.args or ())[1:]))
        for tile in image.tile
    ]


def _sixteen_bits(path: Path, rawmode: str) -> UInt16[np.ndarray, "H W *channels"]:
    """Colours, or grey and transparency, in 16 bits: Pillow gives the high byte of each number alone.

    Where it is told that the bytes are in the other order, it gives the low one.
    """

    def read(rawmode: str) -> np.ndarray:
        with Image.open(path) as image:
            _lay_out(image, rawmode)
            return np.asarray(_upright(image)).astype(np.uint16)

    # Of grey and transparency, Pillow knows one order only; here they are four bytes.
    if rawmode == "LA;16B":
        return 256 * (both := read("RGBA"))[..., 0] + both[..., 1]
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[rawmode[-1]]
    return 256 * read(rawmode) + read(rawmode[:-1] + other)


def _upright(image: Image.Image) -> Image.Image:
    """Cameras store photographs lying on their side, with a note that they are; nothing else that is noted is read."""
    image.load()
    try:
        orientation: Any = image.getexif().get(ExifTags.Base.Orientation)
    # A note that is damaged is none.
    except Exception:
        orientation = None
    turn = TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)
