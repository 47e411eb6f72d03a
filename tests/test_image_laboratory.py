"""The experiment on images: its measures against plain computations and planted networks, and the whole of it."""

import dataclasses
import itertools
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from runs import ask, same, save_often
from scipy.spatial.distance import cdist

from experiments.images import main
from hierdiff.learning.network import Network
from hierdiff.measures.nearest_images import cosine_distance, standardised, two_nearest
from hierdiff.measures.scales import scale_products, scales
from hierdiff.noising import Gaussian
from hierdiff.pictures import run as picture
from hierdiff.pictures.images import image_noise, image_scales, image_training
from hierdiff.pictures.records import IMAGES, SAMPLES, Records
from hierdiff.pictures.samples import image_samples, mosaic
from hierdiff.posterior import empirical_posterior, memorizer_of_numbers
from hierdiff.questions import QUESTIONS, samples, training
from hierdiff.runs import plan, record, run
from hierdiff.runs.laboratory import label, make_measure, statistics
from hierdiff.statistics import words
from hierdiff.statistics.story import Looked, summarise
from hierdiff.worlds.finished import Run
from hierdiff.worlds.images import Images
from hierdiff.worlds.run_config import ImageMeasureConfig, SamplesConfig

SIDE, SETS = 8, 3
MEASURE = ImageMeasureConfig(held_out=100, members=50, draws=2, noise=(0.1, 0.3), onset_noise=0.1)


def blobs(rng, n):
    """Smooth images in [-1, 1]."""
    coarse = rng.uniform(-1, 1, (n, 2, 2))
    return np.clip(coarse.repeat(4, 1).repeat(4, 2) + 0.1 * rng.standard_normal((n, SIDE, SIDE)), -1, 1)[..., None]


def wavelets(x):
    """The coefficients of the Haar wavelets of one channel, scale by scale, and at the last what is left."""
    if len(x) % 2:
        return [x]
    a, b, c, d = x[::2, ::2], x[::2, 1::2], x[1::2, ::2], x[1::2, 1::2]
    details = np.stack([a + b - c - d, a - b + c - d, a - b - c + d]) / 2
    return [details, *wavelets((a + b + c + d) / 2)]


def products(a, b):
    """`<a, b>` at each scale, of two images, channel by channel."""
    channels = zip(np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0), strict=True)
    return np.sum([[(x * y).sum() for x, y in zip(wavelets(a), wavelets(b), strict=True)] for a, b in channels], 0)


