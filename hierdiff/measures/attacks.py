"""Attacks on members: of what a network says of a sequence, a score that is high where it was trained on it.

A statistic of one network, as minus its loss, is a score, and a better one beside a baseline: the same of networks that
never saw the sequence, or of the exact denoiser. What share of members lies above a threshold is another matter
(`membership`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hierdiff.noising.discrete import Masking
from hierdiff.noising.gaussian import Gaussian
from hierdiff.noising.process import Denoiser


def own_against_other(
    statistic: Float[np.ndarray, " *shape"], references: Float[np.ndarray, " R *shape"]
) -> Float[np.ndarray, " *shape"]:
    """How far a statistic lies above its mean over R networks that never saw the sequence (arXiv 2111.08440).

    It orders as LiRA's test does with one variance for all sequences, which is what arXiv 2112.03570 takes of few
    references.
    """
    return statistic - references.mean(0)


def likelihood_ratio(
    statistic: Float[np.ndarray, " *shape"], references: Float[np.ndarray, " R *shape"]
) -> Float[np.ndarray, " *shape"]:
    """The same in standard deviations of the references, two or more: LiRA without members (arXiv 2112.03570).

    The probability that a reference lies below, under a normal law, rises with it. Of references that are equal to the
    last digit, the difference is told by its sign alone.
    """
    spread = np.maximum(references.std(0, ddof=1), np.sqrt(np.finfo(references.dtype).tiny))
    return own_against_other(statistic, references) / spread


def small_noise(
    denoiser: Denoiser, process: Gaussian, x_0: Float[Array, " n *shape"], t: int | Array
) -> Float[Array, " n"]:
    """SimA (arXiv 2509.25003): minus the sum of fourth powers of the noise seen in clean data, as if at level t.

    Near a training sample the posterior mean is that sample, and little noise is seen. The power is that of the
    authors' code.
    """
    levels = jnp.broadcast_to(jnp.asarray(t, jnp.int32), len(x_0))
    noise = process.prediction_of(x_0, levels, denoiser(x_0, levels), "noise")
    return -(noise**4).sum(tuple(range(1, noise.ndim)))


def there_and_back(
    denoiser: Denoiser, process: Gaussian, x_0: Float[Array, " n *shape"], times: Int[np.ndarray, " steps"]
) -> Float[Array, " n"]:
    """SecMI's t-error (arXiv 2302.01316): minus the square of what a deterministic step on and back does not restore.

    Clean data, taken for a state at the first of `times`, are led to the last but one by deterministic steps; the step
    on goes to the last.
    """

    def step(x: Array, t: Array, s: Array) -> Array:
        f = denoiser(x, jnp.broadcast_to(t, len(x)))
        return process.mix(f, process.prediction_of(x, t, f, "noise"), s)

    levels = jnp.asarray(times, jnp.int32)
    x_t, _ = jax.lax.scan(lambda x, ends: (step(x, *ends), None), x_0, (levels[:-2], levels[1:-1]))
    back = step(step(x_t, levels[-2], levels[-1]), levels[-1], levels[-2])
    return -jnp.square(back - x_t).sum(tuple(range(1, x_t.ndim)))


def losses_when_masked(
    log_posterior: Denoiser,
    process: Masking,
    tokens: Int[Array, "n L"],
    order: Int[Array, "n L"],
    counts: tuple[int, ...],
) -> Float[Array, "n masked"]:
    """The losses of single leaves as they are masked, in the order given, the first `counts[k]` in step k.

    `log_posterior` gives log p(x_0 | x_t).
    """
    leaves, rank, found = tokens.shape[1], jnp.argsort(order, 1), []
    for before, count in zip((0, *counts), counts, strict=False):
        x_t = jnp.where(rank < count, process.vocab, tokens)
        log_f = log_posterior(x_t, jnp.full(len(tokens), max(1, round(count / leaves * process.levels))))
        loss = -jnp.take_along_axis(log_f, tokens[..., None], axis=-1)[..., 0]
        found.append(jnp.take_along_axis(loss, order[:, before:count], axis=1))
    return jnp.concatenate(found, 1)


def subset_votes(
    losses: Float[np.ndarray, "n masked"], reference: Float[np.ndarray, "n masked"], counts: tuple[int, ...]
) -> Float[np.ndarray, " n"]:
    """SAMA (arXiv 2601.20125): the share of subsets of masked leaves that a network knows better than a reference does.

    Of `losses_when_masked`; the share of step k has the weight 1 / (k + 1). Subsets are all pairs. The authors draw 128
    of ten among hundreds of leaves; here so many would be all that are masked.
    """
    gain, shares = reference - losses, []
    for count in counts:
        first, second = np.triu_indices(count, min(count - 1, 1))
        shares.append((gain[:, first] + gain[:, second] > 0).mean(1))
    return np.average(shares, axis=0, weights=1 / np.arange(1, len(counts) + 1))
