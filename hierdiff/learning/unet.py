"""A U-Net that predicts the noise in an image: `(x_t, t) -> z`, of shape `(n, side, side, channels)`.

As in Ho et al. (arXiv 2006.11239): residual blocks with the time embedding, strided convolutions between grids, and
attention on the coarsest grid; but what is kept on the way down is added on the way up, not put beside. As everywhere,
it is a pair of pure functions made from a flax NNX module.
"""

import itertools
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from hierdiff.learning.layers import TIME_CHANNELS, split, time_embedding
from hierdiff.learning.network import NORM_CHANNELS, Network, UNetConfig


def build(config: UNetConfig, side: int, channels: int = 1) -> Network:
    """The network of `config` for images of `side` pixels a side, of so many channels."""
    config.require_side(side)
    return split(lambda rngs: UNet(config, channels, rngs=rngs))


class UNet(nnx.Module):
    """Down to the coarsest grid, attention there, and up again, adding what was on each grid on the way down."""

    def __init__(self, config: UNetConfig, channels: int, *, rngs: nnx.Rngs):
        widths = [config.channels * 2**grid for grid in range(config.grids)]
        hidden = 4 * config.channels
        steps = list(itertools.pairwise(widths))

        def blocks(width):
            return nnx.List([Residual(width, hidden, rngs=rngs) for _ in range(config.blocks)])

        self.time_enter = nnx.Linear(TIME_CHANNELS, hidden, rngs=rngs)
        self.time_leave = nnx.Linear(hidden, hidden, rngs=rngs)
        self.enter = Convolution(channels, widths[0], rngs=rngs)
        self.down = nnx.List([blocks(width) for width in widths])
        self.halve = nnx.List([Halve(fine, coarse, rngs=rngs) for fine, coarse in steps])
        self.first = Residual(widths[-1], hidden, rngs=rngs)
        self.attention = Attention(widths[-1], config.heads, rngs=rngs)
        self.second = Residual(widths[-1], hidden, rngs=rngs)
        self.double = nnx.List([Double(coarse, fine, rngs=rngs) for fine, coarse in reversed(steps)])
        self.up = nnx.List([blocks(width) for width in reversed(widths)])
        self.norm = norm(widths[0], rngs)
        self.leave = Convolution(widths[0], channels, zero=True, rngs=rngs)

    def __call__(
        self, x_t: Float[Array, "n H W c"], t: Int[Array, " n"], _: nnx.Rngs | None
    ) -> Float[Array, "n H W c"]:
        time = nnx.silu(self.time_leave(nnx.silu(self.time_enter(time_embedding(t)))))
        x, kept = self.enter(x_t), []
        for grid, blocks in enumerate(self.down):
            x = self.halve[grid - 1](x) if grid else x
            for block in blocks:
                x = block(x, time)
            kept.append(x)
        x = self.second(self.attention(self.first(x, time)), time)
        for grid, blocks in enumerate(self.up):
            x = (self.double[grid - 1](x) if grid else x) + kept.pop()
            for block in blocks:
                x = block(x, time)
        return self.leave(nnx.silu(self.norm(x)))


class Residual(nnx.Module):
    """Two convolutions, each after a norm, with the time in between, added to the input; begins as the identity."""

    def __init__(self, channels: int, time: int, *, rngs: nnx.Rngs):
        self.before, self.between = norm(channels, rngs), norm(channels, rngs)
        self.first = Convolution(channels, channels, rngs=rngs)
        self.time = nnx.Linear(time, channels, rngs=rngs)
        self.second = Convolution(channels, channels, zero=True, rngs=rngs)

    def __call__(self, x: Float[Array, "n H W c"], time: Float[Array, "n d"]) -> Float[Array, "n H W c"]:
        y = self.first(nnx.silu(self.before(x))) + self.time(time)[:, None, None]
        return x + self.second(nnx.silu(self.between(y)))


class Attention(nnx.Module):
    """Self-attention of all places, added to its input."""

    def __init__(self, channels: int, heads: int, *, rngs: nnx.Rngs):
        self.norm = norm(channels, rngs)
        self.attention = nnx.MultiHeadAttention(heads, channels, decode=False, rngs=rngs)

    def __call__(self, x: Float[Array, "n H W c"]) -> Float[Array, "n H W c"]:
        places = self.norm(x).reshape(len(x), -1, x.shape[-1])
        return x + self.attention(places).reshape(x.shape)


class Convolution(nnx.Module):
    """A convolution of 3 x 3 pixels, as one matrix product of each pixel's neighbourhood.

    Inside a loop, where the training's steps are, XLA's CPU backend runs convolutions much slower than products.
    """

    def __init__(self, inputs: int, outputs: int, *, zero: bool = False, rngs: nnx.Rngs):
        kernel: Any = {"kernel_init": nnx.initializers.zeros} if zero else {}
        self.product = nnx.Linear(9 * inputs, outputs, rngs=rngs, **kernel)

    def __call__(self, x: Float[Array, "n H W c"]) -> Float[Array, "n H W e"]:
        height, width = x.shape[1:3]
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        near = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        return self.product(jnp.concatenate(near, -1))


class Halve(nnx.Module):
    """To a grid half as fine: a convolution of 2 x 2 pixels, with stride 2."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.product = nnx.Linear(4 * inputs, outputs, rngs=rngs)

    def __call__(self, x: Float[Array, "n H W c"]) -> Float[Array, "n h w e"]:
        n, height, width, channels = x.shape
        squares = x.reshape(n, height // 2, 2, width // 2, 2, channels).swapaxes(2, 3)
        return self.product(squares.reshape(n, height // 2, width // 2, 4 * channels))


class Double(nnx.Module):
    """To a grid twice as fine: the transposed convolution of 2 x 2 pixels, with stride 2."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.product = nnx.Linear(inputs, 4 * outputs, rngs=rngs)

    def __call__(self, x: Float[Array, "n H W c"]) -> Float[Array, "n h w e"]:
        n, height, width, _ = x.shape
        squares = self.product(x).reshape(n, height, width, 2, 2, -1).swapaxes(2, 3)
        return squares.reshape(n, 2 * height, 2 * width, -1)


def norm(channels: int, rngs: nnx.Rngs) -> nnx.GroupNorm:
    """Groups of channels of an image to mean 0 and variance 1, then scaled and shifted (arXiv 1803.08494)."""
    return nnx.GroupNorm(channels, num_groups=None, group_size=NORM_CHANNELS, rngs=rngs)
