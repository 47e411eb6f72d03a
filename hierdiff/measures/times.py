"""Noise levels at which samples are measured, on average over all levels: stratified within each group of samples.

A bootstrap of groups then sees the spread that stratification leaves, and no more.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hierdiff.keys import key_for
from hierdiff.statistics.groups import GROUPS, group_sizes


def any_times(key: Array, n: int, levels: int, groups: int = GROUPS, distinct: int = 0) -> Int[Array, " n"]:
    """Noise levels 1..levels for `n` samples, each uniform; m samples of a group have one in each m-th of the range.

    They are in random order within each group, and groups are independent. With `distinct` there are no more than so
    many, one drawn in each such part of the range for all groups. Consumes `key`.
    """
    below = jnp.floor(_stratified(key, n, groups, distinct) * levels).astype(jnp.int32)
    return jnp.minimum(below + 1, levels)


def times_of_bound(key: Array, n: int, levels: int, distinct: int = 0) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """The same at levels of probability p(t), and 1/p(t): the mean of terms, so weighted, is their sum over t.

    Half of the probability is uniform and half falls as 1/t: under Gaussian noise the first terms are the largest.
    Consumes `key`.
    """
    t = np.arange(1, levels + 1)
    p = 0.5 / levels + 0.5 / (t * (1 / t).sum())
    drawn = jnp.searchsorted(jnp.asarray(np.cumsum(p), float), _stratified(key, n, GROUPS, distinct))
    drawn = jnp.minimum(drawn, levels - 1)
    return drawn.astype(jnp.int32) + 1, jnp.asarray(1 / p, float)[drawn]


def _stratified(key: Array, n: int, groups: int, distinct: int) -> Float[Array, " n"]:
    """Numbers from 0 to 1, one in each m-th for the m samples of a group, all shifted by a number of the group's.

    With `distinct`, each becomes the one that is drawn for all in its part of the range.
    """
    sizes = group_sizes(n, groups)
    group = np.repeat(np.arange(groups), sizes)
    number = jnp.asarray(np.arange(n) - (np.cumsum(sizes) - sizes)[group])
    order = jnp.lexsort((jax.random.uniform(key_for(key, "order"), (n,)), jnp.asarray(group)))
    shift = jax.random.uniform(key_for(key, "shift"), (groups,))[group]
    drawn = (number[order].astype(float) + shift) / jnp.asarray(sizes[group], float)
    if not distinct:
        return drawn
    part = jnp.minimum(jnp.floor(drawn * distinct).astype(jnp.int32), distinct - 1)
    return (part.astype(float) + jax.random.uniform(key_for(key, "parts"), (distinct,))[part]) / distinct
