"""Pixels of more than 8 bits in every form, photographs on their side, and what cannot be read and why."""

import os
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from test_images import COLOURS, NOISE, SIDE, draw, pixels, rows, save

from hierdiff.errors import OptionError
from hierdiff.worlds import pixels as of_one
from hierdiff.worlds.pixels import UnreadableError, read_pixels

# Ten bits, of which not all values are used, in grey, colours, and with transparency.
GREY = np.random.default_rng(2).integers(37, 1001, (12, SIDE, SIDE))
COLOUR = np.random.default_rng(3).integers(37, 1001, (12, SIDE, SIDE, 4))
LOW = GREY.min()


def png(values):
    """Of 16 bits: Pillow writes none in colour."""
    height, width, *channels = values.shape
    kind = {(): 0, (2,): 4, (3,): 2, (4,): 6}[tuple(channels)]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def tiff(values, *, compressed, photometric=1):
    """In the byte order of the values; their sign and whether they are floats is said as TIFF says it."""
    order = ">" if values.dtype.str[0] == ">" else "<"
    height, width, *channels = values.shape
    data = zlib.compress(values.tobytes()) if compressed else values.tobytes()
    count = channels[0] if channels else 1
    tags = {256: width, 257: height, 258: 8 * values.itemsize, 259: 8 if compressed else 1}
    tags |= {262: 2 if channels else photometric, 273: 0, 277: count, 278: height, 279: len(data)}
    tags |= {338: 2} if count == 4 else {}
    tags |= {339: {"u": 1, "i": 2, "f": 3}[values.dtype.kind]}
    # One value for each channel, behind the table of tags.
    behind = 8 + 2 + 12 * len(tags) + 4
    tags[273] = behind + 4 * count
    table = b""
    for tag, value in tags.items():
        each = tag in (258, 339) and channels
        entry = (tag, 3, count, behind + (2 * count if tag == 339 else 0)) if each else (tag, 4, 1, value)
        table += struct.pack(f"{order}HHII", *entry)
    head = struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", len(tags)) + table + bytes(4)
    more = struct.pack(f"{order}{2 * count}H", *count * [tags[258]], *count * [tags[339]])
    return (b"II" if order == "<" else b"MM") + head + more + data


def of_pillow(ending):
    def write(path, values):
        Image.fromarray(values).save(path.with_suffix(ending))

    return write


def as_tiff(kind, *, compressed, low=0):
    def write(path, values):
        path.with_suffix(".tif").write_bytes(tiff((values + low).astype(kind), compressed=compressed))

    return write


FORMS = {
    "png": lambda path, values: of_pillow(".png")(path, values.astype(np.uint16)),
    "tiff": lambda path, values: of_pillow(".tif")(path, values.astype(np.uint16)),
    "float tiff": lambda path, values: of_pillow(".tif")(path, (values / 1024).astype(np.float32)),
    "pfm": lambda path, values: of_pillow(".pfm")(path, (values - 500).astype(np.float32)),
    "pgm of 16 bits": lambda path, values: path.with_suffix(".pgm").write_bytes(
        b"P5 %d %d 65535\n" % (SIDE, SIDE) + values.astype(">u2").tobytes()
    ),
    "pgm in words": lambda path, values: path.with_suffix(".pgm").write_text(
        f"P2 {SIDE} {SIDE} 65535 {' '.join(map(str, values.ravel()))}"
    ),
    **{
        f"tiff of {kind}{', compressed' * compressed}": as_tiff(kind, compressed=compressed, low=low)
        for kind, low in {
            "<i2": -500,
            ">i2": -500,
            "<u2": 0,
            ">u2": 0,
            "<i4": -500,
            ">i4": -500,
            "<u4": 3_000_000_000,
            "<f4": -500,
            ">f4": -500,
        }.items()
        for compressed in (False, True)
    },
}
FORMS_IN_COLOUR = {
    "png": lambda path, values: path.with_suffix(".png").write_bytes(png(values[..., :3])),
    "transparent png": lambda path, values: path.with_suffix(".png").write_bytes(png(values)),
    "ppm": lambda path, values: path.with_suffix(".ppm").write_bytes(
        b"P6 %d %d 65535\n" % (SIDE, SIDE) + values[..., :3].astype(">u2").tobytes()
    ),
    **{
        f"tiff of {kind}{', compressed' * compressed}": as_tiff(kind, compressed=compressed)
        for kind in ("<u2", ">u2")
        for compressed in (False, True)
    },
}


