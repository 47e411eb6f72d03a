"""What networks are made of: the time embedding, norms, and the numbers that layers compute with."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from hierdiff.learning.network import Network

TIME_CHANNELS = 32
LONGEST_PERIOD = 10_000.0


def split(make: Callable[[nnx.Rngs], nnx.Module]) -> Network:
    """The pure functions of the module that `make` makes; called, it takes `(x, t, rngs)`, and labels if any."""

    def fresh(key):
        return make(nnx.Rngs(key))

    graph = nnx.graphdef(nnx.eval_shape(fresh, jax.random.key(0)))

    def forward(params, x, t, key, labels=None):
        module: Any = nnx.merge(graph, params)
        rngs = None if key is None else nnx.Rngs(dropout=key)
        return module(x, t, rngs) if labels is None else module(x, t, rngs, labels)

    return Network(lambda key: nnx.state(fresh(key)), forward)


def layer_dtype(name: str) -> Any:
    """The dtype of the layers; None, for float32, is that of their input, so that float64 stays float64."""
    return jnp.bfloat16 if name == "bfloat16" else None


def wide(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x` in float32 at least."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def time_embedding(t: Int[Array, " n"]) -> Float[Array, "n c"]:
    """Sines and cosines of t at geometric frequencies, `TIME_CHANNELS` in all (arXiv 1706.03762)."""
    half = TIME_CHANNELS // 2
    frequencies = LONGEST_PERIOD ** (-np.arange(half) / half)
    phase = t.astype(float)[:, None] * jnp.asarray(frequencies, float)[None]
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)


class Linear(nnx.Linear):
    """Flax's, of all vectors as the rows of one matrix.

    Of several axes of vectors, XLA's CPU backend moves all numbers about before each product of the way back.
    """

    def __call__(self, inputs: Float[Array, "*batch _"], out_sharding: Any = None) -> Float[Array, "*batch _"]:
        rows = super().__call__(inputs.reshape(-1, inputs.shape[-1]), out_sharding)
        return rows.reshape(*inputs.shape[:-1], rows.shape[-1])


class Label(nnx.Module):
    """A vector for each label, and none, zeros, where it is -1."""

    def __init__(self, number: int, width: int, dtype: Any, rngs: nnx.Rngs):
        self.embed = nnx.Embed(number, width, dtype=dtype, rngs=rngs)

    def __call__(self, labels: Int[Array, "n nodes"]) -> Float[Array, "n nodes w"]:
        return jnp.where(labels[..., None] >= 0, self.embed(jnp.maximum(labels, 0)), 0)


def root_mean_square_norm(x: Float[Array, "*batch w"]) -> Float[Array, "*batch w"]:
    """`x / sqrt(mean(x**2))` over the channels, the mean in float32 at least."""
    y = wide(x).reshape(-1, x.shape[-1])
    return (y * of_means(y * y, lambda mean_square: jax.lax.rsqrt(mean_square + 1e-6))).astype(x.dtype).reshape(x.shape)


def layer_norm(norm: nnx.LayerNorm, x: Float[Array, "*batch w"]) -> Float[Array, "*batch w"]:
    """What `norm` makes of x, in float32 at least."""
    trained: Any = norm
    y = wide(x).reshape(-1, x.shape[-1])
    y = root_mean_square_norm(y - of_means(y, lambda mean: mean)) * trained.scale[...][None] + trained.bias[...][None]
    return y.astype(x.dtype).reshape(x.shape)


def of_means(
    rows: Float[Array, "n w"], function: Callable[[Float[Array, "n 1"]], Float[Array, "n 1"]]
) -> Float[Array, "n w"]:
    """A function of the mean of each row, at every channel.

    Both ways are matrix products: XLA's CPU backend runs a sum over the last axis one number at a time.
    """
    width = rows.shape[1]
    mean = jnp.matmul(rows, jnp.full((width, 1), 1 / width, rows.dtype), precision="highest")
    return jnp.matmul(function(mean), jnp.ones((1, width), rows.dtype), precision="highest")
