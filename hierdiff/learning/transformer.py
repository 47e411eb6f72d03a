"""The Transformer of arXiv 2603.03469."""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, Int

from hierdiff.learning.layers import TIME_CHANNELS, Label, Linear, layer_dtype, layer_norm, split, time_embedding, wide
from hierdiff.learning.network import Network, TransformerConfig


def build(
    config: TransformerConfig,
    *,
    channels: int,
    vocab: int,
    depth: int,
    branching: int,
    labels: int = 0,
    label_level: int = 0,
) -> Network:
    """The network of `config`, for `branching**depth` tokens, and so many labels, each of a block of them."""
    return split(lambda rngs: Transformer(config, channels, vocab, branching**depth, labels, rngs))


class Transformer(nnx.Module):
    """The encoder of arXiv 2603.03469: post-norm, learned positions, the time embedding added once.

    So is that of a label, to the tokens below its node.
    """

    def __init__(self, config: TransformerConfig, channels: int, vocab: int, leaves: int, labels: int, rngs: nnx.Rngs):
        make = {"dtype": layer_dtype(config.dtype), "rngs": rngs}
        self.embed = Linear(channels, config.width, **make)
        self.time = Linear(TIME_CHANNELS, config.width, **make)
        self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, leaves, config.width)))
        self.layers = nnx.List([EncoderLayer(config, **make) for _ in range(config.layers)])
        self.readout = Linear(config.width, vocab, **make)
        if labels:
            self.label = Label(labels, config.width, **make)

    def __call__(
        self,
        x_t: Float[Array, "n L c"],
        t: Int[Array, " n"],
        rngs: nnx.Rngs | None = None,
        labels: Int[Array, "n nodes"] | None = None,
    ) -> Float[Array, "n L v"]:
        x = self.embed(x_t)
        x = x + self.position[...].astype(x.dtype) + self.time(time_embedding(t))[:, None]
        if labels is not None:
            x = x + self.label(labels).repeat(x.shape[1] // labels.shape[1], 1)
        for layer in self.layers:
            x = layer(x, rngs)
        return wide(self.readout(x))


class EncoderLayer(nnx.Module):
    """Self-attention and a ReLU MLP, each added to its input and then normalised."""

    def __init__(self, config: TransformerConfig, **make: Any):
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
        self.enter = Linear(width, config.expansion * width, **make)
        self.leave = Linear(config.expansion * width, width, **make)
        self.after_attention = nnx.LayerNorm(width, **make)
        self.after_mlp = nnx.LayerNorm(width, **make)
        self.dropout = nnx.Dropout(config.dropout)

    def __call__(self, x: Float[Array, "n L w"], rngs: nnx.Rngs | None) -> Float[Array, "n L w"]:
        def drop(y):
            return self.dropout(y, deterministic=rngs is None, rngs=rngs)

        attended = self.attention(x, deterministic=rngs is None, rngs=rngs)
        x = layer_norm(self.after_attention, x + drop(attended))
        return layer_norm(self.after_mlp, x + drop(self.leave(drop(nnx.relu(self.enter(x))))))
