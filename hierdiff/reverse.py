"""Reverse diffusion and U-turns with any denoiser, a function `(x_t, t) -> p(x_0 | x_t)`.

A denoiser is a network, the exact posterior, BP_k, a window posterior or the empirical posterior alike.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hierdiff.grammar import Grammar
from hierdiff.networks import Network
from hierdiff.noising import Schedule, corrupt, leaf_log_likelihood
from hierdiff.options import require
from hierdiff.posterior import leaf_posterior

Denoiser = Callable[[Array, Array], Array]


def respaced(start: int, steps: int) -> Int[np.ndarray, " steps"]:
    """At most `steps` noise levels from `start` down to 1, evenly spaced; all of them where there are no more."""
    require(steps >= 1, "steps", steps, "an integer of at least 1")
    require(start >= 1, "start", start, "an integer of at least 1")
    return np.unique(np.rint(np.linspace(start, 1, min(steps, start))).astype(np.int32))[::-1]


def reverse(
    key: Array,
    denoiser: Denoiser,
    schedule: Schedule,
    x: Float[Array, "n L v"],
    times: Int[np.ndarray | Array, " steps"],
    **options,
) -> Int[Array, "n L"]:
    """The likeliest symbol of each leaf in what `reverse_mean` makes of `x`; options as there."""
    return reverse_mean(key, denoiser, schedule, x, times, **options).argmax(-1).astype(jnp.int32)


def reverse_mean(
    key: Array,
    denoiser: Callable[[Array, Array], Array],
    schedule: Schedule,
    x: Float[Array, "n L v"],
    times: Int[np.ndarray | Array, " steps"],
    *,
    first: int | Array = 0,
    deterministic: bool = False,
    batch: int = 512,
) -> Float[Array, "n L v"]:
    """What reverse diffusion makes of `x` at noise level `times[0]`, through the decreasing levels `times`.

    Each step draws from the Gaussian posterior q(x_s | x_t, x_0) at x_0 = p(x_0 | x_t) (arXiv 2006.11239, eq. 7, at
    neighbours s < t of the list), or follows its deterministic variant (arXiv 2010.02502, eq. 12 with eta = 0). The
    last step goes to s = 0, where E[x_0 | x_t] is left. A denoiser of images, `(x_t, t) -> E[x_0 | x_t]` of shape
    `(n, side, side)`, will do as well.

    The noise of a step depends on `key`, the number of the sequence, counted from `first`, and the step: whatever the
    denoiser and the split into batches, sequence i meets the same noise. Jit it as a part of a program, in which it is
    one scan over the steps for each of the batches, with arrays of at most `batch` sequences alive at a time.
    """
    times = jnp.asarray(times, jnp.int32)
    alpha_bar = schedule.alpha_bar[times - 1]
    ab_next = jnp.append(alpha_bar[1:], 1.0).astype(alpha_bar.dtype)
    n = len(x)
    # Of equal sizes, so that little is padded.
    batch = -(-n // -(-n // batch))
    padding = -n % batch
    numbers = first + jnp.arange(n + padding, dtype=jnp.uint32)

    def of_batch(part):
        keys, x_start = part

        def step(x_t, now):
            i, t, ab_t, ab_s = now
            x_0 = denoiser(x_t, jnp.full(batch, t))
            if deterministic:
                noise = (x_t - jnp.sqrt(ab_t) * x_0) / jnp.sqrt(1 - ab_t)
                return jnp.sqrt(ab_s) * x_0 + jnp.sqrt(1 - ab_s) * noise, None
            noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, i), x.shape[1:], x.dtype))(keys)
            kept = ab_t / ab_s
            of_x_0 = jnp.sqrt(ab_s) * (1 - kept) / (1 - ab_t)
            of_x_t = jnp.sqrt(kept) * (1 - ab_s) / (1 - ab_t)
            spread = jnp.sqrt((1 - kept) * (1 - ab_s) / (1 - ab_t))
            return of_x_0 * x_0 + of_x_t * x_t + spread * noise, None

        end, _ = jax.lax.scan(step, x_start, (jnp.arange(len(times)), times, alpha_bar, ab_next))
        return end

    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(numbers).reshape(-1, batch)
    starts = jnp.pad(x, ((0, padding), (0, 0), (0, 0))).reshape(-1, batch, *x.shape[1:])
    return jax.lax.map(of_batch, (keys, starts)).reshape(n + padding, *x.shape[1:])[:n]


def u_turn(
    key: Array,
    denoiser: Denoiser,
    schedule: Schedule,
    tokens: Int[Array, "n L"],
    vocab: int,
    times: Int[np.ndarray | Array, " steps"],
    *,
    first: int | Array = 0,
    **options,
) -> Int[Array, "n L"]:
    """Noise `tokens` to the level `times[0]` and reverse them; options as for `reverse`. Consumes `key`.

    The noise there and back depends on the key and the number of the sequence: every denoiser meets the same.
    """
    there_key, back_key = jax.random.split(key)
    alpha_bar = schedule.alpha_bar[jnp.asarray(times)[0] - 1]
    keys = jax.vmap(lambda i: jax.random.fold_in(there_key, i))(first + jnp.arange(len(tokens), dtype=jnp.uint32))
    x_t = jax.vmap(lambda key, row: corrupt(key, row[None], alpha_bar, vocab)[0])(keys, tokens)
    return reverse(back_key, denoiser, schedule, x_t, times, first=first, **options)


def exact_denoiser(grammar: Grammar, schedule: Schedule, *, filtered: int = 0) -> Denoiser:
    """The exact posterior, or its filtered version BP_k."""

    def denoiser(x_t, t):
        return leaf_posterior(grammar, leaf_log_likelihood(x_t, schedule.alpha_bar[t - 1]), filtered=filtered)

    return denoiser


def network_denoiser(network: Network, params: Any) -> Denoiser:
    """A network with its weights, a pytree."""
    return lambda x_t, t: jnp.exp(network.log_posterior(params, x_t, t, None))