def scaled(values):
    return np.rint(255 * ((values - values.min()) / (values.max() - values.min()))).astype(np.uint8)


def some_of(folder, write, values, **options):
    """Four of twelve images, and what is said of them."""
    for number, image in enumerate(values):
        write(folder / str(number), image)
    return draw(folder, sets=1, size=3, held_out=1, **options)


@pytest.mark.parametrize("form", FORMS)
def test_a_small_range_of_many_bits_is_scaled_by_that_of_all_images_and_said(form, tmp_path):
    drawn = some_of(tmp_path, FORMS[form], GREY)
    assert set(rows(drawn)) < {image.tobytes() for image in scaled(GREY)}
    assert re.search(r"; \w+ of .*: values .* to .* over all of them are black to white$", drawn.read_as)
    if form in ("png", "tiff"):
        assert f"of 16 bits: values {LOW} to 1,000 over all" in drawn.read_as


@pytest.mark.parametrize("form", FORMS_IN_COLOUR)
def test_colours_of_sixteen_bits_keep_all_of_them(form, tmp_path):
    drawn = some_of(tmp_path, FORMS_IN_COLOUR[form], COLOUR, colour=True)
    assert set(rows(drawn)) < {image.tobytes() for image in scaled(COLOUR[..., :3])}
    assert "of 16 bits a channel: values 37 to 1,000 over all" in drawn.read_as


def test_grey_of_sixteen_bits_with_transparency(tmp_path):
    drawn = some_of(tmp_path, FORMS_IN_COLOUR["transparent png"], COLOUR[..., :2])
    assert set(rows(drawn)) < {image.tobytes() for image in scaled(COLOUR[..., 0])}


def test_a_tiff_in_which_zero_is_white(tmp_path):
    def write(path, values):
        path.with_suffix(".tif").write_bytes(tiff(values.astype("<u2"), compressed=False, photometric=0))

    assert set(rows(some_of(tmp_path, write, GREY))) < {image.tobytes() for image in 255 - scaled(GREY)}


def test_bytes_are_not_scaled_beside_deep_images_but_how_far_they_go_is_said(tmp_path):
    save(tmp_path, NOISE[:6] // 8)
    Image.fromarray(np.array([[0, 300], [1000, 300]], np.uint16)).save(tmp_path / "deep.png")
    drawn = draw(tmp_path, sets=1, size=5, held_out=2, side=2)
    # The field of 300 is at 76.5.
    assert np.array([[0, 76], [255, 76]], np.uint8).tobytes() in rows(drawn)
    assert pixels(drawn).max(axis=(1, 2, 3)).tolist().count(255) == 1
    (tmp_path / "deep.png").unlink()
    assert "of levels 0 to 31 of 255" in draw(tmp_path, sets=1, size=5, held_out=1).read_as


def test_pixels_that_are_not_finite_leave_an_image_out(tmp_path):
    values = (GREY / 1024).astype(np.float32)
    values[3, 0, 0] = np.nan
    for number, image in enumerate(values):
        of_pillow(".tif")(tmp_path / str(number), image)
    drawn = draw(tmp_path, size=4, held_out=3)
    assert set(rows(drawn)) == {image.tobytes() for image in scaled(np.delete(GREY, 3, 0))}
    np.savez(tmp_path / "x.npz", values)
    of_array = draw(tmp_path / "x.npz", size=4, held_out=3)
    assert set(rows(of_array)) == set(rows(drawn))
    with pytest.raises(OptionError, match=r"1 with pixels that are not finite \(number 3\)"):
        draw(tmp_path / "x.npz")


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_every_mode_of_pillow_is_made_colours(mode, tmp_path):
    plain = Image.fromarray(COLOURS[0, ..., :3])
    if mode == "1":
        plain = plain.convert("1")
    stored = plain if mode == "LAB" else plain.convert(mode)
    expected = np.asarray(stored.convert("RGB"))
    if mode == "LAB":
        cms = pytest.importorskip("PIL.ImageCms")
        to_lab = cms.createProfile("sRGB"), cms.createProfile("LAB")
        stored = cms.profileToProfile(plain, *to_lab, outputMode="LAB")
        expected = np.asarray(stored.convert("RGB"))
    stored.save(tmp_path / "x.tif")
    found = read_pixels(tmp_path / "x.tif").square
    grey = np.repeat(found[..., None], 3, -1) if found.ndim == 2 else found
    np.testing.assert_array_equal(grey, np.asarray(stored.convert("L").convert("RGB")) if mode == "LA" else expected)


@pytest.mark.parametrize("ending", ["gif", "tif", "png"])
def test_the_first_of_several_pages_or_frames_is_read_and_that_is_said(ending, tmp_path):
    for number, image in enumerate(NOISE):
        frames = [Image.fromarray(each) for each in (image, 255 - image)]
        frames[0].save(tmp_path / f"{number}.{ending}", save_all=True, append_images=frames[1:])
    drawn = draw(tmp_path)
    assert sorted(rows(drawn)) == sorted(image.tobytes() for image in NOISE)
    assert "files of several pages or frames, of which the first is read: 12" in drawn.read_as


def exif(*entries):
    """Notes of a camera: tags with their type, number of values and bytes."""
    table = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)


