"""Reverse diffusion and U-turns of any process, with any denoiser.

A denoiser is a network, the exact posterior, BP_k, a window posterior or the memorizer alike.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from hierdiff.errors import require
from hierdiff.keys import key_for, keys_of
from hierdiff.noising.process import Denoiser, Process, corrupt_each


def respaced(start: int, steps: int) -> Int[np.ndarray, " steps"]:
    """At most `steps` noise levels from `start` down to 1, evenly spaced; all of them where there are no more.

    Examples:
      >>> hd.respaced(500, 5)
      array([500, 375, 250, 126,   1], dtype=int32)
    """
    require(steps >= 1, "steps", steps, "an integer of at least 1")
    require(start >= 1, "start", start, "an integer of at least 1")
    return np.unique(np.rint(np.linspace(start, 1, min(steps, start))).astype(np.int32))[::-1]


def reverse(
    key: Array, denoiser: Denoiser, process: Process, x: Array, times: Int[np.ndarray | Array, " steps"], **options: Any
) -> Int[Array, "n L"]:
    """The symbols that `reverse_state` makes of `x`; options as there.

    Examples:
      Of a grammar that can produce 0 1 and 1 0 alone.

      >>> grammar, process = hd.grammar_from_rules([[[[0, 1]], [[1, 0]]]]), hd.Masking(vocab=2, levels=10)
      >>> start = process.start(jax.random.split(jax.random.key(0), 50), leaves=2)
      >>> denoiser = hd.exact_denoiser(grammar, process)
      >>> new = hd.reverse(jax.random.key(1), denoiser, process, start, hd.respaced(10, 10))
      >>> new.shape
      (50, 2)
    """
    return process.decode(reverse_state(key, denoiser, process, x, times, **options))


def reverse_state(
    key: Array,
    denoiser: Denoiser,
    process: Process,
    x: Array,
    times: Int[np.ndarray | Array, " steps"],
    *,
    end: int = 0,
    first: int | Array = 0,
    batch: int = 512,
    **options: Any,
) -> Array:
    """The state at level `end` that reverse diffusion makes of `x` at level `times[0]`, through the decreasing `times`.

    Each step is the process's own, at neighbours s < t of the list, and takes its `options`; the last goes to `end`.
    A denoiser of data that are no symbols, `(x_t, t) -> E[x_0 | x_t]`, will do as well.

    The noise of a step depends on `key`, the number of the sequence, counted from `first`, and the step: whatever the
    denoiser and the split into batches, sequence i meets the same noise. Jit it as a part of a program, in which it is
    one scan over the steps for each of the batches, with arrays of at most `batch` sequences alive at a time.
    """
    times = jnp.asarray(times, jnp.int32)
    following = jnp.append(times[1:], end)
    n = len(x)
    # Of equal sizes, so that little is padded.
    batch = -(-n // -(-n // batch)) if n else 1
    padding = -n % batch
    numbers = first + jnp.arange(n + padding, dtype=jnp.uint32)

    def of_batch(part):
        keys, x_start = part

        def step(x_t, now):
            i, t, s = now
            of_step = jax.vmap(lambda key: jax.random.fold_in(key, i))(keys)
            return process.step(of_step, x_t, t, s, denoiser(x_t, jnp.full(batch, t)), **options), None

        last, _ = jax.lax.scan(step, x_start, (jnp.arange(len(times)), times, following))
        return last

    starts = jnp.pad(x, ((0, padding), *(x.ndim - 1) * ((0, 0),))).reshape(-1, batch, *x.shape[1:])
    ends = jax.lax.map(of_batch, (keys_of(key, numbers).reshape(-1, batch), starts))
    return ends.reshape(n + padding, *x.shape[1:])[:n]


def u_turn(
    key: Array,
    denoiser: Denoiser,
    process: Process,
    tokens: Int[Array, "n L"],
    times: Int[np.ndarray | Array, " steps"],
    *,
    first: int | Array = 0,
    **options: Any,
) -> Int[Array, "n L"]:
    """Noise `tokens` to the level `times[0]` and reverse them; options as for `reverse`. Consumes `key`.

    The noise there and back depends on the key and the number of the sequence: every denoiser meets the same.

    Examples:
      >>> grammar, process = hd.grammar_from_rules([[[[0, 1]], [[1, 0]]]]), hd.Masking(vocab=2, levels=10)
      >>> tokens, denoiser = hd.sample(jax.random.key(0), grammar, 50).leaves, hd.exact_denoiser(grammar, process)
      >>> hd.u_turn(jax.random.key(1), denoiser, process, tokens, hd.respaced(5, 5)).shape
      (50, 2)
    """
    keys = keys_of(key_for(key, "there"), first + jnp.arange(len(tokens), dtype=jnp.uint32))
    x_t = corrupt_each(process, keys, tokens, jnp.full(len(tokens), jnp.asarray(times)[0]))
    return reverse(key_for(key, "back"), denoiser, process, x_t, times, first=first, **options)
