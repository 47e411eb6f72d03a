"""The level spectrum: a squared error of posteriors, split exactly over the heights of the tree.

For height h let F_h be what x_t says on the height-h block around leaf i, `d_h f = E[f | F_h] - E[f | F_(h-1)]` and
`D_h = w_h - w_(h-1)` with the window posteriors w_h; h = -1 is the prior level, where F says nothing. The increments
are orthogonal, so with `e = f - w` for the exact posterior w

    E|f - w|^2 = sum_h E|d_h f - D_h|^2,
    mean over A, B of E|d_h e|^2 = E<d_h e_A, d_h e_B> + E|d_h (f_A - f_B)|^2 / 2:

at each height, the error of two networks is a part common to all data sets (not yet learned) and a data-dependent part
(bias towards the own sample). All of it is in the products `E<d_h e_A, d_h e_B>` of all pairs of networks.

They are differences of `E<E[e_A | F_h], E[e_B | F_h]> = E<e_A(x), e_B(x')>` on the block, where x' shares the block's
x_t and draws all the rest anew (`sampling.complete`). An exact denoiser has zero error at each height, to the bit.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierdiff.grammar import Grammar
from hierdiff.noising import Schedule, leaf_log_likelihood
from hierdiff.options import require
from hierdiff.posterior import leaf_posterior, window_posterior
from hierdiff.sampling import complete, in_block


class SpectrumProbe(NamedTuple):
    """Noised sequences at one noise level, with the completions of a random block of each height 0..depth-1.

    `windows[h + 1]` is w_h on `x_t`, `completed_exact[h]` the exact posterior on `completed[h]`, and `weight[h]` the
    number of blocks of height h on the leaves of the chosen one, 0 elsewhere.
    """

    t: Int[Array, " n"]
    x_t: Float[Array, "n L v"]
    windows: Float[Array, "heights n L v"]
    completed: Float[Array, "depth n L v"]
    completed_exact: Float[Array, "depth n L v"]
    weight: Float[Array, "depth n L"]


@jax.jit
def make_spectrum_probe(
    key: Array, grammar: Grammar, schedule: Schedule, x_t: Float[Array, "n L v"], t: Int[Array, " n"]
) -> SpectrumProbe:
    """Complete one random block of each height of each sequence. Consumes `key`."""
    alpha_bar = schedule.alpha_bar[t - 1]
    ll = leaf_log_likelihood(x_t, alpha_bar)
    heights = range(grammar.depth)
    blocks = [grammar.branching ** (grammar.depth - height) for height in heights]
    block_key, rest_key = jax.random.split(key)
    # Blocks of a taller height hold those of a lower one: one uniform number for each sequence places them all.
    place = jax.random.randint(block_key, (len(x_t),), 0, grammar.leaves)
    positions = [place // grammar.branching**height for height in heights]
    keys = jax.random.split(rest_key, grammar.depth)
    completed = [complete(keys[h], grammar, x_t, alpha_bar, height=h, position=positions[h]) for h in heights]
    windows = [window_posterior(grammar, ll, height=height) for height in range(-1, grammar.depth + 1)]
    exact = [leaf_posterior(grammar, leaf_log_likelihood(x, alpha_bar)) for x in completed]
    weight = [blocks[h] * in_block(grammar, h, positions[h]).astype(x_t.dtype) for h in heights]
    return SpectrumProbe(t, x_t, *map(jnp.stack, (windows, completed, exact, weight)))


def level_spectrum(
    f: Float[Array, "S n L v"],
    posteriors: Callable[[Array, Array], Float[Array, "S n L v"]],
    probe: SpectrumProbe,
    *,
    groups: int,
) -> Float[Array, "heights S S groups"]:
    """`E<d_h e_A, d_h e_B>` of S denoisers, h = -1..depth, in squared units a sequence.

    `posteriors(x_t, t)` runs the denoisers, and `f` is what they give on the probe's `x_t`. The estimates are means
    over each of `groups` groups of sequences, independent of each other. The diagonal is each denoiser's error at
    height h, and the sum over h is the group's mean of <e_A, e_B>, exactly.
    """
    size = len(probe.t) // groups
    require(size >= 2 and size * groups == len(probe.t), "groups", groups, f"a divisor of {len(probe.t)}, and less")

    def products(a, b, weight):
        cross = jnp.einsum("anlv,bnlv,nl->abn", a, b, weight, precision="highest")
        return 0.5 * (cross + cross.swapaxes(0, 1)).reshape(*cross.shape[:2], groups, size).mean(-1)

    error = f - probe.windows[-1][None]

    def on_blocks(completion):
        x, exact, weight = completion
        return products(error, posteriors(x, probe.t) - exact[None], weight)

    blocks = jax.lax.map(on_blocks, (probe.completed, probe.completed_exact, probe.weight))
    whole = products(error, error, jnp.ones_like(probe.weight[0]))
    # Without a block every other sequence is a completion.
    grouped = error.reshape(len(error), groups, size, *error.shape[2:])
    others = ((grouped.sum(2, keepdims=True) - grouped) / (size - 1)).reshape(error.shape)
    prior = products(error, others, jnp.ones_like(probe.weight[0]))
    cumulative = jnp.concatenate([prior[None], blocks, whole[None]])
    return jnp.concatenate([cumulative[:1], jnp.diff(cumulative, axis=0)])


def learned_products(
    f: Float[Array, "S n L v"], probe: SpectrumProbe
) -> tuple[Float[Array, "heights S n"], Float[Array, "heights n"]]:
    """`<f, D_h>` and `|D_h|^2` at each sequence: the ratio of their means is the learned fraction of height h."""
    increments = jnp.concatenate([probe.windows[:1], jnp.diff(probe.windows, axis=0)])
    return (
        jnp.einsum("snlv,hnlv->hsn", f, increments, precision="highest"),
        jnp.square(increments).sum((-1, -2)),
    )