LYING = (0x0112, 3, 1, struct.pack("<H", 6))


@pytest.mark.parametrize(
    ("notes", "turned"),
    [
        (exif(LYING), True),
        # An exposure time that is text, a maker that is a number, and a double cut off.
        (exif((0x010F, 3, 1, b"\1"), (0x0110, 12, 1, b""), LYING, (0x011A, 2, 4, b"1/1")), True),
        (exif((0x0100, 9, 1, struct.pack("<i", -5)), (0x0102, 8, 1, struct.pack("<h", -5)), LYING), True),
        (exif((0x0101, 5, 1, bytes(4)), LYING), True),
        (exif(LYING, (0x8825, 4, 1, struct.pack("<I", 99999))), True),
        (exif((0x0112, 3, 1, struct.pack("<H", 99))), False),
        (exif((0x0112, 2, 4, b"abc")), False),
        (exif((0x0112, 7, 1, b"\6")), False),
        (exif(LYING)[:15], False),
        (b"Exif\0\0nothing that could be parsed", False),
        (b"Exif\0\0", False),
    ],
)
def test_notes_of_a_camera_that_are_damaged_do_not_drop_a_photograph(notes, turned, tmp_path):
    plain = Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE))
    plain.save(tmp_path / "plain.jpg", quality=95)
    plain.save(tmp_path / "x.jpg", quality=95, exif=notes)
    lying = np.asarray(Image.open(tmp_path / "plain.jpg"))
    expected = lying.T[:, ::-1] if turned else lying
    np.testing.assert_array_equal(read_pixels(tmp_path / "x.jpg").square, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "tif", "png"])
def test_photographs_in_every_position(orientation, ending, tmp_path):
    notes = Image.Exif()
    notes[0x0112] = orientation
    Image.fromarray(NOISE[0]).save(tmp_path / f"x.{ending}", exif=notes)
    with Image.open(tmp_path / f"x.{ending}") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_pixels(tmp_path / f"x.{ending}").square, expected)


def test_why_an_image_is_left_out(tmp_path, monkeypatch):
    save(tmp_path, NOISE[:2])
    whole = (tmp_path / "0.png").read_bytes()
    names = {
        "truncated or damaged": ["half.png"],
        "empty or of no type that Pillow reads": ["empty.png", "text.jpg"],
        "of more than 98 pixels, Pillow's limit": ["large.png"],
        "no such file or directory": ["nowhere.png"],
        "too many levels of symbolic links": ["round.png"],
        "permission denied": ["secret.png"],
    }
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    Image.new("L", (10, 10)).save(tmp_path / "large.png")
    (tmp_path / "nowhere.png").symlink_to("nothing")
    (tmp_path / "round.png").symlink_to("round.png")
    (tmp_path / "secret.png").write_bytes(whole)
    real = of_one.Image.open

    def opened(path):
        if path.name == "secret.png":
            raise PermissionError(13, os.strerror(13))
        return real(path)

    monkeypatch.setattr(of_one.Image, "open", opened)
    monkeypatch.setattr(of_one.Image, "MAX_IMAGE_PIXELS", 49)
    for reason, files in names.items():
        for name in files:
            with pytest.raises(UnreadableError, match=f"^{reason}$"):
                read_pixels(tmp_path / name)
    with pytest.raises(OptionError) as error:
        draw(tmp_path, sets=1, size=2, held_out=1)
    said = str(error.value)
    assert "\n" not in said
    for reason, files in names.items():
        assert f"{len(files)} {reason} (" in said
        assert all(str(tmp_path / name) in said for name in files)


def test_no_memory_is_no_reason_to_leave_an_image_out(tmp_path, monkeypatch):
    save(tmp_path, NOISE)

    def full(path):
        raise MemoryError

    monkeypatch.setattr(of_one.Image, "open", full)
    with pytest.raises(MemoryError):
        draw(tmp_path)
