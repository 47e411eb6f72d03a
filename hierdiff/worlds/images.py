"""The experiment on images: train U-Nets on disjoint sets of images and measure how they part at every checkpoint."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import Mesh
from jax.stages import Wrapped
from jaxtyping import Array, Float, Int, UInt8

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.devices import ensemble_mesh, over_networks, spread_batch, to_host
from hierdiff.learning.loop import Experiment, Losses, Training, TrainingSet, make_trainer
from hierdiff.learning.network import Network
from hierdiff.measures.divergence import pairs
from hierdiff.measures.nearest_images import MUCH_NEARER, cosine_distance, standardised, two_nearest
from hierdiff.measures.probe import stacked
from hierdiff.measures.scales import scale_products, scales
from hierdiff.measures.slope import slope_products
from hierdiff.noising import Gaussian
from hierdiff.noising.process import any_times, noise_level
from hierdiff.noising.reverse import respaced, reverse_state
from hierdiff.posterior import memorizer_of_numbers
from hierdiff.runs import record
from hierdiff.statistics.groups import in_groups
from hierdiff.worlds.image_files import ImageSets, draw_images
from hierdiff.worlds.run_config import ImageMeasureConfig, ImagesConfig

# Images that a network reads at a time, where it is measured.
CHUNK = 128


@dataclasses.dataclass(frozen=True)
class ImageSetting:
    """What a config stands for. Network i is trained on set i."""

    process: Gaussian
    data: ImageSets
    network: Network
    mesh: Mesh
    key: Array


class Noised(NamedTuple):
    """Images x_0 with noise z at level t: x_t = sqrt(ab) x_0 + sqrt(1 - ab) z, the axes of images last."""

    z: Float[Array, "*levels n H W"]
    x_t: Float[Array, "*levels n H W"]
    t: Int[Array, "*levels n"]


class ImageInputs(NamedTuple):
    """Where the networks are measured: at N fixed noise levels, and at t uniform on 1..T with several draws an image.

    `members` are the first images of each set in turn. `empirical` are the memorizers of the sets on the held-out
    images.
    """

    held_out: Noised
    members: Noised
    held_out_any: Noised
    members_any: Noised
    empirical: Float[Array, "N sets n H W"]


def set_up(config: ImagesConfig) -> ImageSetting:
    """Read the images and share them out."""
    held_out = config.measure.held_out
    data = draw_images(config.images, config.seed, sets=config.sets, size=config.size, held_out=held_out)
    network = config.network.build(config.images.side)
    return ImageSetting(
        Gaussian(levels=config.noise_levels), data, network, ensemble_mesh(config.sets), key_for(config.seed, "images")
    )


def noised(key: Array, images: Float[Array, "n H W"], t: Int[Array, " n"], process: Gaussian) -> Noised:
    """Noise each image at its level. Consumes `key`."""
    z = jax.random.normal(key, images.shape)
    return Noised(z, process.mix(images, z, t), t)


def make_inputs(setting: ImageSetting, measure: ImageMeasureConfig) -> ImageInputs:
    """Noise the held-out images and some of the training ones, with the memorizers' answers.

    Image number i of every training set meets the same noise at the same levels.
    """
    process, data = setting.process, setting.data
    train, held_out = jnp.asarray(data.train), jnp.asarray(data.held_out)
    members = train[:, : measure.members]

    def at_levels(key, images):
        t = [jnp.full(len(images), noise_level(share, process.levels), jnp.int32) for share in measure.noise]
        each = [noised(key, images, t, process) for key, t in zip(keys_of(key, range(len(t))), t, strict=True)]
        return stacked(each)

    def at_any_level(key, images):
        t = any_times(key_for(key, "levels"), len(images) * measure.draws, process.levels)
        return noised(key_for(key, "noise"), images.repeat(measure.draws, 0), t, process)

    def of_all_sets(probe, key, axis):
        return jax.tree.map(lambda *x: jnp.concatenate(x, axis), *[probe(key, images) for images in members])

    fixed = at_levels(key_for(setting.key, "held-out noise"), held_out)
    empirical = [
        jnp.stack([memorizer_of_numbers(process, images, x_t, t) for images in train])
        for x_t, t in zip(fixed.x_t, fixed.t, strict=True)
    ]
    return ImageInputs(
        fixed,
        of_all_sets(at_levels, key_for(setting.key, "members' noise"), 1),
        at_any_level(key_for(setting.key, "held-out noise at any level"), held_out),
        of_all_sets(at_any_level, key_for(setting.key, "members' noise at any level"), 0),
        jnp.stack(empirical),
    )


def noise_losses(network: Network, process: Gaussian, mesh: Mesh) -> Losses:
    """The mean squared error of the noise in each image."""

    def losses(params, samples, keys):
        z = jax.vmap(lambda key: jax.random.normal(key, samples.x_0.shape[1:]))(keys)
        x_t = process.mix(samples.x_0, z, samples.t)
        z, x_t, t = spread_batch((z, x_t, samples.t), mesh)
        return jnp.square(network.forward(params, x_t, t, None) - z).mean((-1, -2))

    return losses


def experiment(config: ImagesConfig, setting: ImageSetting, inputs: Any) -> Experiment:
    """What a run carries out; of a plan, `inputs` are their shapes."""
    process, mesh = setting.process, setting.mesh
    losses = noise_losses(setting.network, process, mesh)
    trainer = make_trainer(setting.network.init, losses, config.train, mesh, size=config.size, levels=process.levels)
    names = ("first weights", "training")
    init_keys, train_keys = (keys_of(key_for(setting.key, name), range(config.sets)) for name in names)
    train = jnp.asarray(setting.data.train)
    state, data = trainer.init(init_keys, TrainingSet(train, jnp.ones(train.shape[:2])))
    training = Training(trainer, data, train_keys, state)
    return Experiment(config.train, config.size, setting.mesh, training, make_measure(setting), inputs)


def predict_all(setting: ImageSetting) -> Callable:
    """Of the weights of all networks, noised images and their levels: the noise that each predicts."""

    def forward(params, x_t, t):
        def on_chunk(part):
            x_t, t = spread_batch(part, setting.mesh)
            return setting.network.forward(params, x_t, t, None)

        n = len(t)
        size = min(CHUNK, n)
        padding = -n % size
        x_t, t = jnp.pad(x_t, ((0, padding), (0, 0), (0, 0))), jnp.pad(t, (0, padding))
        parts = x_t.reshape(-1, size, *x_t.shape[1:]), t.reshape(-1, size)
        return jax.lax.map(on_chunk, parts).reshape(x_t.shape)[:n]

    return over_networks(forward, setting.mesh, stacked=1)


def make_measure(setting: ImageSetting) -> Wrapped:
    """All measures of an ensemble, as one compiled function of its weights and the inputs.

    It gives an array for each name in `VARIABLES`, where its dimensions are.
    """
    predict, networks = predict_all(setting), len(setting.data.train)
    # A pair at a time: all of them would take the memory of as many ensembles.
    every_pair = np.array(pairs(networks)).T

    def of_sets(x):
        """What holds for the members of every set in turn, with an axis of sets."""
        return x.reshape(len(x), networks, -1, *x.shape[2:])

    def on_held_out(params, level):
        (_, x_t, t), empirical = level
        z = predict(params, x_t, t)
        f = setting.process.x_0_of(x_t, t, z, "noise")

        def of_pair(pair):
            a, b = pair
            power = 0.5 * (scale_products(z[a], z[a]) + scale_products(z[b], z[b]))
            slope, _ = slope_products(f[a] - f[b], empirical[a] - empirical[b])
            return {
                "distance": in_groups(cosine_distance(z[a], z[b])),
                "scale_split": in_groups(scale_products(z[a] - z[b], z[a] - z[b]).T),
                "scale_power": in_groups(power.T),
                "slope": in_groups(slope),
            }

        return jax.lax.map(of_pair, tuple(every_pair))

    def on_members(params, level):
        z = of_sets(predict(params, level.x_t, level.t))

        def of_pair(pair):
            a, b = pair
            on_a, on_b = cosine_distance(z[a, a], z[b, a]), cosine_distance(z[a, b], z[b, b])
            return {"member_distance": in_groups(0.5 * (on_a + on_b))}

        return jax.lax.map(of_pair, tuple(every_pair))

    def loss(params, probe):
        return jnp.square(predict(params, probe.x_t, probe.t) - probe.z[None]).mean((-1, -2))

    @jax.jit
    def measure(params, inputs):
        own = np.arange(networks)
        return {
            **jax.lax.map(lambda level: on_held_out(params, level), (inputs.held_out, inputs.empirical)),
            **jax.lax.map(lambda level: on_members(params, level), inputs.members),
            "test_loss": in_groups(loss(params, inputs.held_out_any)),
            "train_loss": in_groups(of_sets(loss(params, inputs.members_any))[own, own]),
        }

    return measure


ANGLE, SQUARED, ERROR = "1 - cosine", "squared units per image", "squared error of the noise per pixel"
# Of each variable: its dimensions beside the step, its units and its meaning.
VARIABLES = {
    "distance": (("noise", "pair", "group"), ANGLE, "of the noises that two networks predict, held-out"),
    "member_distance": (("noise", "pair", "group"), ANGLE, "the same on the pair's training images"),
    "scale_split": (("noise", "pair", "scale", "group"), SQUARED, "|z_A - z_B|^2 by Haar scale, held-out"),
    "scale_power": (("noise", "pair", "scale", "group"), SQUARED, "(|z_A|^2 + |z_B|^2) / 2 by Haar scale, held-out"),
    "slope": (("noise", "pair", "group"), SQUARED, "<f_A - f_B, emp_A - emp_B>, held-out"),
    "test_loss": (("network", "group"), ERROR, "held-out, t uniform"),
    "train_loss": (("network", "group"), ERROR, "the network's own training images, t uniform"),
}


def label(
    steps: list[int],
    noise: tuple[float, ...],
    setting: ImageSetting,
    inputs: ImageInputs,
    measured: list[dict[str, np.ndarray]],
) -> xr.Dataset:
    """The measurements at each step, and what they are compared with, as one labelled set of arrays."""
    networks = len(setting.data.train)
    first, second = np.array(pairs(networks)).T
    results = xr.Dataset(
        record.over_steps(VARIABLES, measured),
        {
            "step": steps,
            "noise": list(noise),
            "scale": scales(setting.data.held_out.shape[-1]),
            "network": np.arange(networks),
            "first": ("pair", first),
            "second": ("pair", second),
        },
    )
    apart = [jnp.square(inputs.empirical[:, a] - inputs.empirical[:, b]).sum((-1, -2)) for a, b in pairs(networks)]
    about = {"units": SQUARED, "meaning": "|emp_A - emp_B|^2, held-out"}
    results["empirical"] = ("noise", "pair", "group"), np.asarray(in_groups(jnp.stack(apart, 1))), about
    return results


def make_generator(setting: ImageSetting, measure: ImageMeasureConfig) -> Callable[[Any], np.ndarray]:
    """Of the weights of an ensemble: the images that all networks make of the same noise, `(S, samples, H, W)`.

    E[x_0 | x_t] is kept within the images' range, -1 to 1, as in Ho et al. (arXiv 2006.11239).
    """
    start_key, noise_key = (key_for(setting.key, name) for name in ("starts of samples", "noise of samples"))
    start = jax.random.normal(start_key, (measure.samples, *setting.data.held_out.shape[1:]))
    times = respaced(setting.process.levels, measure.reverse_steps)

    def generate(params, start):
        def denoiser(x_t, t):
            x_t, t = spread_batch((x_t, t), setting.mesh)
            z = setting.network.forward(params, x_t, t, None)
            return jnp.clip(setting.process.x_0_of(x_t, t, z, "noise"), -1, 1)

        return reverse_state(noise_key, denoiser, setting.process, start, times, batch=CHUNK)

    generate_all = jax.jit(over_networks(generate, setting.mesh, stacked=1))
    return lambda params: to_host(generate_all(params, start))


def measure_samples(images: Float[np.ndarray, "S n H W"], train: Float[np.ndarray, "S P H W"]) -> dict[str, np.ndarray]:
    """What `SAMPLES` names, of the images that each network generates; network i is trained on set i."""
    both = pairs(len(images))
    first, second = np.array(both).T
    sets = jnp.asarray(train)
    found = [[two_nearest(own, each) for each in sets] for own in jnp.asarray(images)]
    nearest = in_groups(np.array([[np.asarray(distance[:, 0]) for _, distance in row] for row in found]))
    own = [found[i][i] for i in range(len(images))]
    copied = [np.asarray(distance[:, 0] < MUCH_NEARER * distance[:, 1]) for _, distance in own]
    shown = [each[np.asarray(number[:SHOWN, 0])] for each, (number, _) in zip(train, own, strict=True)]
    alike = np.asarray(standardised(jnp.asarray(images)))
    return {
        "alike": np.stack([(alike[a] * alike[b]).mean((-1, -2)) for a, b in both]),
        "own_nearest": 0.5 * (nearest[first, first] + nearest[second, second]),
        "other_nearest": 0.5 * (nearest[first, second] + nearest[second, first]),
        "copied": in_groups(np.stack(copied).astype(float)),
        "picture": as_bytes(images[:, :SHOWN]),
        "nearest_picture": as_bytes(np.stack(shown)),
    }


def as_bytes(images: Float[np.ndarray, "*batch H W"]) -> UInt8[np.ndarray, "*batch H W"]:
    """Images in [-1, 1] as bytes."""
    return np.rint(127.5 * (images + 1)).astype(np.uint8)


# Samples whose pictures are kept, with their nearest training images.
SHOWN = 8
DISTANCE = "Euclidean distance"


SAMPLES = {
    "alike": (("pair", "start"), "per pixel", "inner product of standardised samples from the same noise"),
    "own_nearest": (("pair", "group"), DISTANCE, "from a sample to the nearest image of its own network's set"),
    "other_nearest": (("pair", "group"), DISTANCE, "from a sample to the nearest image of the other network's set"),
    "copied": (
        ("network", "group"),
        "share",
        "samples whose nearest image is nearer than 1/3 of the second's distance",
    ),
    "picture": (("network", "sample", "y", "x"), "grey level", "samples"),
    "nearest_picture": (("network", "sample", "y", "x"), "grey level", "the nearest images of the own training set"),
}


def label_samples(step: int, measured: dict[str, np.ndarray]) -> xr.Dataset:
    """What was measured of the samples at one snapshot, as a labelled set of arrays."""
    first, second = np.array(pairs(len(measured["copied"]))).T
    coordinates = {"step": [step], "first": ("pair", first), "second": ("pair", second)}
    return xr.Dataset(record.over_steps(SAMPLES, [measured]), coordinates)
