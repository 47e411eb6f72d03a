"""Images: every form in which they come, cut and resized as said, grey or in colour, in sets that share none."""

import gzip
import hashlib
import os
import pwd
import re
import struct
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hierdiff.errors import OptionError
from hierdiff.worlds import image_files as images
from hierdiff.worlds.image_files import draw_images
from hierdiff.worlds.run_config import ImageConfig

SIDE = 8
# Images that differ, of the size asked for: they come out as they are.
NOISE = np.random.default_rng(0).integers(0, 256, (12, SIDE, SIDE), dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (12, SIDE, SIDE, 4), dtype=np.uint8)
# Two boards of 2 x 2 pixels a field, in two colours that are the same grey.
FIELDS = np.stack([(np.add(*np.indices((SIDE, SIDE)) // 2) + first).astype(np.uint8) % 2 for first in (0, 1)])
RED_AND_GREEN, GREY = np.array([(200, 0, 0), (0, 102, 0)], np.uint8), 60


def draw(place, seed=(0,), *, side=SIDE, colour=False, sets=2, size=4, held_out=4):
    config = ImageConfig(data_dir=str(place), side=side, colour=colour)
    return draw_images(config, seed, sets=sets, size=size, held_out=held_out)


def pixels(drawn):
    """All images of all sets, from 0 to 255."""
    together = np.concatenate([*drawn.train, drawn.held_out])
    return np.rint((together + 1) * 127.5).astype(np.uint8)


def rows(drawn):
    return [image.tobytes() for image in pixels(drawn)]


def two(place, *, side=SIDE, colour=False):
    """The images of a source of two, darker first."""
    return sorted(pixels(draw(place, side=side, colour=colour, sets=1, size=1, held_out=1)), key=np.sum)


def idx(array):
    return struct.pack(">4B3I", 0, 0, 8, 3, *array.shape) + array.tobytes()


def save(folder, arrays, ending="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{i}.{ending}")


def nested(folder):
    save(folder / "a" / "b", NOISE[:5])
    save(folder / "c", np.repeat(NOISE[5:, :, :, None], 3, 3), "PPM")
    save(folder / ".thumbnails", NOISE // 2)
    (folder / "c" / "list.txt").write_text("0.PPM 1")
    (folder / "c" / "._0.PPM").write_bytes(b"left by another system")


def idx_files(folder):
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(NOISE[:7])))
    (folder / "train-images-idx3-ubyte").write_bytes(idx(NOISE[:7]))
    (folder / "t10k-images.idx3-ubyte").write_bytes(idx(NOISE[7:]))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"labels are not read")


SOURCES = {
    "nested": nested,
    "idx folder": idx_files,
    "images.idx": lambda path: path.write_bytes(idx(NOISE)),
    "images.gz": lambda path: path.write_bytes(gzip.compress(idx(NOISE))),
    "bytes.npz": lambda path: np.savez(path, images=NOISE, labels=np.arange(12)),
    "floats.npz": lambda path: np.savez_compressed(path, (NOISE[..., None] - 0.4).clip(0) / 255),
    "npz folder": lambda path: (path.mkdir(), np.savez(path / "colour.npz", np.repeat(NOISE[..., None], 3, -1))),
}


@pytest.mark.parametrize(("colour", "channels"), [(False, 1), (True, 3)])
@pytest.mark.parametrize("name", SOURCES)
def test_every_form_of_a_source_gives_each_image_once(name, colour, channels, tmp_path):
    """In colour, grey is three equal channels."""
    SOURCES[name](tmp_path / name)
    drawn = draw(tmp_path / name, colour=colour)
    assert (drawn.train.shape, drawn.held_out.shape) == ((2, 4, SIDE, SIDE, channels), (4, SIDE, SIDE, channels))
    assert drawn.train.dtype == drawn.held_out.dtype == np.float32
    assert (drawn.train.min(), drawn.train.max()) == (-1, 1)
    assert sorted(rows(drawn)) == sorted(image.repeat(channels).tobytes() for image in NOISE)
    assert (drawn.duplicates, drawn.unreadable) == (0, 0)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("folder", lambda path: save(path, COLOURS[..., :3])),
        ("transparent", lambda path: save(path, COLOURS)),
        ("bytes.npz", lambda path: np.savez(path, COLOURS[..., :3])),
        ("transparent.npz", lambda path: np.savez(path, COLOURS / 255)),
    ],
)
def test_colours_are_kept_and_transparency_is_ignored(name, write, tmp_path):
    write(tmp_path / name)
    assert sorted(rows(draw(tmp_path / name, colour=True))) == sorted(x.tobytes() for x in COLOURS[..., :3])


