"""Images in disjoint sets: no law is known of them; U-Nets predict the noise in each."""

import dataclasses
import hashlib
from typing import ClassVar

import jax
import jax.numpy as jnp

from hierdiff.keys import key_for
from hierdiff.measures.nearest_images import cosine_distance
from hierdiff.measures.scales import scale_products, scales
from hierdiff.noising.gaussian import standard_normal
from hierdiff.runs.world import Variable
from hierdiff.statistics.story import Column, Story, Table
from hierdiff.worlds.image_files import draw_images
from hierdiff.worlds.plain import MEMBERS, NO_SLOPE, Noised, Plain
from hierdiff.worlds.run_config import ImagesConfig

# Images that a network reads at a time, where it is measured.
CHUNK = 128

ANGLE, SQUARED, ERROR = "1 - cosine", "squared units per image", "squared error per pixel"
SCALES = Table(
    name="scales",
    axis="scale",
    heading="pixels",
    minimum="scale_distance",
    indicative=True,
    columns=(Column("scale_distance", "at this scale", name="distance"),),
    place="the scale of {} pixels",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images(Plain):
    """Images `(n, H, W, channels)` in [-1, 1]; what networks answer is the noise in them."""

    CONFIG, COMMAND = ImagesConfig, "images"
    VARIABLES: ClassVar = {
        "distance": Variable(("noise", "pair", "group"), ANGLE, "of the noises that two networks predict, held-out"),
        "member_distance": Variable(("noise", "pair"), ANGLE, "the same on the pair's training images"),
        "member_loss": Variable(MEMBERS, ERROR, "on training images of each set"),
        "scale_split": Variable(("noise", "pair", "scale", "group"), SQUARED, "|z_A - z_B|^2 by Haar scale, held-out"),
        "scale_power": Variable(
            ("noise", "pair", "scale", "group"), SQUARED, "(|z_A|^2 + |z_B|^2) / 2 by Haar scale, held-out"
        ),
        "slope": Variable(("noise", "pair", "group"), SQUARED, "<f_A - f_B, emp_A - emp_B>, held-out"),
        "empirical": Variable(("noise", "pair", "group"), SQUARED, "|emp_A - emp_B|^2, held-out"),
        "loss": Variable(("noise", "network", "group"), ERROR, "held-out"),
        "test_loss": Variable(("network", "group"), ERROR, "held-out, t uniform"),
        "train_loss": Variable(("network",), ERROR, "the network's own training images, t uniform"),
    }
    SEEDS: ClassVar = {"distance": ("seed_distance", "data_distance")}
    STORY = Story(
        samples="images",
        split="distance",
        split_words="the distance of the predicted noises",
        loss="test_loss",
        unit="squared error per pixel",
        digits=5,
        values=(
            Column("distance", "distance of the predicted noises, 1 - cosine"),
            Column("seed_distance", "of it, what two seeds on one set make"),
            Column("data_distance", "and what the images make"),
            Column("own_against_other", "own against other, squared error per pixel", 5),
            Column("test_loss", "test loss, squared error of the noise per pixel", 4),
            Column("train_loss", "training loss", 4),
        ),
        tables=(
            Table(
                name="noise",
                axis="noise",
                heading="t/T",
                minimum="distance",
                columns=(
                    Column("distance", "held-out"),
                    Column("member_distance", "training images"),
                    Column("own_against_other", "own against other", 5),
                    Column("slope", "slope", 4, blank=NO_SLOPE),
                ),
            ),
            SCALES,
        ),
        axis=SCALES,
        part="the distance",
        data_split="data_distance",
    )

    @classmethod
    def set_up(cls, config: ImagesConfig) -> "Images":
        data = draw_images(
            config.images, config.seed, sets=config.sets, size=config.size, held_out=config.measure.held_out
        )
        pixels = hashlib.sha256(data.train.tobytes() + data.held_out.tobytes()).hexdigest()
        return cls(
            process=config.make_process(),
            train=jnp.asarray(data.train),
            held_out=jnp.asarray(data.held_out),
            network=config.network.build(config.images.side, config.images.channels),
            set_of=config.set_of,
            key=key_for(config.seed, "images"),
            about={
                "sha256": pixels,
                "duplicates": data.duplicates,
                "unreadable": data.unreadable,
                "left_out": data.left_out,
                "read_as": data.read_as,
            },
        )

    def describe(self) -> str:
        return (
            f"{super().describe()}, {self.held_out.shape[1]} pixels a side; of the images seen, "
            f"{self.about['duplicates']} repeat others and {self.about['left_out'] or 'none'} cannot be read; "
            f"{self.about['read_as']}"
        )

    def corrupted(self, key, x_0, t):
        z = standard_normal(key, x_0.shape, x_0.dtype)
        return Noised(z, self.process.mix(x_0, z, t), t)

    def denoised(self, piece, answers):
        return self.process.x_0_of(piece.x_t, piece.t, answers, "noise")

    def apart(self, a, b):
        return cosine_distance(a, b)

    def errors(self, target, answers):
        return self.squares(answers - target[None]) / target[0].size

    def counts(self, t):
        """Of the error in the noise each level counts alike."""
        return jnp.ones(len(t))

    def answer(self, params, shown, t):
        x_t = shown
        n, size = len(t), min(CHUNK, len(t))
        padding = -n % size
        x_t, t = jnp.pad(x_t, ((0, padding), *(x_t.ndim - 1) * ((0, 0),))), jnp.pad(t, (0, padding))
        parts = x_t.reshape(-1, size, *x_t.shape[1:]), t.reshape(-1, size)
        answers = jax.lax.map(lambda part: super(Images, self).answer(params, *part), parts)
        return answers.reshape(x_t.shape)[:n]

    def on_pair(self, a, b):
        power = 0.5 * (scale_products(a, a) + scale_products(b, b))
        return {
            **super().on_pair(a, b),
            "scale_split": scale_products(a - b, a - b).T,
            "scale_power": power.T,
        }

    def coordinates(self):
        return {"scale": scales(self.held_out.shape[1])}

    @classmethod
    def ratios(cls, x):
        """`slope` and `scale_distance` are ratios of means.

        The last, `|z_A - z_B|^2 / (|z_A|^2 + |z_B|^2)` at one scale, is 1 minus the cosine where the two are equally
        large.
        """
        return super().ratios(x).assign(scale_distance=0.5 * x.scale_split / x.scale_power)
