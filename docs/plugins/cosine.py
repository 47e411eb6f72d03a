"""A process of one's own: Gaussian noise with the cosine schedule of arXiv 2102.09672.

python -m experiments.onset --plugin cosine --process cosine
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from hierdiff.noising import Gaussian


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Gaussian):
    """As `Gaussian`, but for the share of the signal's variance that is left at each level."""

    name = "cosine"

    @property
    def alpha_bar(self):
        share = np.cos((np.arange(self.levels + 1) / self.levels + 0.008) / 1.008 * np.pi / 2) ** 2
        beta = np.minimum(1 - share[1:] / share[:-1], 0.999)
        return jnp.asarray(np.cumprod(1 - beta), float)


PROCESSES = {"cosine": Cosine}
