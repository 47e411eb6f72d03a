"""Diffusion networks: `(x_t, t) -> log p(x_0 | x_t)`, of shape `(n, L, v)`.

A network is a pair of pure functions, made from a flax NNX module that is split once: `init(key)` gives its
parameters and `log_posterior(params, x_t, t, key)` runs it (`key` feeds the dropout, None turns it off).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from hierdiff.options import option, require

TIME_CHANNELS = 32
LONGEST_PERIOD = 10_000.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Network."""

    network: Literal["tree", "transformer"] = option("tree", "architecture")
    width: int = option(48, "channels of a node (tree) or token (transformer)")
    expansion: int = option(4, "hidden channels of an MLP, in multiples of width")
    layers: int = option(4, "encoder layers (transformer only)")
    heads: int = option(4, "attention heads (transformer only)")
    dropout: float = option(0.0, "share of activations dropped in training (transformer only)")
    dtype: Literal["float32", "bfloat16"] = option(
        "float32", "numbers of the layers' products and states; weights, averages and losses are float32"
    )

    def __post_init__(self):
        require(self.width >= 1, "width", self.width, "an integer of at least 1")
        require(self.expansion >= 1, "expansion", self.expansion, "an integer of at least 1")
        require(self.layers >= 1, "layers", self.layers, "an integer of at least 1")
        need = f"a divisor of the width, {self.width}"
        good = self.network == "tree" or (self.heads >= 1 and self.width % self.heads == 0)
        require(good, "heads", self.heads, need)
        require(0 <= self.dropout < 1, "dropout", self.dropout, "a number from 0 to below 1")


class Network(NamedTuple):
    """The two functions of a network; both are pure and can be jitted and vmapped."""

    init: Callable[[Array], nnx.State]
    log_posterior: Callable[[nnx.State, Array, Array, Array | None], Array]


def build_network(config: NetworkConfig, *, vocab: int, depth: int, branching: int) -> Network:
    """The network of `config` for sequences of `branching**depth` tokens."""

    def make(key):
        rngs = nnx.Rngs(key)
        if config.network == "tree":
            return TreeUNet(config, vocab=vocab, depth=depth, branching=branching, rngs=rngs)
        return Transformer(config, vocab=vocab, leaves=branching**depth, rngs=rngs)

    graph = nnx.graphdef(nnx.eval_shape(make, jax.random.key(0)))

    def log_posterior(params, x_t, t, key):
        rngs = None if key is None else nnx.Rngs(dropout=key)
        return nnx.merge(graph, params)(x_t, t, rngs)

    return Network(lambda key: nnx.state(make(key)), log_posterior)


class TreeUNet(nnx.Module):
    """A U-Net on the tree of the data, with the same weights at every position of a level.

    Up: the parent's state is the mean of its children's plus an MLP of them. Down: the children's states gain
    an MLP of them and their parent's. Every state enters an MLP divided by its root mean square.
    """

    def __init__(self, config: NetworkConfig, *, vocab: int, depth: int, branching: int, rngs: nnx.Rngs):
        width, hidden = config.width, config.expansion * config.width
        self.branching = branching
        make = {"dtype": layer_dtype(config), "rngs": rngs}
        self.embed = nnx.Linear(vocab, width, **make)
        self.time = nnx.Linear(TIME_CHANNELS, width, **make)
        self.up = nnx.List([TimedMLP(branching * width, hidden, width, width, **make) for _ in range(depth)])
        self.down = nnx.List(
            [TimedMLP((1 + branching) * width, hidden, branching * width, width, **make) for _ in range(depth)]
        )
        self.readout = nnx.Linear(width, vocab, **make)

    def __call__(
        self, x_t: Float[Array, "n L v"], t: Int[Array, " n"], rngs: nnx.Rngs | None = None
    ) -> Float[Array, "n L v"]:
        time = nnx.silu(self.time(time_embedding(t)))
        state = self.embed(x_t)
        skips = []
        for mlp in self.up:
            family = (*state.shape[:1], -1, self.branching * state.shape[2])
            children = root_mean_square_norm(state).reshape(family)
            skips.append((state, children))
            mean = state.reshape(len(state), -1, self.branching, state.shape[2]).mean(2)
            state = mean + mlp(children, time)
        for mlp, (skip, children) in zip(self.down, reversed(skips), strict=True):
            family = jnp.concatenate([root_mean_square_norm(state), children], axis=-1)
            state = skip + mlp(family, time).reshape(skip.shape)
        return jax.nn.log_softmax(wide(self.readout(root_mean_square_norm(state))))


