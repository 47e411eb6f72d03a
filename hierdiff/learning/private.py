"""DP-SGD (arXiv 1607.00133): gradients of single samples, clipped, summed over Poisson batches, with Gaussian noise.

Two data sets are neighbours where one sample more stands in one of them: it is there, or it is zeroed out, and the
number of samples that the options name is no secret. A sample is in a batch with probability q, independently of all
others, and adds to the sum a gradient of no more than the clipping norm, made of keys of its own: noise, levels and
dropout. The noise is calibrated to that sum, which is then divided by the size that a batch has on average, a constant.

Batches are padded to a fixed size. Those that would be larger are cut off at it, with a probability of at most tau
over the whole training; so what is (epsilon, delta)-private for whole batches is (epsilon, delta + (1 + e^epsilon)
tau)-private here, and tau is part of the delta that is asked for.

It takes jax-privacy and dp-accounting: `hierdiff[privacy]`.
"""

import bisect
import dataclasses
import functools
import math
from typing import Any

import dp_accounting  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import optax
from jax_privacy.clipping import clipped_grad  # pyright: ignore[reportMissingImports]
from jax_privacy.sharding_utils import compute_early_stopping_order  # pyright: ignore[reportMissingImports]
from jaxtyping import Array, Bool, Int
from scipy.stats import binom

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.loop import Gradient, Losses, Sample, TrainingSet
from hierdiff.learning.train_config import TrainConfig

RELATION = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
# Of delta, the largest share that batches which are cut off may take.
CUT_OFF = 0.01
# Samples whose gradients are in memory at once.
AT_ONCE = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mechanism:
    """What one step does: the probability of a sample to be in a batch, the size of a padded one, and the noise.

    The noise on the sum has the standard deviation `noise_multiplier` times the sensitivity; without it there is no
    privacy. `delta` is that of all steps, what batches that are cut off take of it left out.
    """

    sampling: float
    capacity: int
    noise_multiplier: float
    delta: float

    def epsilon(self, steps: int) -> float:
        """The upper bound on epsilon after so many steps, by the privacy-loss distribution; infinite without noise."""
        if not self.noise_multiplier:
            return math.inf
        gaussian = dp_accounting.GaussianDpEvent(self.noise_multiplier)
        step = dp_accounting.PoissonSampledDpEvent(self.sampling, gaussian)
        accountant = dp_accounting.pld.PLDAccountant(RELATION)
        accountant.compose(dp_accounting.SelfComposedDpEvent(step, steps))
        return float(accountant.get_epsilon(self.delta))


def overflow(capacity: int, rows: int, sampling: float, steps: int) -> float:
    """At most the probability that one of the batches of so many steps is larger than `capacity` (union bound)."""
    return steps * float(binom.sf(capacity, rows, sampling))


@functools.cache
def mechanism(config: TrainConfig, rows: int) -> Mechanism:
    """That of a training on `rows` samples, with the least noise that its epsilon and delta allow."""
    asked, sampling, steps = config.privacy, config.batch / rows, config.steps
    most = CUT_OFF * asked.delta / (1 + math.exp(asked.epsilon))
    least = bisect.bisect_left(range(rows), True, key=lambda size: overflow(size, rows, sampling, steps) <= most)
    capacity = AT_ONCE * math.ceil(least / AT_ONCE)
    delta = asked.delta - (1 + math.exp(asked.epsilon)) * overflow(capacity, rows, sampling, steps)

    def having(noise_multiplier: float) -> Mechanism:
        return Mechanism(sampling=sampling, capacity=capacity, noise_multiplier=noise_multiplier, delta=delta)

    def enough(noise_multiplier: float) -> bool:
        return having(noise_multiplier).epsilon(steps) <= asked.epsilon

    if not asked.epsilon:
        return having(0.0)
    # What it would be by the central limit theorem for Gaussian privacy (arXiv 1911.11607); then by halves.
    mean = 1 / dp_accounting.get_sigma_gaussian(asked.epsilon, delta)
    low = high = math.log1p((mean / sampling) ** 2 / steps) ** -0.5
    while not enough(high):
        low, high = high, 2 * high
    while enough(low):
        low, high = low / 2, low
    while high > 1.001 * low:
        between = math.sqrt(low * high)
        low, high = (low, between) if enough(between) else (between, high)
    return having(high)


