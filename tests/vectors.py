"""A third world, as a plugin: vectors from a mixture of Gaussians, whose exact posterior is known, and no tree."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from hierdiff.errors import option
from hierdiff.keys import key_for, keys_of
from hierdiff.learning.layers import TIME_CHANNELS, split, time_embedding
from hierdiff.learning.network import NetworkConfig
from hierdiff.learning.train_config import TrainConfig
from hierdiff.questions import Entry
from hierdiff.runs.world import Variable
from hierdiff.worlds.plain import UNITS, Plain
from hierdiff.worlds.run_config import MeasureConfig, RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerceptronConfig(NetworkConfig):
    """Network."""

    module = __name__

    hidden: int = option(32, "hidden channels")


class Perceptron(nnx.Module):
    """E[x_0 | x_t]."""

    def __init__(self, config, dimension, rngs):
        self.enter = nnx.Linear(dimension + TIME_CHANNELS, config.hidden, rngs=rngs)
        self.leave = nnx.Linear(config.hidden, dimension, rngs=rngs)

    def __call__(self, x, t, rngs):
        return self.leave(nnx.silu(self.enter(jnp.concatenate([x, time_embedding(t)], -1))))


def build(config, dimension):
    return split(lambda rngs: Perceptron(config, dimension, rngs))


@dataclasses.dataclass(frozen=True, kw_only=True)
class VectorsConfig(RunConfig):
    """Experiment."""

    dimension: int = option(3, "numbers in a vector")
    clusters: int = option(4, "Gaussians in the mixture")
    spread: float = option(0.3, "standard deviation of each")
    network: PerceptronConfig = dataclasses.field(default_factory=PerceptronConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vectors(Plain):
    """Vectors; the loss above that of the exact posterior mean is known."""

    centres: jax.Array
    spread: float

    CONFIG, COMMAND = VectorsConfig, "vectors"
    VARIABLES: ClassVar = {
        **Plain.VARIABLES,
        "excess": Variable(("network", "group"), UNITS, "|f - E[x_0 | x_t]|^2, held-out, t uniform"),
        "member_excess": Variable(("network",), UNITS, "the same on the network's own training vectors"),
    }
    STORY = dataclasses.replace(Plain.STORY, samples="vectors", loss="excess")

    @classmethod
    def set_up(cls, config):
        key, dimension = key_for(config.seed, "vectors"), config.dimension
        centres = jax.random.normal(key_for(key, "centres"), (config.clusters, dimension))

        def draw(key, n):
            which = jax.random.randint(key_for(key, "clusters"), (n,), 0, config.clusters)
            return centres[which] + config.spread * jax.random.normal(key_for(key, "numbers"), (n, dimension))

        of_sets = keys_of(key_for(key, "sets"), range(config.sets))
        return cls(
            process=config.make_process(),
            train=jnp.stack([draw(each, config.size) for each in of_sets]),
            held_out=draw(key_for(key, "held-out"), config.measure.held_out),
            network=config.network.build(dimension),
            set_of=config.set_of,
            key=key,
            centres=centres,
            spread=config.spread,
        )

    def exact(self, x_t, t):
        """E[x_0 | x_t] of the mixture."""
        ab = self.process.alpha_bar[t - 1][:, None]
        variance = ab * self.spread**2 + 1 - ab
        apart = x_t[:, None] - jnp.sqrt(ab)[..., None] * self.centres[None]
        weight = jax.nn.softmax(-jnp.square(apart).sum(-1) / (2 * variance), axis=-1)
        of_each = self.centres[None] + (jnp.sqrt(ab) * self.spread**2 / variance)[..., None] * apart
        return jnp.einsum("nk,nkd->nd", weight, of_each, precision="highest")

    def losses(self, piece, answers):
        excess = self.counts(piece.t)[None] * self.squares(answers - self.exact(piece.x_t, piece.t)[None])
        return {**super().losses(piece, answers), "excess": excess}


QUESTIONS = {
    "vectors": Entry(
        module="hierdiff.questions.training",
        asks="Up to which training step do networks on different vectors become more alike?",
        presets={
            "laptop": VectorsConfig(
                sets=3,
                size=60,
                noise_levels=100,
                train=TrainConfig(steps=300, checkpoints=6, first_checkpoint=10, batch=16, snapshots=2),
                measure=MeasureConfig(held_out=100, members=50, noise=(0.1, 0.3), onset_noise=0.1),
            )
        },
        of="training",
        world="vectors:Vectors",
    )
}
