"""The experiment on images: its measures against plain computations and planted networks, and the whole of it."""

import dataclasses
import itertools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import same, save_often
from scipy.spatial.distance import cdist

from experiments.images import main
from hierdiff.learning.devices import ensemble_mesh
from hierdiff.learning.network import Network
from hierdiff.measures.nearest_images import cosine_distance, standardised, two_nearest
from hierdiff.measures.scales import scale_products, scales
from hierdiff.noising import Gaussian
from hierdiff.pictures import image_noise, image_samples, image_scales, image_training
from hierdiff.pictures.records import IMAGES, Records
from hierdiff.posterior import empirical_posterior, memorizer_of_numbers
from hierdiff.questions import images
from hierdiff.questions.images import sample_statistics, statistics
from hierdiff.runs import plan, record, run
from hierdiff.worlds.image_files import ImageSets
from hierdiff.worlds.images import (
    ImageSetting,
    label,
    label_samples,
    make_generator,
    make_inputs,
    make_measure,
    measure_samples,
    noised,
)
from hierdiff.worlds.run_config import ImageMeasureConfig

SIDE, SETS = 8, 3
MEASURE = ImageMeasureConfig(
    held_out=100, members=50, draws=2, noise=(0.1, 0.3), onset_noise=0.1, samples=50, reverse_steps=20
)


def blobs(rng, n):
    """Smooth images in [-1, 1]."""
    coarse = rng.uniform(-1, 1, (n, 2, 2))
    return np.clip(coarse.repeat(4, 1).repeat(4, 2) + 0.1 * rng.standard_normal((n, SIDE, SIDE)), -1, 1)


def test_scales_of_a_checkerboard_and_of_any_two_images():
    assert scales(SIDE) == [1, 2, 4, 8]
    assert scales(28) == [1, 2, 4]
    for i, scale in enumerate([1, 2, 4]):
        rows, columns = np.indices((SIDE, SIDE)) // scale
        board = jnp.asarray((-1.0) ** (rows + columns))
        expected = np.zeros(4)
        expected[i] = SIDE**2
        np.testing.assert_allclose(scale_products(board, board), expected, atol=1e-5)
    for side in (SIDE, 28):
        a, b = jax.random.normal(jax.random.key(0), (2, 5, side, side))
        np.testing.assert_allclose(scale_products(a, b).sum(-1), (a * b).sum((-1, -2)), rtol=1e-4, atol=1e-3)
        # Each scale alone is orthogonal to the others: a constant is seen at the last.
        np.testing.assert_allclose(scale_products(a + 3, b)[:, :-1], scale_products(a, b)[:, :-1], atol=1e-3)


def test_distances_between_images():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 20, 4, 4)).astype(np.float32)
    flat = a.reshape(20, -1), b.reshape(20, -1)
    np.testing.assert_allclose(
        cosine_distance(jnp.asarray(a), jnp.asarray(b)), np.diag(cdist(*flat, "cosine")), rtol=1e-4
    )
    number, distance = two_nearest(jnp.asarray(a), jnp.asarray(b))
    every = cdist(*flat)
    np.testing.assert_array_equal(number, np.argsort(every, 1)[:, :2])
    np.testing.assert_allclose(distance, np.sort(every, 1)[:, :2], rtol=1e-4)
    np.testing.assert_allclose(standardised(jnp.asarray(a)).std((-1, -2)), 1, rtol=1e-5)
    assert (standardised(jnp.ones((4, 4))) == 0).all()


def test_the_memorizer_of_one_hot_vectors_is_that_of_symbols():
    tokens = jax.random.randint(jax.random.key(0), (30, 4), 0, 3)
    x_t = jax.random.normal(jax.random.key(1), (20, 4, 3))
    # From 0.95 to 0.05 of the signal's variance.
    process, t = Gaussian(levels=100), jnp.linspace(7, 54, 20).astype(int)
    expected = empirical_posterior(tokens, x_t, process.alpha_bar[t - 1])
    found = memorizer_of_numbers(process, jax.nn.one_hot(tokens, 3), x_t, t)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def setting():
    rng = np.random.default_rng(1)
    data = ImageSets(
        blobs(rng, SETS * 60).reshape(SETS, 60, SIDE, SIDE).astype(np.float32), blobs(rng, 100).astype(np.float32), 0, 0
    )
    key = jax.random.key(2)
    return ImageSetting(Gaussian(levels=100), data, Network(None, None), ensemble_mesh(SETS), key)  # pyright: ignore[reportArgumentType]