def test_scales_of_a_checkerboard_and_of_any_two_images():
    assert scales(SIDE) == [1, 2, 4, 8]
    assert scales(28) == [1, 2, 4]
    for i, scale in enumerate([1, 2, 4]):
        rows, columns = np.indices((SIDE, SIDE)) // scale
        board = jnp.asarray((-1.0) ** (rows + columns))[..., None]
        expected = np.zeros(4)
        expected[i] = SIDE**2
        np.testing.assert_allclose(scale_products(board, board), expected, atol=1e-5)
    for side, channels in ((SIDE, 1), (SIDE, 3), (28, 3)):
        images = np.random.default_rng(0).standard_normal((2, 5, side, side, channels)).astype(np.float32)
        expected = [products(*both) for both in zip(*images, strict=True)]
        a, b = jnp.asarray(images)
        found = scale_products(a, b)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(found.sum(-1), (a * b).sum((-1, -2, -3)), rtol=1e-4, atol=1e-3)
        # Each scale alone is orthogonal to the others: a constant is seen at the last.
        np.testing.assert_allclose(scale_products(a + 3, b)[:, :-1], found[:, :-1], atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_distances_between_images(channels):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 20, 4, 4, channels)).astype(np.float32)
    flat = a.reshape(20, -1), b.reshape(20, -1)
    np.testing.assert_allclose(
        cosine_distance(jnp.asarray(a), jnp.asarray(b)), np.diag(cdist(*flat, "cosine")), rtol=1e-4
    )
    number, distance = two_nearest(jnp.asarray(a), jnp.asarray(b))
    every = cdist(*flat)
    np.testing.assert_array_equal(number, np.argsort(every, 1)[:, :2])
    np.testing.assert_allclose(distance, np.sort(every, 1)[:, :2], rtol=1e-4)
    alike = np.asarray(standardised(jnp.asarray(a))).reshape(20, -1)
    np.testing.assert_allclose(alike.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(alike.std(1), 1, rtol=1e-5)
    assert (standardised(jnp.ones((4, 4, channels))) == 0).all()


def test_the_memorizer_of_one_hot_vectors_is_that_of_symbols():
    tokens = jax.random.randint(jax.random.key(0), (30, 4), 0, 3)
    x_t = jax.random.normal(jax.random.key(1), (20, 4, 3))
    # From 0.95 to 0.05 of the signal's variance.
    process, t = Gaussian(levels=100), jnp.linspace(7, 54, 20).astype(int)
    expected = empirical_posterior(tokens, x_t, process.alpha_bar[t - 1])
    found = memorizer_of_numbers(process, jax.nn.one_hot(tokens, 3), x_t, t)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(1)
    return Images(
        process=Gaussian(levels=100),
        train=jnp.asarray(blobs(rng, SETS * 60).reshape(SETS, 60, SIDE, SIDE, 1), jnp.float32),
        held_out=jnp.asarray(blobs(rng, 100), jnp.float32),
        set_of=np.arange(SETS),
        key=jax.random.key(2),
    )


def measured(world, noise, params):
    """What is found of networks that predict `noise(params, x_t, t)`, at one step."""
    planted = dataclasses.replace(world, network=Network(None, lambda params, x_t, t, _: noise(params, x_t, t)))  # pyright: ignore[reportArgumentType]
    inputs = planted.inputs(MEASURE)
    values = {name: np.asarray(x) for name, x in make_measure(planted)(params, inputs).items()}
    results = label({"step": [1], "noise": list(MEASURE.noise)}, planted, planted.references(inputs), [values])
    return planted, statistics(Images, results).mean.isel(step=0)


def sampled(planted, params):
    """What is measured of the samples of such networks, and its means."""
    of_run = Run(Path(), None, planted, [1])
    work = samples.SAMPLES.work(of_run, SamplesConfig(samples=50, reverse_steps=20))
    results = work.label([work.measure(params)])
    return results, samples.SAMPLES.statistics(of_run, results)


@pytest.mark.slow
def test_a_memorizer_has_slope_one_and_copies(world):
    """What is measured of it is what plain computations make of the same inputs."""
    train = world.train

    def noise(params, x_t, t):
        ab = world.process.alpha_bar[t - 1][:, None, None, None]
        mean = memorizer_of_numbers(world.process, params, x_t, t)
        return (x_t - jnp.sqrt(ab) * mean) / jnp.sqrt(1 - ab)

    planted, found = measured(world, noise, train)
    np.testing.assert_allclose(found.slope, 1, rtol=1e-3)
    assert (found.distance > 0.01).all()
    assert float(found.train_loss) < 0.5 * float(found.test_loss)
    inputs = planted.inputs(MEASURE)
    any_level = inputs.any_held_out
    assert any_level.t.shape == (MEASURE.draws, len(world.held_out))
    losses = [
        np.square(np.asarray(noise(params, any_level.x_t[draw], any_level.t[draw])) - any_level.target[draw]).mean()
        for params in train
        for draw in range(MEASURE.draws)
    ]
    assert float(found.test_loss) == pytest.approx(np.mean(losses), rel=1e-4)
    x_t, t = inputs.members.x_t[0], inputs.members.t[0]
    z = [[np.asarray(noise(params, x, s)).reshape(50, -1) for x, s in zip(x_t, t, strict=True)] for params in train]
    plain = [np.diag(cdist(z[a][on], z[b][on], "cosine")).mean() for a, b in ((0, 1), (0, 2), (1, 2)) for on in (a, b)]
    assert float(found.member_distance.sel(noise=0.1)) == pytest.approx(np.mean(plain), rel=1e-3)
    own = [
        [np.square(z[a][on] - inputs.members.target[0, on].reshape(50, -1)).mean() for on in range(3)] for a in range(3)
    ]
    apart = [own[b][a] - own[a][a] + own[a][b] - own[b][b] for a, b in ((0, 1), (0, 2), (1, 2))]
    assert float(found.own_against_other.sel(noise=0.1)) == pytest.approx(np.mean(apart) / 2, rel=1e-3)
    results, of_samples = sampled(planted, train)
    assert results.copied.mean() > 0.95
    assert results.own_nearest.mean() < 0.1 * results.other_nearest.mean()
    assert bool(
        of_samples.resampling.significant(*(x.nearer.values for x in (of_samples.mean, of_samples.replicates))).all()
    )
    np.testing.assert_allclose(of_samples.mean.apart, [1 - results.alike.mean()])


@pytest.mark.slow
def test_networks_that_agree_are_told_apart_at_no_scale_and_a_planted_difference_at_its_own(world):
    pattern = jnp.asarray((-1.0) ** np.add(*(np.indices((SIDE, SIDE)) // 2)))[..., None]
    amplitude = jnp.array([0.0, 0.2, -0.2])

    def noise(params, x_t, t):
        return x_t + params * pattern[None]

    planted, same = measured(world, noise, jnp.zeros(SETS))
    np.testing.assert_allclose(same.distance, 0, atol=1e-5)
    np.testing.assert_allclose(same.scale_split, 0, atol=1e-6)
    np.testing.assert_allclose(same.slope, 0, atol=1e-6)
    np.testing.assert_allclose(sampled(planted, jnp.zeros(SETS))[0].alike, 1, atol=1e-4)
    _, apart = measured(world, noise, amplitude)
    # Of the three pairs, the squares of 0.2, 0.2 and 0.4.
    expected = SIDE**2 * (0.04 + 0.04 + 0.16) / 3
    np.testing.assert_allclose(apart.scale_split.sel(scale=2), expected, rtol=1e-3)
    np.testing.assert_allclose(apart.scale_split.sel(scale=[1, 4, 8]), 0, atol=1e-4)


def test_noise_and_mean_are_two_forms_of_one_answer(world):
    x_0 = world.held_out
    z, x_t, t = world.corrupted(jax.random.key(0), x_0, jnp.arange(1, 101))
    np.testing.assert_allclose(world.process.x_0_of(x_t, t, z, "noise"), x_0, atol=2e-4)


OPTIONS = ["--preset", "smoke", "--sets", "3", "--size", "60", "--grids", "1", "--steps", "40"]
OPTIONS += ["--checkpoints", "3", "--snapshots", "2", "--noise", "0.1"]


@pytest.fixture(scope="module")
def records(tmp_path_factory, monkeypatch_module):
    folder = tmp_path_factory.mktemp("images")
    pictures = np.rint(127.5 * (blobs(np.random.default_rng(0), 400) + 1)).astype(np.uint8)
    np.savez(folder / "blobs.npz", images=pictures)
    records = Records(folder, "smoke", QUESTIONS)
    with monkeypatch_module.context() as patch:
        patch.setattr(training, "draw", picture.draw)
        main([*OPTIONS, "--data-dir", str(folder / "blobs.npz"), "--out", str(records.run(IMAGES))])
    return records


def test_a_run_leaves_its_record_and_says_what_it_found(records, capsys):
    folder = records.run(IMAGES)
    files = {"config.json", "metrics.jsonl", "results.nc", "curves.nc", "samples.results.nc", "samples.curves.nc"}
    files |= {"summary.json", "snapshots", "onset.png"}
    assert {path.name for path in folder.iterdir()} - {".lock"} == files
    results = record.read_results(folder / "results.nc")
    assert results.distance.dims == ("step", "noise", "pair", "group")
    assert all(np.isfinite(results[name]).all() for name in results)
    loss = results.test_loss.mean(("network", "group"))
    assert loss[-1] < 0.9 * loss[0]
    config, content = (record.read_json(folder / f"{name}.json") for name in ("config", "summary"))
    assert set(config["data"]) == {"sha256", "duplicates", "unreadable", "left_out", "read_as"}
    about = {name: results.attrs[name] for name in (*config["data"], "seconds_training", "seconds_measuring")}
    assert {name: about[name] for name in config["data"]} == config["data"]
    found = statistics(Images, results)
    looked = Looked(onset_noise=0.1, slope_noise=0.1, slope_level=0.01, members=50, networks=3)
    summary = summarise(Images.STORY, found, looked=looked, epoch=60 / 32, about=about)
    of_samples = {name: content.pop(name) for name in ("samples", "agreement")}
    said = {"table": words.table(Images.STORY, summary).splitlines(), "verdict": words.verdict(Images.STORY, summary)}
    assert record.as_json(summary.content() | said) == content
    main([*OPTIONS, "--data-dir", config["options"]["images"]["data_dir"], "--out", str(folder)])
    printed = capsys.readouterr().out
    assert "\n".join([*content["table"], "", content["verdict"]]) in printed
    answer = f"{of_samples['samples']['sentence']}\n{of_samples['agreement']}"
    assert answer in printed
    # Asked again with the same options, it is not measured again.
    ask("samples", ["--preset", "smoke", "--run", str(folder)])
    again = capsys.readouterr().out
    assert "nearer to own" in again
    assert answer in again
    assert again in printed


def test_a_run_whose_images_were_moved_is_shown_and_asked(records, tmp_path, capsys):
    """It knows them by their pixels: from a file of arrays to a folder of pictures; others are refused."""
    folder = shutil.copytree(records.run(IMAGES), tmp_path / "run")
    gone, moved, others = (tmp_path / name for name in ("gone.npz", "pictures", "others.npz"))
    content = record.read_json(folder / "config.json")
    content["options"]["images"]["data_dir"] = str(gone)
    record.write_json(folder / "config.json", content)
    with pytest.raises(SystemExit, match="2"):
        ask("samples", ["--preset", "smoke", "--run", str(folder)])
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert f"data_dir: got '{gone}', needs a folder or a file that exists" in printed
    assert "the command that made it, with their new place" in printed
    np.savez(others, images=blobs(np.random.default_rng(7), 400))
    for resume in ("auto", "must"):
        refused([*OPTIONS, "--data-dir", str(others), "--out", str(folder), "--resume", resume], capsys)
    assert record.read_json(folder / "config.json") == content
    moved.mkdir()
    with np.load(records.folder / "blobs.npz") as arrays:
        for number, picture in enumerate(arrays["images"][..., 0]):
            Image.fromarray(picture).save(moved / f"{number:03}.png")
    main([*OPTIONS, "--data-dir", str(moved), "--out", str(folder)])
    assert record.read_json(folder / "summary.json")["verdict"] in capsys.readouterr().out
    ask("samples", ["--preset", "smoke", "--run", str(folder)])
    assert "nearer to own" in capsys.readouterr().out


def test_figures_show_what_the_record_holds(records):
    curves = records.read(IMAGES, IMAGES)
    samples = record.read_results(records.run(IMAGES) / "samples.results.nc")
    at = curves.sel(noise=records.summary(IMAGES)["onset_noise"])
    above, below = image_training(records).axes
    of_samples = records.read(SAMPLES, IMAGES)
    for line, expected in zip(above.lines, (of_samples.apart, of_samples.median_apart, at.distance), strict=False):
        np.testing.assert_array_equal(line.get_ydata(), expected)
    np.testing.assert_array_equal(below.lines[0].get_ydata(), curves.test_loss)
    (axes,) = image_noise(records).axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), curves.distance.isel(noise=0))
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), curves.member_distance.isel(noise=0))
    (axes,) = image_scales(records).axes
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), at.scale_distance.isel(scale=1))
    picture = np.asarray(image_samples(records).axes[-1].get_images()[0].get_array())
    last = samples.isel(step=-1)
    row, column = SIDE + 1, 2 * (SIDE + 1)
    shown = picture[row : row + SIDE, column : column + SIDE]
    np.testing.assert_array_equal(shown, last.picture.sel(network=1).isel(sample=2, channel=0))
    shown = picture[3 * row : 3 * row + SIDE, column : column + SIDE]
    np.testing.assert_array_equal(shown, last.nearest_picture.sel(network=1).isel(sample=2, channel=0))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data-dir", "/nowhere"], "--data-dir: got /nowhere, needs a folder or a file that exists"),
        (["--side", "10"], "--side: got 10, needs a multiple of 4, for 3 grids"),
        (["--members", "0"], "--members: got 0, needs an integer from 1 to 10,000,000"),
        (["--noise", "0.1", "0.1004"], "--noise: got (0.1, 0.1004), needs values that are distinct"),
        (["--onset-noise", "0.3"], "--onset-noise: got 0.3, needs one of the noise levels"),
        (["--depth", "4"], "--depth is not an option of hierdiff images"),
    ],
)
def test_bad_input_ends_with_status_2_and_one_sentence(options, sentence, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*options, "--out", str(tmp_path)])
    printed = capsys.readouterr().err
    assert sentence in printed
    assert not list(tmp_path.iterdir())
    assert printed.count("\n") == 1


