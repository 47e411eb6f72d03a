"""A network of one's own: an MLP of each leaf alone, which can learn no more than height 0 of the tree.

python -m experiments.onset --plugin per_leaf --network per_leaf --hidden 64
"""

import dataclasses

import jax.numpy as jnp
from flax import nnx

from hierdiff.errors import option
from hierdiff.learning.layers import TIME_CHANNELS, split, time_embedding
from hierdiff.learning.network import NetworkConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerLeafConfig(NetworkConfig):
    """Network: an MLP of each leaf."""

    module = __name__

    hidden: int = option(64, "hidden channels", least=1, most=65_536)


class PerLeaf(nnx.Module):
    """Log p(x_0,i | x_t,i) of each leaf i, up to a constant, from its numbers and the noise level."""

    def __init__(self, config, channels, vocab, rngs):
        self.enter = nnx.Linear(channels + TIME_CHANNELS, config.hidden, rngs=rngs)
        self.leave = nnx.Linear(config.hidden, vocab, rngs=rngs)

    def __call__(self, x, t, rngs):
        time = jnp.broadcast_to(time_embedding(t)[:, None], (*x.shape[:2], TIME_CHANNELS))
        hidden = nnx.silu(self.enter(jnp.concatenate([x, time], -1)))
        return self.leave(hidden)


def build(config, *, channels, vocab, depth, branching):
    """The network, for any number of leaves."""
    return split(lambda rngs: PerLeaf(config, channels, vocab, rngs))


NETWORKS = {"per_leaf": PerLeafConfig}
