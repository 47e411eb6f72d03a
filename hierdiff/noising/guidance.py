"""Guidance (arXiv 2207.12598): a denoiser made of one that is told the labels and one that is not."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from hierdiff.errors import require
from hierdiff.noising.process import Denoiser, Process


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guidance:
    """The weight w at noise levels t/T from `low` to `high`, and another one at all others; at 0 nothing is guided."""

    weight: float
    low: float = 0.0
    high: float = 1.0
    elsewhere: float = 0.0

    def __post_init__(self):
        require(0 <= self.low < self.high <= 1, "low", self.low, f"a share t/T from 0 to below {self.high}, at most 1")

    def at(self, t: Any, levels: int) -> Float[Array, "#n"]:
        """The weight at each level t of so many."""
        share = jnp.atleast_1d(jnp.asarray(t, float)) / levels
        return jnp.where((share >= self.low) & (share <= self.high), self.weight, self.elsewhere)


def guide(process: Any, conditional: Array, unconditional: Array, weight: float | Float[Array, "#n"]) -> Any:
    """What `process.step` takes in place of p(x_0 | x_t): the two answers, with labels and without, mixed by a weight.

    Raises:
      ValueError: the process, one's own, has no `guide(conditional, unconditional, weight)`.
    """
    need = "one with a method `guide(conditional, unconditional, weight)`, as Gaussian, Masking and Uniform have"
    require(hasattr(process, "guide"), "process", process.name, need)
    return process.guide(conditional, unconditional, weight)


def guided(
    process: Process, conditional: Denoiser, unconditional: Denoiser, guidance: Guidance
) -> Callable[[Array, Any], Any]:
    """What guides reverse diffusion: `(1 + w) f_c - w f_u` of Gaussian noise, `f_c^(1 + w) f_u^(-w)` of discrete.

    The same formula of the exact posteriors with and without labels is the exact guided reference: what guidance makes
    of the exact model is no memory.
    """

    def denoiser(x_t, t):
        return guide(process, conditional(x_t, t), unconditional(x_t, t), guidance.at(t, process.levels))

    return denoiser
