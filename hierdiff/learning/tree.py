"""A U-Net on the tree of the data."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from hierdiff.learning.layers import (
    TIME_CHANNELS,
    Label,
    Linear,
    layer_dtype,
    root_mean_square_norm,
    split,
    time_embedding,
    wide,
)
from hierdiff.learning.network import Network, TreeConfig


def build(
    config: TreeConfig, *, channels: int, vocab: int, depth: int, branching: int, labels: int = 0, label_level: int = 0
) -> Network:
    """The network of `config`, for `branching**depth` leaves, and so many labels of the nodes of a level."""
    return split(lambda rngs: TreeUNet(config, channels, vocab, depth, branching, labels, label_level, rngs))


class TreeUNet(nnx.Module):
    """A U-Net on the tree of the data, with the same weights at every position of a level.

    Up: the parent's state is the mean of its children's plus an MLP of them. Down: the children's states gain
    an MLP of them and their parent's. Every state enters an MLP divided by its root mean square. A label's vector is
    added to the state of its node, on the way up.
    """

    def __init__(
        self,
        config: TreeConfig,
        channels: int,
        vocab: int,
        depth: int,
        branching: int,
        labels: int,
        label_level: int,
        rngs: nnx.Rngs,
    ):
        width, hidden = config.width, config.expansion * config.width
        self.branching = branching
        make = {"dtype": layer_dtype(config.dtype), "rngs": rngs}
        of_nodes = {"dropout": config.dropout, **make}
        self.embed = Linear(channels, width, **make)
        self.time = Linear(TIME_CHANNELS, width, **make)
        self.up = nnx.List([TimedMLP(branching * width, hidden, width, width, **of_nodes) for _ in range(depth)])
        self.down = nnx.List(
            [TimedMLP((1 + branching) * width, hidden, branching * width, width, **of_nodes) for _ in range(depth)]
        )
        self.readout = Linear(width, vocab, **make)
        if labels:
            self.label = Label(labels, width, **make)
            self.labelled = branching**label_level

    def __call__(
        self,
        x_t: Float[Array, "n L c"],
        t: Int[Array, " n"],
        rngs: nnx.Rngs | None = None,
        labels: Int[Array, "n nodes"] | None = None,
    ) -> Float[Array, "n L v"]:
        time = nnx.silu(self.time(time_embedding(t)))
        state = self.embed(x_t)
        skips = []
        for mlp in self.up:
            family = (*state.shape[:1], -1, self.branching * state.shape[2])
            children = root_mean_square_norm(state).reshape(family)
            skips.append((state, children))
            mean = state.reshape(len(state), -1, self.branching, state.shape[2]).mean(2)
            state = mean + mlp(children, time, rngs)
            if labels is not None and state.shape[1] == self.labelled:
                state = state + self.label(labels)
        for mlp, (skip, children) in zip(self.down, reversed(skips), strict=True):
            family = jnp.concatenate([root_mean_square_norm(state), children], axis=-1)
            state = skip + mlp(family, time, rngs).reshape(skip.shape)
        return wide(self.readout(root_mean_square_norm(state)))


class TimedMLP(nnx.Module):
    """One hidden layer, to which the time embedding is added before the activation, with dropout."""

    def __init__(self, inputs: int, hidden: int, outputs: int, time: int, dropout: float, **make: Any):
        self.enter = Linear(inputs, hidden, **make)
        self.time = Linear(time, hidden, use_bias=False, **make)
        self.leave = Linear(hidden, outputs, **make)
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self, x: Float[Array, "n nodes _"], time: Float[Array, "n _"], rngs: nnx.Rngs | None
    ) -> Float[Array, "n nodes _"]:
        hidden = nnx.silu(self.enter(x) + self.time(time)[:, None])
        return self.leave(self.dropout(hidden, deterministic=rngs is None, rngs=rngs))