def boards(folder):
    save(folder, np.pad(RED_AND_GREEN[FIELDS], ((0, 0), (0, 0), (4, 4), (0, 0)), constant_values=255))


def palettes(folder, images=FIELDS):
    """Green is marked as transparent."""
    folder.mkdir()
    for number, fields in enumerate(images):
        image = Image.fromarray(fields)
        image.putpalette(RED_AND_GREEN.tobytes())
        image.save(folder / f"{number}.png", transparency=1)


@pytest.mark.parametrize("write", [boards, palettes])
def test_what_only_colours_tell_apart_is_lost_in_grey(write, tmp_path):
    write(tmp_path / "pictures")
    Image.new("L", (SIDE, SIDE), 255).save(tmp_path / "pictures" / "white.png")
    *coloured, white = sorted(pixels(draw(tmp_path, colour=True, sets=1, size=2, held_out=1)), key=np.sum)
    assert sorted(x.tobytes() for x in coloured) == sorted(x.tobytes() for x in RED_AND_GREEN[FIELDS])
    assert (white == 255).all()
    grey, white = two(tmp_path)
    assert (grey == GREY).all()
    assert (white == 255).all()
    with pytest.raises(OptionError, match="at least 3 different images; this has 2, besides 1 that repeat others"):
        draw(tmp_path, sets=1, size=2, held_out=1)


def test_a_centred_square_is_cut_out_made_grey_and_averaged(tmp_path):
    """Around both squares is green, of which nothing must be left."""
    wide, tall = np.full((64, 105, 3), (0, 255, 0), np.uint8), np.full((105, 64, 3), (0, 255, 0), np.uint8)
    wide[:, 20:84] = 200, 0, 0
    tall[20:84] = 2 * np.arange(64)[:, None, None]
    save(tmp_path, [wide, tall])
    red, slope = two(tmp_path, side=16)
    assert (red == round(0.299 * 200)).all()
    # The mean of pixels 4k to 4k + 3 of a slope of 2; at the edges the filter reaches beyond the image.
    assert (slope[..., 0].T[:, 3:-3] == 8 * np.arange(3, 13) + 3).all()


def test_fine_stripes_become_grey_from_28_to_16_too(tmp_path):
    stripes = np.full((28, 28), 255, np.uint8)
    stripes[:, ::2] = 0
    save(tmp_path, [stripes, np.full((28, 28), 255, np.uint8)], "jpg")
    grey, white = two(tmp_path, side=16)
    assert np.abs(grey[:, 3:-3] - 127.5).max() < 4
    assert (white == 255).all()


def test_fine_stripes_of_a_palette_become_the_mean_of_the_two_colours(tmp_path):
    stripes = np.zeros((28, 28), np.uint8)
    stripes[:, ::2] = 1
    palettes(tmp_path / "stripes", np.stack([stripes, np.ones_like(stripes)]))
    green, mixed = two(tmp_path, side=16, colour=True)
    assert np.abs(mixed[:, 3:-3] - RED_AND_GREEN.mean(0)).max() < 4
    assert (green == RED_AND_GREEN[1]).all()


def test_a_seed_names_the_sets_whatever_the_order_of_the_files(tmp_path, monkeypatch):
    save(tmp_path, NOISE)
    first, other = draw(tmp_path), draw(tmp_path, (0, 1))
    walk = images.os.walk
    monkeypatch.setattr(images.os, "walk", lambda *a, **k: ((x, y, z[::-1]) for x, y, z in walk(*a, **k)))
    assert rows(draw(tmp_path)) == rows(first) != rows(other)


def test_equal_images_are_drawn_once_and_counted(tmp_path):
    """These are equal only when cut."""
    save(tmp_path / "a", NOISE)
    save(tmp_path / "b", np.pad(NOISE, ((0, 0), (0, 0), (4, 4)), constant_values=9))
    drawn = draw(tmp_path, size=3, held_out=5)
    assert len(set(rows(drawn))) == 11
    assert 0 < drawn.duplicates <= 12
    with pytest.raises(OptionError, match="at least 13 different images; this has 12, besides 12 that repeat others"):
        draw(tmp_path, held_out=5)


