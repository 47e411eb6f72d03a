"""The inputs on which networks are measured: drawn once, and shared by all networks and checkpoints."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hierdiff.grammar import Grammar
from hierdiff.noising import Schedule, corrupt, leaf_log_likelihood
from hierdiff.options import option, require
from hierdiff.posterior import leaf_posterior
from hierdiff.training import stratified_times

# Measurements are kept as means over so many groups of sequences, which are what a bootstrap resamples.
GROUPS = 50


def require_groups(name: str, sequences: int, *, each: int = 1) -> None:
    """Raise `OptionError` unless the sequences make groups of one size, of at least `each` sequences."""
    good = sequences >= each * GROUPS and sequences % GROUPS == 0
    require(good, name, sequences, f"a multiple of {GROUPS}, and at least {each * GROUPS}")


def require_shares(name: str, shares: tuple[float, ...]) -> None:
    """Raise `OptionError` unless these are distinct noise levels t/T."""
    good = all(0 < share <= 1 for share in shares) and len(set(shares)) == len(shares)
    require(good, name, shares, "distinct numbers above 0 and up to 1")


def require_noise(noise: tuple[float, ...], onset_noise: float) -> None:
    """Raise `OptionError` unless `noise` are distinct noise levels t/T, with that of the onset among them."""
    require_shares("noise", noise)
    require(onset_noise in noise, "onset_noise", onset_noise, f"one of the noise levels {noise}")


def require_levels(name: str, shares: tuple[float, ...], levels: int) -> None:
    """Raise `OptionError` unless these shares are distinct ones of so many noise levels."""
    chosen = [noise_level(share, levels) for share in shares]
    need = f"values that are distinct among the {levels} noise levels, not {chosen}"
    require(min(chosen) >= 1 and len(set(chosen)) == len(chosen), name, shares, need)


def require_size(name: str, sequences: int, size: int) -> None:
    """Raise `OptionError` unless a data set of `size` sequences holds so many."""
    require(sequences <= size, name, sequences, f"at most the size of a data set, {size}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """Measurement."""

    held_out: int = option(800, f"held-out sequences on which the networks are measured, a multiple of {GROUPS}")
    members: int = option(
        100, f"training sequences of each set on which the networks are measured, a multiple of {GROUPS}"
    )
    noise: tuple[float, ...] = option((0.05, 0.08, 0.1, 0.15, 0.2, 0.3), "noise levels, as shares t/T")
    onset_noise: float = option(0.15, "the noise level t/T at which the sample split defines the onset")

    def __post_init__(self):
        require_groups("held_out", self.held_out, each=2)
        require_groups("members", self.members)
        require_noise(self.noise, self.onset_noise)


class Probe(NamedTuple):
    """Noised sequences at N + 1 noise levels, with BP_k, for each k that was asked for, in `exact[:, i]`.

    The first N are the levels asked for; in the last, t is uniform on 1..T, stratified over the sequences, so that a
    mean over it is the mean over the noise that training sees.
    """

    leaves: Int[Array, "n L"]
    t: Int[Array, "levels n"]
    x_t: Float[Array, "levels n L v"]
    exact: Float[Array, "levels k n L v"]

    def part(self, sequences: slice) -> "Probe":
        """The probe of some of the sequences."""
        return Probe(self.leaves[sequences], self.t[:, sequences], self.x_t[:, sequences], self.exact[:, :, sequences])


def noise_level(share: float, levels: int) -> int:
    """The level t in 1..levels nearest to the share t/T."""
    return round(share * levels)


@functools.partial(jax.jit, static_argnames=("n", "noise", "levels"))
def probe_times(key: Array, n: int, noise: tuple[float, ...], levels: int) -> Int[Array, "levels n"]:
    """The noise level of each sequence: each t/T of `noise` in turn, and uniform t. Consumes `key`."""
    fixed = [jnp.full(n, noise_level(share, levels), jnp.int32) for share in noise]
    order_key, time_key = jax.random.split(key)
    return jnp.stack([*fixed, jax.random.permutation(order_key, stratified_times(time_key, n, levels))])


@functools.partial(jax.jit, static_argnames="filtered")
def make_probe(
    key: Array,
    grammar: Grammar,
    schedule: Schedule,
    leaves: Int[Array, "n L"],
    t: Int[Array, "levels n"],
    *,
    filtered: tuple[int, ...],
) -> Probe:
    """Noise `leaves` at the levels `t`, and compute BP_k for each k of `filtered`. Consumes `key`."""
    alpha_bar = schedule.alpha_bar[t - 1].ravel()
    x_t = corrupt(key, jnp.tile(leaves, (len(t), 1)), alpha_bar, grammar.vocab)
    ll = leaf_log_likelihood(x_t, alpha_bar)
    exact = [leaf_posterior(grammar, ll, filtered=k) for k in filtered]
    of_levels = [x.reshape(len(t), *leaves.shape, grammar.vocab) for x in (x_t, *exact)]
    return Probe(leaves, t, of_levels[0], jnp.stack(of_levels[1:], axis=1))


def in_groups(x: Array | np.ndarray) -> Any:
    """Means over the groups of sequences, the last axis: `(..., n)` becomes `(..., groups)`."""
    return x.reshape(*x.shape[:-1], GROUPS, -1).mean(-1)