def killed_in(patch, module, name, call):
    """Kill the process after a call of a function of the module's."""
    before, calls = getattr(module, name), itertools.count(1)

    def killed(*args):
        done = before(*args)
        if next(calls) == call:
            raise KeyboardInterrupt
        return done

    patch.setattr(module, name, killed)


def killed(monkeypatch, command, module, name, call):
    """Carry out a command that is killed so."""
    with monkeypatch.context() as patch:
        save_often(patch)
        killed_in(patch, module, name, call)
        with pytest.raises(SystemExit, match="130"):
            main(command)


def refused(command, capsys):
    """Carry out a command whose images have changed since the run was begun."""
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert "needs the data that this run was begun with" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_with_the_same_images(records, tmp_path, monkeypatch, capsys):
    """In training, and while it generates, from wherever they lie then; with other images it is refused."""
    for module, name, call in ((run, "save", 20), (samples, "compared", 2)):
        data = tmp_path / f"{name}.npz"
        command = [*OPTIONS, "--data-dir", str(data), "--out", str(tmp_path / "run")]
        shutil.copy(records.folder / "blobs.npz", data)
        killed(monkeypatch, command, module, name, call)
        np.savez(data, images=blobs(np.random.default_rng(7), 400).clip(0, 1))
        refused(command, capsys)
    shutil.copy(records.folder / "blobs.npz", data)
    main(command)
    same(tmp_path / "run", records.run(IMAGES))
    of_samples = [record.read_results(each / "samples.results.nc") for each in (tmp_path / "run", records.run(IMAGES))]
    assert of_samples[0].drop_attrs().identical(of_samples[1].drop_attrs())