def test_no_more_files_are_read_than_needed(tmp_path, monkeypatch):
    save(tmp_path, NOISE)
    read, real = [], Image.open
    monkeypatch.setattr(images.Image, "open", lambda path: read.append(path) or real(path))
    draw(tmp_path, sets=1, size=2, held_out=1)
    assert len(set(read)) == len(read) == 3


def test_unreadable_images_are_replaced_named_and_counted(tmp_path):
    save(tmp_path, NOISE)
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    drawn = next(x for x in (draw(tmp_path, (seed,), held_out=3) for seed in range(99)) if x.unreadable == 2)
    assert set(rows(drawn)) == {image.tobytes() for image in NOISE[1:]}
    assert f"1 truncated or damaged ({tmp_path}/0.png)" in drawn.left_out
    assert f"1 empty or of no type that Pillow reads ({tmp_path}/text.jpg)" in drawn.left_out
    few = r"at least 12 different images; this has 11, .* and 1 .*, 1 .* that cannot be read"
    with pytest.raises(OptionError, match=few):
        draw(tmp_path)


@pytest.mark.skipif(sys.platform == "darwin", reason="names there are UTF-8")
def test_names_of_every_kind_are_read_and_can_be_printed(tmp_path):
    save(tmp_path, NOISE)
    folder = os.fsencode(tmp_path)
    for number, name in enumerate(
        (b"\xff\xfe.png", "\u00fc \u4e2d.png".encode(), b"a:b.png", b"a\nb.PNG", b"[*]?.png")
    ):
        (tmp_path / f"{number}.png").rename(os.fsdecode(folder + b"/" + name))
    assert sorted(rows(draw(tmp_path))) == sorted(image.tobytes() for image in NOISE)
    Path(os.fsdecode(folder + b"/\xff\ntext.png")).write_text("not an image")
    with pytest.raises(OptionError, match=r"1 empty or of no .*\\udcff\\ntext.png"):
        draw(tmp_path, held_out=5)


def test_only_pictures_in_pixels_count_in_a_folder(tmp_path):
    """Pillow knows some of the other endings, of what it writes, or passes on to others."""
    save(tmp_path, NOISE)
    others = ("README.pdf", "labels.h5", "data.hdf", "film.mpg", "film.mp4", "plot.eps", "Thumbs.db", "notes")
    for name in (*others, ".DS_Store", "._0.png"):
        (tmp_path / name).write_bytes(b"something else")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    drawn = draw(tmp_path)
    assert (drawn.unreadable, len(set(rows(drawn)))) == (0, 12)
    assert "files of other kinds passed over: 8 (" in drawn.read_as
    with pytest.raises(OptionError, match="at least 13 images; this has 12; files of other kinds passed over: 8"):
        draw(tmp_path, held_out=5)


def test_links_are_followed_and_nothing_counts_twice(tmp_path):
    data = tmp_path / "data"
    save(data / "real", NOISE[:6])
    save(tmp_path / "outside", NOISE[6:])
    for name in ("a", "z"):
        (data / name).symlink_to(tmp_path / "outside")
    (data / "real" / "round").symlink_to(data)
    (data / "real" / "itself").symlink_to("itself")
    (data / "hard.png").hardlink_to(data / "real" / "0.png")
    (data / "soft.png").symlink_to("real/1.png")
    (tmp_path / "link").symlink_to(data)
    for place in (data, tmp_path / "link"):
        drawn = draw(place)
        assert sorted(rows(drawn)) == sorted(image.tobytes() for image in NOISE)
        with pytest.raises(OptionError, match=r"at least 13 images; this has 12; files of other kinds passed over: 1 "):
            draw(place, held_out=5)
    assert rows(draw(data)) == rows(drawn)