def poisson(key: Array, rows: int, sampling: float, capacity: int) -> tuple[Int[Array, " n"], Bool[Array, " n"]]:
    """The numbers of the samples of a batch, padded to `capacity`, and which of them are padding. Consumes `key`."""
    chosen = jax.random.bernoulli(key, sampling, (rows,))
    (numbers,) = jnp.nonzero(chosen, size=capacity, fill_value=0)
    return numbers, jnp.arange(capacity) >= chosen.sum()


def private_gradient(losses: Losses, config: TrainConfig, levels: int, rows: int) -> Gradient:
    """The noisy sum of clipped gradients of single samples, divided by the size of a batch on average."""
    asked, how = config.privacy, mechanism(config, rows)
    # Padding is to stand in parts of its own, which are then left out; each part is taken from all over the batch.
    order = compute_early_stopping_order(how.capacity, AT_ONCE)

    # Typed keys cannot be taken apart so.
    def loss(params, sample, key_data):
        return (sample.weight * losses(params, sample, jax.random.wrap_key_data(key_data))).mean()

    clipped: Any = clipped_grad(
        loss,
        l2_clip_norm=asked.clip_each,
        batch_argnums=(1, 2),
        keep_batch_dim=False,
        return_values=True,
        microbatch_size=AT_ONCE,
    )
    scale = how.noise_multiplier * clipped.sensitivity(RELATION)

    def drawn(data: TrainingSet, number: Array, key: Array) -> tuple[Sample, Array]:
        """One sample, several times, each with a level and a key of its own."""
        t = jax.random.randint(key_for(key, "levels"), (asked.draws_each,), 1, levels + 1)
        labels = None if data.labels is None else data.labels[number]
        one = Sample(number, data.x_0[number], t[0], data.weight[number], labels)
        each = jax.tree.map(lambda x: jnp.broadcast_to(x, (asked.draws_each, *x.shape)), one)
        return each._replace(t=t), keys_of(key_for(key, "noise"), jnp.arange(asked.draws_each))

    def gradient(params, data, key, i):
        of_step = jax.random.fold_in(key, i)
        numbers, padding = poisson(key_for(of_step, "batch"), rows, how.sampling, how.capacity)
        numbers, padding = numbers[order], padding[order]
        of_each = keys_of(key_for(of_step, "samples"), numbers)
        samples, keys = jax.vmap(lambda number, key: drawn(data, number, key))(numbers, of_each)
        # jax-privacy adds booleans to numbers.
        with jax.numpy_dtype_promotion("standard"):
            total, aux = clipped(params, samples, jax.random.key_data(keys), is_padding_example=padding)
        noise = optax.tree.random_like(key_for(of_step, "noise of the sum"), total, jax.random.normal)
        value = jnp.where(padding, 0, aux.values).sum() / config.batch
        return value, jax.tree.map(lambda x, z: (x + scale * z) / config.batch, total, noise)

    return gradient


def spent(config: TrainConfig, rows: int) -> tuple[dict[str, Any], str]:
    """What the record of a training has of its privacy, epsilon at each checkpoint among it; and a sentence."""
    asked, how, steps = config.privacy, mechanism(config, rows), config.checkpoint_steps()
    epsilon = [how.epsilon(step) for step in steps]
    bound = "no noise is added, and nothing bounds epsilon"
    if how.noise_multiplier:
        bound = (
            f"noise of {how.noise_multiplier:.3g} times that is added to their sum: at the last step the weights of "
            f"each network are (epsilon, delta)-differentially private with epsilon {epsilon[-1]:.3g} and delta "
            f"{asked.delta:g}, where neighbours differ in one sample, added or removed"
        )
    said = f"DP-SGD: gradients of single samples are clipped at {asked.clip_each:g} in Poisson batches; {bound}."
    return {**dataclasses.asdict(how), "relation": RELATION.name.lower(), "steps": steps, "epsilon": epsilon}, said