def measured(setting, noise, params):
    """What is found of networks that predict `noise(params, x_t, t)`, at one step."""
    planted = dataclasses.replace(setting, network=Network(None, lambda params, x_t, t, _: noise(params, x_t, t)))  # pyright: ignore[reportArgumentType]
    inputs = make_inputs(planted, MEASURE)
    values = {name: np.asarray(x) for name, x in make_measure(planted)(params, inputs).items()}
    results = label([1], MEASURE.noise, planted, inputs, [values])
    return planted, statistics(results).mean.isel(step=0)


def test_a_memorizer_has_slope_one_and_copies(setting):
    """What is measured of it is what plain computations make of the same inputs."""
    train = jnp.asarray(setting.data.train)

    def noise(params, x_t, t):
        ab = setting.process.alpha_bar[t - 1][:, None, None]
        mean = memorizer_of_numbers(setting.process, params, x_t, t)
        return (x_t - jnp.sqrt(ab) * mean) / jnp.sqrt(1 - ab)

    planted, found = measured(setting, noise, train)
    np.testing.assert_allclose(found.slope, 1, rtol=1e-3)
    assert (found.distance > 0.01).all()
    assert float(found.train_loss) < 0.5 * float(found.test_loss)
    inputs = make_inputs(planted, MEASURE)
    of_member = inputs.members_any.z.reshape(SETS, -1, SIDE, SIDE)
    np.testing.assert_array_equal(of_member[0], of_member[2])
    any_level = [noise(params, inputs.held_out_any.x_t, inputs.held_out_any.t) for params in train]
    losses = [np.square(np.asarray(z) - np.asarray(inputs.held_out_any.z)).mean() for z in any_level]
    assert float(found.test_loss) == pytest.approx(np.mean(losses), rel=1e-4)
    x_t, t = (np.split(np.asarray(x[0]), SETS) for x in (inputs.members.x_t, inputs.members.t))
    z = [
        [np.asarray(noise(params, jnp.asarray(x), jnp.asarray(s))).reshape(50, -1) for x, s in zip(x_t, t, strict=True)]
        for params in train
    ]
    plain = [np.diag(cdist(z[a][on], z[b][on], "cosine")).mean() for a, b in ((0, 1), (0, 2), (1, 2)) for on in (a, b)]
    assert float(found.member_distance.sel(noise=0.1)) == pytest.approx(np.mean(plain), rel=1e-3)
    images = make_generator(planted, MEASURE)(train)
    samples = measure_samples(images, setting.data.train)
    assert samples["copied"].mean() > 0.95
    assert samples["own_nearest"].mean() < 0.1 * samples["other_nearest"].mean()
    of_samples = sample_statistics(label_samples(1, samples))
    assert bool(
        of_samples.resampling.significant(*(x.nearer.values for x in (of_samples.mean, of_samples.replicates))).all()
    )
    np.testing.assert_allclose(of_samples.mean.apart, 1 - samples["alike"].mean())


