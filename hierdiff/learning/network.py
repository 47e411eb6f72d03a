"""What a network is, which there are, and their options.

A network is a pair of pure functions, made from a flax NNX module that is split once: `init(key)` gives its parameters,
and `forward(params, x, t, key)` runs it (`key` feeds the dropout, None turns it off). Of symbols, x is what
`process.encode` makes of x_t, `(n, L, channels)`, and the answer, `(n, L, v)`, is log p(x_0 | x_t) up to a constant of
the leaf, or the noise or v; of images, x is x_t itself and the answer the noise in it. Networks that are built for
labels take them as a last argument: integers, of the nodes of one level of the tree, `(n, branching**level)`, -1 where
there is none.
"""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

from hierdiff.errors import Options, option, require

WIDEST = 2**16


class Network(NamedTuple):
    """The two functions of a network; both are pure and can be jitted and vmapped.

    Of symbols, it `predicts` x_0, by log-probabilities, or, under Gaussian noise, the noise or v (`Gaussian.x_0_of`).
    """

    init: Callable[[Any], Any]
    forward: Callable[..., Any]
    predicts: Literal["x0", "noise", "v"] = "x0"


class NetworkConfig(Options):
    """What the configs of all networks have in common: the module that builds what they stand for."""

    module: ClassVar[str]

    def build(self, *sizes: int, **named: int) -> Network:
        """The network for data of these sizes; flax is imported here, and not before."""
        return importlib.import_module(self.module).build(self, *sizes, **named)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SymbolNetworkConfig(NetworkConfig):
    """What the networks for symbols have in common."""

    width: int = option(32, "channels of a symbol, and of every node of a tree", least=1, most=WIDEST)
    expansion: int = option(4, "hidden channels of an MLP, in multiples of width", least=1, most=256)
    dtype: Literal["float32", "bfloat16"] = option(
        "float32", "numbers of the layers' products and states; weights, averages and losses are float32"
    )
    dropout: float = option(0.0, "share of activations dropped in training", least=0, below=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TreeConfig(SymbolNetworkConfig):
    """Network: a U-Net on the tree of the data."""

    module = "hierdiff.learning.tree"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig(SymbolNetworkConfig):
    """Network: the encoder of arXiv 2603.03469."""

    module = "hierdiff.learning.transformer"

    layers: int = option(4, "encoder layers", least=1, most=1000)
    heads: int = option(4, "attention heads", least=1, most=WIDEST)

    def __post_init__(self):
        super().__post_init__()
        require(self.width % self.heads == 0, "heads", self.heads, f"a divisor of the width, {self.width}")


# Channels that the U-Net normalises together.
NORM_CHANNELS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig(NetworkConfig):
    """U-Net."""

    module = "hierdiff.learning.unet"

    channels: int = option(
        16, "channels on the finest grid, which double from grid to coarser grid", least=NORM_CHANNELS, most=WIDEST
    )
    grids: int = option(3, "grids, each half as fine as the one before", least=1, most=11)
    blocks: int = option(1, "residual blocks on each grid, down and up", least=1, most=1000)
    heads: int = option(2, "attention heads on the coarsest grid", least=1, most=WIDEST)

    def __post_init__(self):
        super().__post_init__()
        require(self.channels % NORM_CHANNELS == 0, "channels", self.channels, f"a multiple of {NORM_CHANNELS}")
        widest = self.channels * 2 ** (self.grids - 1)
        require(widest % self.heads == 0, "heads", self.heads, f"a divisor of the widest grid's channels, {widest}")

    def require_side(self, side: int) -> None:
        """Raise `OptionError` unless images of so many pixels a side can be halved once for each coarser grid."""
        least = 2 ** (self.grids - 1)
        require(side % least == 0, "side", side, f"a multiple of {least}, for {self.grids} grids")


# The networks for sequences, by the names of their options.
NETWORKS: dict[str, type[NetworkConfig]] = {"tree": TreeConfig, "transformer": TransformerConfig}
