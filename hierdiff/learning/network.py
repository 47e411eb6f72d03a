"""What a network is, which there are, and their options.

A network is a pair of pure functions, made from a flax NNX module that is split once: `init(key)` gives its parameters,
and `forward(params, x, t, key)` runs it (`key` feeds the dropout, None turns it off). Of symbols, x is what
`process.encode` makes of x_t, `(n, L, channels)`, and the answer `log p(x_0 | x_t)`, `(n, L, v)`; of images, x is x_t
itself and the answer the noise in it.
"""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierdiff.errors import option, require, require_counts
from hierdiff.noising.process import Denoiser, Process


class Network(NamedTuple):
    """The two functions of a network; both are pure and can be jitted and vmapped."""

    init: Callable[[Array], Any]
    forward: Callable[[Any, Array, Array, Array | None], Array]


def network_log_posterior(network: Network, process: Process) -> Callable[..., Float[Array, "n L v"]]:
    """`(params, x_t, t, key) -> log p(x_0 | x_t)`; where x_t shows a symbol, that is the answer."""

    def log_posterior(params: Any, x_t: Array, t: int | Int[Array, "*n"], key: Array | None = None) -> Array:
        t = jnp.broadcast_to(jnp.asarray(t, jnp.int32), len(x_t))
        log_f = network.forward(params, process.encode(x_t), t, key)
        return jnp.where(process.known(x_t)[..., None], process.log_likelihood(x_t, t), log_f)

    return log_posterior


def network_denoiser(network: Network, process: Process, params: Any) -> Denoiser:
    """A network with its weights, a pytree."""
    log_posterior = network_log_posterior(network, process)
    return lambda x_t, t: jnp.exp(log_posterior(params, x_t, t))


class NetworkConfig:
    """What the configs of all networks have in common: the module that builds what they stand for."""

    module: ClassVar[str]

    def build(self, *sizes: int, **named: int) -> Network:
        """The network for data of these sizes; flax is imported here, and not before."""
        return importlib.import_module(self.module).build(self, *sizes, **named)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SymbolNetworkConfig(NetworkConfig):
    """What the networks for symbols have in common."""

    width: int = option(48, "channels of a symbol, and of every node of a tree")
    expansion: int = option(4, "hidden channels of an MLP, in multiples of width")
    dtype: Literal["float32", "bfloat16"] = option(
        "float32", "numbers of the layers' products and states; weights, averages and losses are float32"
    )

    def __post_init__(self):
        require_counts(self, "width", "expansion")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TreeConfig(SymbolNetworkConfig):
    """Network: a U-Net on the tree of the data."""

    module = "hierdiff.learning.tree"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig(SymbolNetworkConfig):
    """Network: the encoder of arXiv 2603.03469."""

    module = "hierdiff.learning.transformer"

    layers: int = option(4, "encoder layers")
    heads: int = option(4, "attention heads")
    dropout: float = option(0.0, "share of activations dropped in training")

    def __post_init__(self):
        super().__post_init__()
        require_counts(self, "layers", "heads")
        require(self.width % self.heads == 0, "heads", self.heads, f"a divisor of the width, {self.width}")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "a number from 0 to below 1")


# Channels that the U-Net normalises together.
NORM_CHANNELS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig(NetworkConfig):
    """U-Net."""

    module = "hierdiff.learning.unet"

    channels: int = option(16, "channels on the finest grid, which double from grid to coarser grid")
    grids: int = option(3, "grids, each half as fine as the one before")
    blocks: int = option(1, "residual blocks on each grid, down and up")
    heads: int = option(2, "attention heads on the coarsest grid")

    def __post_init__(self):
        require_counts(self, "channels", "grids", "blocks", "heads")
        require(self.channels % NORM_CHANNELS == 0, "channels", self.channels, f"a multiple of {NORM_CHANNELS}")
        widest = self.channels * 2 ** (self.grids - 1)
        require(widest % self.heads == 0, "heads", self.heads, f"a divisor of the widest grid's channels, {widest}")

    def require_side(self, side: int) -> None:
        """Raise `OptionError` unless images of so many pixels a side can be halved once for each coarser grid."""
        least = 2 ** (self.grids - 1)
        require(side % least == 0, "side", side, f"a multiple of {least}, for {self.grids} grids")


# The networks for sequences, by the names of their options.
NETWORKS: dict[str, type[NetworkConfig]] = {"tree": TreeConfig, "transformer": TransformerConfig}