@pytest.mark.slow
def test_a_run_in_colour_makes_coloured_samples_and_keeps_to_its_images(tmp_path, monkeypatch, capsys):
    data, folder = tmp_path / "blobs.npz", tmp_path / "run"
    command = [*OPTIONS, "--sets", "2", "--steps", "20", "--checkpoints", "2", "--snapshots", "1", "--colour"]
    command += ["--data-dir", str(data), "--out", str(folder)]
    rng = np.random.default_rng(0)
    pictures, others = (
        np.rint(127.5 * (np.concatenate([blobs(rng, 300) for _ in range(3)], -1) + 1)).astype(np.uint8) for _ in "ab"
    )
    np.savez(data, images=pictures)
    killed(monkeypatch, command, run, "save", 20)
    np.savez(data, images=others)
    refused(command, capsys)
    np.savez(data, images=pictures)
    main(command)
    of_samples = record.read_results(folder / "samples.results.nc")
    assert of_samples.picture.dims == ("step", "network", "sample", "y", "x", "channel")
    assert of_samples.picture.shape == (1, 2, 8, SIDE, SIDE, 3)
    # The nearest ones are images of the file, all of their channels.
    known = {each.tobytes() for each in pictures}
    assert {each.tobytes() for each in of_samples.nearest_picture.values.reshape(-1, SIDE, SIDE, 3)} <= known
    last, row, column = of_samples.isel(step=-1), SIDE + 1, 2 * (SIDE + 1)
    shown = mosaic(last)[row : row + SIDE, column : column + SIDE]
    np.testing.assert_array_equal(shown, last.picture.sel(network=1).isel(sample=2))
    results = record.read_results(folder / "results.nc")
    assert all(np.isfinite(results[name]).all() for name in results)


@pytest.mark.slow
def test_a_plan_is_made_of_images_too(records, monkeypatch, capsys):
    monkeypatch.setattr(plan, "LONG_ENOUGH", 0.1)
    main([*OPTIONS, "--data-dir", str(records.folder / "blobs.npz"), "--plan"])
    assert "3 networks of" in capsys.readouterr().out