def test_networks_that_agree_are_told_apart_at_no_scale_and_a_planted_difference_at_its_own(setting):
    pattern = jnp.asarray((-1.0) ** np.add(*(np.indices((SIDE, SIDE)) // 2)))
    amplitude = jnp.array([0.0, 0.2, -0.2])

    def noise(params, x_t, t):
        return x_t + params * pattern[None]

    planted, same = measured(setting, noise, jnp.zeros(SETS))
    np.testing.assert_allclose(same.distance, 0, atol=1e-5)
    np.testing.assert_allclose(same.scale_split, 0, atol=1e-6)
    np.testing.assert_allclose(same.slope, 0, atol=1e-6)
    samples = measure_samples(make_generator(planted, MEASURE)(jnp.zeros(SETS)), setting.data.train)
    np.testing.assert_allclose(samples["alike"], 1, atol=1e-4)
    _, apart = measured(setting, noise, amplitude)
    # Of the three pairs, the squares of 0.2, 0.2 and 0.4.
    expected = SIDE**2 * (0.04 + 0.04 + 0.16) / 3
    np.testing.assert_allclose(apart.scale_split.sel(scale=2), expected, rtol=1e-3)
    np.testing.assert_allclose(apart.scale_split.sel(scale=[1, 4, 8]), 0, atol=1e-4)


def test_noise_and_mean_are_two_forms_of_one_answer(setting):
    x_0, t = jnp.asarray(setting.data.held_out), jnp.arange(1, 101)
    z, x_t, t = noised(jax.random.key(0), x_0, t, setting.process)
    np.testing.assert_allclose(setting.process.x_0_of(x_t, t, z, "noise"), x_0, atol=2e-4)


OPTIONS = ["--preset", "smoke", "--sets", "3", "--size", "60", "--grids", "1", "--steps", "40"]
OPTIONS += ["--checkpoints", "3", "--snapshots", "2", "--noise", "0.1"]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    pictures = np.rint(127.5 * (blobs(np.random.default_rng(0), 400) + 1)).astype(np.uint8)
    np.savez(folder / "blobs.npz", images=pictures)
    records = Records(folder, "smoke")
    main([*OPTIONS, "--data-dir", str(folder / "blobs.npz"), "--out", str(records.run(IMAGES))])
    return records


def test_a_run_leaves_its_record_and_says_what_it_found(records, capsys):
    folder = records.run(IMAGES)
    files = {"config.json", "metrics.jsonl", "results.nc", "curves.nc", "samples.results.nc", "samples.curves.nc"}
    files |= {"summary.json", "snapshots", "images.json", "onset.png"}
    assert {path.name for path in folder.iterdir()} - {".lock"} == files
    results = record.read_results(folder / "results.nc")
    assert results.distance.dims == ("step", "noise", "pair", "group")
    assert all(np.isfinite(results[name]).all() for name in results)
    loss = results.test_loss.mean(("network", "group"))
    assert loss[-1] < 0.9 * loss[0]
    options = record.read_json(folder / "config.json")["options"]
    main([*OPTIONS, "--data-dir", options["images"]["data_dir"], "--out", str(folder)])
    printed = capsys.readouterr().out
    content = record.read_json(folder / "summary.json")
    assert content["verdict"] in printed
    summary = record.from_json(images.Summary, content)
    assert record.as_json(summary) == content
    assert (images.table(summary) in printed, images.verdict(summary)) == (True, content["verdict"])
    assert "samples: nearer to the own set than to another" in printed


def test_figures_show_what_the_record_holds(records):
    curves, samples = records.curves(IMAGES), records.samples()
    at = curves.sel(noise=records.summary(IMAGES)["onset_noise"])
    above, below = image_training.draw(records).axes
    of_samples = records.curves(IMAGES, "samples")
    for line, expected in zip(above.lines, (of_samples.apart, of_samples.median_apart, at.distance), strict=False):
        np.testing.assert_array_equal(line.get_ydata(), expected)
    np.testing.assert_array_equal(below.lines[0].get_ydata(), curves.test_loss)
    (axes,) = image_noise.draw(records).axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), curves.distance.isel(noise=0))
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), curves.member_distance.isel(noise=0))
    (axes,) = image_scales.draw(records).axes
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), at.scale_distance.isel(scale=1))
    picture = np.asarray(image_samples.draw(records).axes[-1].get_images()[0].get_array())
    last = samples.isel(step=-1)
    row, column = SIDE + 1, 2 * (SIDE + 1)
    shown = picture[row : row + SIDE, column : column + SIDE]
    np.testing.assert_array_equal(shown, last.picture.sel(network=1).isel(sample=2))
    shown = picture[3 * row : 3 * row + SIDE, column : column + SIDE]
    np.testing.assert_array_equal(shown, last.nearest_picture.sel(network=1).isel(sample=2))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data-dir", "/nowhere"], "--data-dir: got /nowhere, needs a folder or a file that exists"),
        (["--side", "10"], "--side: got 10, needs a multiple of 4, for 3 grids"),
        (["--members", "200"], "--members: got 200, needs at most the size of a data set, 128"),
        (["--noise", "0.1", "0.1004"], "--noise: got (0.1, 0.1004), needs values that are distinct"),
        (["--onset-noise", "0.3"], "--onset-noise: got 0.3, needs one of the noise levels"),
        (["--depth", "4"], "--depth is not an option of python -m experiments.images"),
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


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_with_the_same_images(records, tmp_path, monkeypatch, capsys):
    """In training, and while it generates; with other images it is refused."""
    data = tmp_path / "blobs.npz"
    shutil.copy(records.folder / "blobs.npz", data)
    command = [*OPTIONS, "--data-dir", str(data), "--out", str(tmp_path / "run")]
    for module, name, call in ((run, "save", 1), (images, "measure_samples", 2)):
        with monkeypatch.context() as patch:
            save_often(patch)
            killed_in(patch, module, name, call)
            with pytest.raises(KeyboardInterrupt):
                main(command)
    np.savez(data, images=blobs(np.random.default_rng(7), 400).clip(0, 1))
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert "needs the images that this run was begun with" in capsys.readouterr().err
    shutil.copy(records.folder / "blobs.npz", data)
    main(command)
    same(tmp_path / "run", records.run(IMAGES))


def test_a_plan_is_made_of_images_too(records, monkeypatch, capsys):
    monkeypatch.setattr(plan, "LONG_ENOUGH", 0.1)
    main([*OPTIONS, "--data-dir", str(records.folder / "blobs.npz"), "--plan"])
    assert "3 networks of" in capsys.readouterr().out