class TimedMLP(nnx.Module):
    """One hidden layer, to which the time embedding is added before the activation."""

    def __init__(self, inputs: int, hidden: int, outputs: int, time: int, **make: Any):
        self.enter = nnx.Linear(inputs, hidden, **make)
        self.time = nnx.Linear(time, hidden, use_bias=False, **make)
        self.leave = nnx.Linear(hidden, outputs, **make)

    def __call__(self, x: Float[Array, "n nodes _"], time: Float[Array, "n _"]) -> Float[Array, "n nodes _"]:
        return self.leave(nnx.silu(self.enter(x) + self.time(time)[:, None]))


class Transformer(nnx.Module):
    """The encoder of arXiv 2603.03469: post-norm, learned positions, the time embedding added once."""

    def __init__(self, config: NetworkConfig, *, vocab: int, leaves: int, rngs: nnx.Rngs):
        make = {"dtype": layer_dtype(config), "rngs": rngs}
        self.embed = nnx.Linear(vocab, config.width, **make)
        self.time = nnx.Linear(TIME_CHANNELS, config.width, **make)
        self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, leaves, config.width)))
        self.layers = nnx.List([EncoderLayer(config, **make) for _ in range(config.layers)])
        self.readout = nnx.Linear(config.width, vocab, **make)

    def __call__(
        self, x_t: Float[Array, "n L v"], t: Int[Array, " n"], rngs: nnx.Rngs | None = None
    ) -> Float[Array, "n L v"]:
        x = self.embed(x_t)
        x = x + self.position[...].astype(x.dtype) + self.time(time_embedding(t))[:, None]
        for layer in self.layers:
            x = layer(x, rngs)
        return jax.nn.log_softmax(wide(self.readout(x)))


class EncoderLayer(nnx.Module):
    """Self-attention and a ReLU MLP, each added to its input and then normalised."""

    def __init__(self, config: NetworkConfig, **make: Any):
        width = config.width
        self.attention = nnx.MultiHeadAttention(
            config.heads,
            width,
            dropout_rate=config.dropout,
            broadcast_dropout=False,
            decode=False,
            keep_rngs=False,
            **make,
        )
        self.enter = nnx.Linear(width, config.expansion * width, **make)
        self.leave = nnx.Linear(config.expansion * width, width, **make)
        self.after_attention = nnx.LayerNorm(width, **make)
        self.after_mlp = nnx.LayerNorm(width, **make)
        self.dropout = nnx.Dropout(config.dropout)

    def __call__(self, x: Float[Array, "n L w"], rngs: nnx.Rngs | None) -> Float[Array, "n L w"]:
        def drop(y):
            return self.dropout(y, deterministic=rngs is None, rngs=rngs)

        x = self.after_attention(x + drop(self.attention(x, deterministic=rngs is None, rngs=rngs)))
        return self.after_mlp(x + drop(self.leave(drop(nnx.relu(self.enter(x))))))


def layer_dtype(config: NetworkConfig) -> Any:
    """The dtype of the layers; None, for float32, is that of their input, so that float64 stays float64."""
    return jnp.bfloat16 if config.dtype == "bfloat16" else None


def wide(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x` in float32 at least."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def time_embedding(t: Int[Array, " n"]) -> Float[Array, "n c"]:
    """Sines and cosines of t at geometric frequencies, `TIME_CHANNELS` in all (arXiv 1706.03762)."""
    half = TIME_CHANNELS // 2
    frequencies = LONGEST_PERIOD ** (-np.arange(half) / half)
    phase = t.astype(float)[:, None] * jnp.asarray(frequencies, float)[None]
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)


def root_mean_square_norm(x: Float[Array, "*batch w"]) -> Float[Array, "*batch w"]:
    """`x / sqrt(mean(x**2))` over the channels, the mean in float32 at least.

    The mean is a matrix product: XLA's CPU backend runs a sum over the last axis one number at a time.
    """
    width, y = x.shape[-1], wide(x)
    mean_square = jnp.matmul(y * y, jnp.full((width, 1), 1 / width, y.dtype), precision="highest")
    factor = jnp.matmul(jax.lax.rsqrt(mean_square + 1e-6), jnp.ones((1, width), y.dtype), precision="highest")
    return (y * factor).astype(x.dtype)
