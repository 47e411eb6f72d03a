"""The metagradient: what a trained network shows, derived by the weights of its training samples (arXiv 2503.13751).

The whole training is gone through backwards, a block of steps at a time. The states at the beginnings of all blocks are
kept; a block's own are made again when it is passed, and what a step computes, when the step is: of n steps, 2 sqrt(n)
states are alive. The optimizer must have a derivative where a gradient is zero (`smooth_adam`), and the derivative is
that of the training as it is, with its batches, its noise and the divisor of its loss: weight 0 leaves a sample out.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from hierdiff.learning.devices import over_networks
from hierdiff.learning.loop import Losses, TrainingSet, batch_gradient, make_step
from hierdiff.learning.train_config import TrainConfig


def block_length(steps: int) -> int:
    """The length of the blocks of a training: the largest divisor of its steps up to their square root."""
    return max(x for x in range(1, math.isqrt(steps) + 1) if steps % x == 0)


def make_pull(
    losses: Losses, transformation: optax.GradientTransformation, config: TrainConfig, levels: int, mesh: Mesh
) -> Callable[..., tuple[Any, Float[Array, "shares q P"]]]:
    """`(cotangents, state, data, key, first)`: derivatives by the state after a block, pulled back through the block.

    It gives those by the state before it, and those by the weights of the samples within it. A state is a pair of
    parameters and the optimizer's state; of cotangents, `(shares, q, ...)`, each share of `mesh` has some, which are
    done together. `data` and `key` are those of one network, and `first` is the first step of the block.
    """
    step_of = make_step(batch_gradient(losses, config, levels), transformation)

    def pull(cotangents, state, data, key, first):
        numbers, counts = parted(state)

        def after(weight, numbers):
            def step(state, i):
                return step_of(*state, data._replace(weight=weight), key, i)[1:], None

            steps = first + jnp.arange(block_length(config.steps))
            return parted(jax.lax.scan(jax.checkpoint(step), joined(numbers, counts), steps)[0])[0]

        _, back = jax.vjp(after, data.weight, numbers)
        of_weight, before = jax.vmap(back)(cotangents)
        return before, of_weight

    return jax.jit(over_networks(pull, mesh, stacked=1))


def metagradient(
    pull: Callable[..., tuple[Any, Array]],
    direct: Any,
    states: Sequence[tuple[int, Any]],
    data: TrainingSet,
    key: Array,
) -> Float[Array, "shares q P"]:
    """The derivatives of measures of the parameters at the end of the last block, by the weights of the samples.

    `direct` are those by the parameters, `(shares, q, ...)`, and `states` the first step and the state of each block.
    """
    (_, last), total = states[-1], jnp.zeros(())
    _, of_optimizer = parted(last)[0]
    ahead = jax.tree.leaves(direct)[0].shape[:2]
    cotangents = direct, jax.tree.map(lambda x: jnp.zeros((*ahead, *x.shape), x.dtype), of_optimizer)
    for first, state in reversed(states):
        cotangents, of_weight = pull(cotangents, state, data, key, first)
        total = of_weight if total.ndim == 0 else total + of_weight
    return total


def parted(state: Any) -> tuple[Any, Any]:
    """What of a state has a derivative, and its counts of steps; each has None where the other has an array."""
    real = jax.tree.map(lambda x: jnp.issubdtype(x.dtype, jnp.inexact), state)
    return (
        jax.tree.map(lambda x, is_real: x if is_real else None, state, real),
        jax.tree.map(lambda x, is_real: None if is_real else x, state, real),
    )


def joined(numbers: Any, counts: Any) -> Any:
    return jax.tree.map(lambda x, count: count if x is None else x, numbers, counts, is_leaf=lambda x: x is None)