ARRAYS = {
    "big-endian": NOISE.astype(">i8"),
    "from 0 to 1": NOISE / 255,
    "half": (NOISE / 255).astype(np.float16),
    "from -1 to 1": NOISE / 127.5 - 1,
    "twelve bits": NOISE.astype(np.uint16) * 16 + 3,
    "channels first": np.repeat(NOISE[:, None], 3, 1),
    "one channel first": NOISE[:, None],
    "columns first": np.asfortranarray(NOISE),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_any_numbers_are_scaled_by_their_range(name, tmp_path):
    np.savez(tmp_path / "x.npz", ARRAYS[name])
    drawn = draw(tmp_path / "x.npz")
    assert sorted(rows(drawn)) == sorted(image.tobytes() for image in NOISE)
    words = "taken as (n, channels, H, W)" if "channel" in name else "array: values "
    assert (words in drawn.read_as) == (name != "columns first")


def test_arrays_of_yes_and_no_are_black_and_white(tmp_path):
    np.savez(tmp_path / "x.npz", NOISE > 127)
    assert sorted(rows(draw(tmp_path / "x.npz"))) == sorted(
        (255 * (image > 127)).astype(np.uint8).tobytes() for image in NOISE
    )


def test_one_array_of_several_can_be_named(tmp_path):
    labels = np.arange(12)[:, None]
    np.savez(tmp_path / "a:b.npz", **{"x_train": NOISE, "x:test/1": 255 - NOISE, "y_train": labels})
    for name, expected in {"x_train": NOISE, "x:test/1": 255 - NOISE}.items():
        drawn = draw(f"{tmp_path}/a:b.npz:{name}")
        assert sorted(rows(drawn)) == sorted(image.tobytes() for image in expected)
    for name in ("", ":", ":y_train", ":x_trian"):
        with pytest.raises(OptionError) as error:
            draw(f"{tmp_path}/a:b.npz{name}")
        for words in (
            "x_train: uint8 (12, 8, 8), x:test/1: uint8 (12, 8, 8), y_train: int64 (12, 1)",
            f"name one as in {tmp_path}/a:b.npz:x_train",
        ):
            assert words in str(error.value)
    for place in (
        f"{tmp_path}/none.npz:x_train",
        f"{tmp_path}:x_train",
        ":",
        ":x",
        "a\0b",
        300 * "a",
    ):
        with pytest.raises(OptionError, match="needs a folder or a file that exists"):
            draw(place)
    with pytest.raises(OptionError, match="needs the name of a user"):
        draw("~nobody at all")


def zipped(path):
    """Images under a name that promises arrays."""
    with zipfile.ZipFile(path, "w") as file:
        for number in range(12):
            file.writestr(f"{number}.png", b"an image")


def damaged(path, offset, content):
    np.savez(path, NOISE)
    whole = path.read_bytes()
    path.write_bytes(whole[:offset] + content + whole[offset + len(content) :])


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("absent", lambda path: None, "a folder or a file that exists"),
        ("empty", lambda path: path.mkdir(), "at least 12 images; this has 0"),
        ("few", lambda path: save(path, NOISE[:5]), "at least 12 images; this has 5"),
        ("both", lambda path: (save(path, NOISE), np.savez(path / "x.npz", NOISE)), "12 image, 0 IDX and 1 npz files"),
        ("cut.idx", lambda path: path.write_bytes(idx(NOISE)[:-1]), "a whole IDX file"),
        ("head.idx", lambda path: path.write_bytes(idx(NOISE)[:9]), "a whole IDX file"),
        ("labels.idx", lambda path: path.write_bytes(b"\0\0\x08\x01" + idx(NOISE)[4:]), "a whole IDX file"),
        ("cut.gz", lambda path: path.write_bytes(gzip.compress(idx(NOISE))[:-9]), "a whole IDX file"),
        ("two.npz", lambda path: np.savez(path, x=NOISE, y=NOISE), "one array .* x: uint8 .* y: uint8 .*; name one as"),
        ("text.npz", lambda path: np.savez(path, x=np.array(["a"])), r"one array .*; this file holds x: <U1 \(1,\)$"),
        ("none.npz", lambda path: np.savez(path, x=NOISE[:0]), r"one array .* holds x: uint8 \(0, 8, 8\)$"),
        ("flat.npz", lambda path: np.savez(path, x=NOISE.reshape(12, -1)), r"one array .* holds x: uint8 \(12, 64\)$"),
        ("one.npz", lambda path: np.savez(path, x=COLOURS[0, ..., :3]), r"one array .* holds x: uint8 \(8, 8, 3\)$"),
        ("solid.npz", lambda path: np.savez(path, x=np.zeros((12, 8, 8, 8))), r"one array .* float64 \(12, 8, 8, 8\)$"),
        ("each.npz", lambda path: np.savez(path, *20 * [NOISE[0]]), r"arr_11: uint8 \(8, 8\) and 8 others$"),
        ("equal.npz", lambda path: np.savez(path, np.full((12, 8, 8), 3.0)), "this has 1, besides 11 that repeat"),
        ("nan.npz", lambda path: np.savez(path, NOISE * np.nan), "12 with pixels that are not finite"),
        (
            "objects.npz",
            lambda path: np.savez(path, np.array([{}], object)),
            r"one array .* holds arr_0: object \(1,\)$",
        ),
        ("images.npz", zipped, "this is a zip file of 12 other files: unpack it, and give its folder"),
        ("images.zip", zipped, "this is a zip file of 12 other files: unpack it, and give its folder"),
        ("head.npz", lambda path: damaged(path, 60, b"{{{{"), "a whole npz file"),
        ("body.npz", lambda path: damaged(path, 300, bytes(9)), "a whole npz file"),
        ("empty.npz", lambda path: path.touch(), "a whole IDX file of images in bytes or a whole npz file"),
        ("image.png", lambda path: Image.fromarray(NOISE[0]).save(path), "or a folder of images"),
        ("pipe", os.mkfifo, "a folder or a file that exists"),
    ],
)
def test_a_source_that_will_not_do_is_named(name, write, words, tmp_path):
    write(tmp_path / name)
    with pytest.raises(OptionError, match=f"data_dir: got '.*{re.escape(name)}', needs .*{words}"):
        draw(tmp_path / name)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without Fashion-MNIST, whose package manager makes a small one of the folder `package`."""
    idx_files(package := tmp_path / "package")
    (package / "t10k-images.idx3-ubyte").rename(package / "t10k-images-idx3-ubyte.gz")
    names = ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz")
    hashes = {name: hashlib.sha256((package / name).read_bytes()).hexdigest() for name in names}
    monkeypatch.setattr(images, "HASHES", hashes)
    monkeypatch.setattr(images, "INSTALLED", installed := tmp_path / "usr/share/datasets/fashion-mnist")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    program(tmp_path, "apt-get", '[ "$*" = "download dataset-fashion-mnist" ] && echo > dataset_1_all.deb')
    program(
        tmp_path,
        "dpkg-deb",
        f'[ "$*" = "-x dataset_1_all.deb ." ] && /bin/mkdir -p .{installed} && /bin/cp {package}/* .{installed}',
    )
    return tmp_path


def test_a_user_without_a_home_has_a_cache_for_a_while(machine, monkeypatch):
    """Where the machine does not know the user, and no variable names a folder."""

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(machine))
    draw("")
    assert len(list((machine / "hierdiff" / "fashion-mnist").iterdir())) == 2


def program(machine, name, text):
    (machine / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
    (machine / "bin" / name).chmod(0o755)


def cached(machine):
    return sorted(path for path in (machine / "cache").rglob("*") if path.is_file())


def test_fashion_mnist_is_fetched_once_and_a_package_installed_comes_first(machine):
    fetched = rows(draw(""))
    assert sorted(fetched) == sorted(image.tobytes() for image in NOISE)
    (machine / "bin" / "apt-get").unlink()
    assert rows(draw("")) == fetched
    test_file, training_file = cached(machine)
    training_file.write_bytes(test_file.read_bytes())
    with pytest.raises(OptionError, match=f"data_dir: got '{training_file}', needs .* SHA-256"):
        draw("")
    (machine / "usr/share/datasets").mkdir(parents=True)
    (machine / "package").rename(machine / "usr/share/datasets/fashion-mnist")
    assert rows(draw("")) == fetched


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda machine: (machine / "bin/apt-get").unlink(), "'apt-get'.; install .* dataset-fashion-mnist, or give"),
        (lambda machine: program(machine, "apt-get", "echo E: no net >&2; exit 100"), "apt-get: E: no net.; install"),
        (lambda machine: program(machine, "dpkg-deb", "exit 0"), "train-images-idx3-ubyte.gz'.; install"),
        (lambda machine: (machine / "cache").write_text("no folder"), "cache/hierdiff.*; install"),
        (lambda machine: (machine / "package/t10k-images-idx3-ubyte.gz").write_text("x"), "t10k-.*gz', needs .*SHA"),
    ],
)
def test_fashion_mnist_that_cannot_be_had_leaves_nothing_behind(change, words, machine):
    change(machine)
    with pytest.raises(OptionError, match=words):
        draw("")
    assert not cached(machine)


def test_impossible_numbers_are_refused(tmp_path):
    with pytest.raises(OptionError, match="side: got 1, needs an integer from 2 to 1,024"):
        ImageConfig(side=1)
    with pytest.raises(OptionError, match="held_out: got 0, needs an integer of at least 1"):
        draw(tmp_path, held_out=0)
