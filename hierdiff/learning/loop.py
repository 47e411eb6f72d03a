"""Training of an ensemble of diffusion networks on disjoint data sets, as one compiled loop."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jax.stages import Wrapped
from jaxtyping import Array, Float, Int

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.denoiser import network_log_posterior, network_output
from hierdiff.learning.devices import over_networks, spread_batch, spread_networks, to_host
from hierdiff.learning.network import Network
from hierdiff.learning.optimizer import average_exponent, optimizer
from hierdiff.learning.train_config import TrainConfig
from hierdiff.noising.process import Process, corrupt_each, cross_entropy, stratified_times


class TrainState(NamedTuple):
    """An ensemble in training; each array has a leading network axis.

    `average` are the averaged weights, which are the ones measured. `failed_at` is the first step whose loss
    was not finite, -1 where there is none.
    """

    params: nnx.State
    average: nnx.State
    optimizer: optax.OptState
    failed_at: Int[Array, " S"]


class TrainingSet(NamedTuple):
    """What a network is trained on: samples, on the first axis, the weight of the loss of each, and labels if any."""

    x_0: Array
    weight: Float[Array, "*networks P"]
    labels: Int[Array, "*networks P nodes"] | None = None


class Sample(NamedTuple):
    """A sample in training, or, with an axis before all, a batch of them: its number in the set and its noise level.

    `noise` is the key of its noise, where that is one of a few fixed draws.
    """

    number: Int[Array, "*n"]
    x_0: Array
    t: Int[Array, "*n"]
    weight: Float[Array, "*n"]
    labels: Int[Array, "*n nodes"] | None = None
    noise: Array | None = None


# Of a network's weights, a batch and a key for each of its samples: the loss of each, `(n,)`, which depends on the
# weights, the sample and its key alone. The noise is drawn of the sample's own key, if it has one, and else of this
# one; dropout, of the first, for the whole batch.
Losses = Callable[[Any, Sample, Array], Float[Array, " n"]]


# Of a network's weights, its data, its key and the number of a step: the loss of a batch, and the gradient to follow.
Gradient = Callable[[Any, TrainingSet, Array, Any], tuple[Array, Any]]


def draw(key: Array, data: TrainingSet, batch: int, levels: int) -> Sample:
    """A batch drawn with replacement, at noise levels stratified over 1..T. Consumes `key`."""
    number = jax.random.randint(key_for(key, "numbers"), (batch,), 0, len(data.x_0))
    t = stratified_times(key_for(key, "levels"), batch, levels)
    labels = None if data.labels is None else data.labels[number]
    return Sample(number, data.x_0[number], t, data.weight[number], labels)


def fixed_noise(key: Array, numbers: Int[Array, " n"], draw: Int[Array, " n"]) -> Array:
    """The key of the noise of each sample, given its number in the set and that of its draw: the same at every step.

    The noise is fixed and the level is not: at each level, a sample is met with one of its draws, as in arXiv
    2502.00336, where every level is learned for itself. `key` is the network's: others on its set have other draws.
    """
    return jax.vmap(jax.random.fold_in)(keys_of(key_for(key, "fixed noise"), numbers), draw)


def token_losses(
    network: Network, process: Process, mesh: Mesh, *, bound: bool = False, label_drop: float = 0.0
) -> Losses:
    """The cross-entropy of the symbols that x_t does not show, or T times the term of the bound at t.

    With t uniform, the latter bounds -log p(x_0) on average. Of networks that predict the noise or v, it is the squared
    error of that, at every level alike, summed over a sequence. A sequence is shown without its labels with probability
    `label_drop`, so that one network has both branches (arXiv 2207.12598).
    """
    output, log_posterior = network_output(network, process), network_log_posterior(network, process)

    def squared_error(said, x_0, x_t, t):
        gaussian: Any = process
        target = gaussian.prediction_of(x_t, t, jax.nn.one_hot(x_0, said.shape[-1]), network.predicts)
        return jnp.square(said - target).sum((-1, -2))

    def shown(labels, keys):
        u = jax.vmap(lambda key: jax.random.uniform(key_for(key, "label")))(keys)
        return jnp.where((u >= label_drop)[:, None], labels, -1)

    def losses(params, samples, keys):
        x_t = corrupt_each(process, keys if samples.noise is None else samples.noise, samples.x_0, samples.t)
        labels = None if samples.labels is None else shown(samples.labels, keys)
        x_0, t, x_t, labels = spread_batch((samples.x_0, samples.t, x_t, labels), mesh)
        inputs = x_t, t, key_for(keys[0], "dropout"), labels
        if network.predicts != "x0":
            return squared_error(output(params, *inputs), x_0, x_t, t)
        log_f = log_posterior(params, *inputs)
        return process.levels * process.bound(x_0, x_t, t, jnp.exp(log_f)) if bound else cross_entropy(x_0, log_f)

    return losses


def batch_gradient(losses: Losses, config: TrainConfig, levels: int) -> Gradient:
    """The gradient of the mean loss of a batch."""

    def batch_loss(params, samples, keys):
        return (samples.weight * losses(params, samples, keys)).sum() / config.batch

    def gradient(params, data, key, i):
        of_step = jax.random.fold_in(key, i)
        samples = draw(of_step, data, config.batch, levels)
        if config.noise_draws:
            which = jax.random.randint(key_for(of_step, "draws"), (config.batch,), 0, config.noise_draws)
            samples = samples._replace(noise=fixed_noise(key, samples.number, which))
        keys = keys_of(key_for(of_step, "noise"), jnp.arange(config.batch))
        return jax.value_and_grad(batch_loss)(params, samples, keys)

    return gradient


def make_step(
    gradient_of: Gradient, transformation: optax.GradientTransformation
) -> Callable[..., tuple[Array, Any, optax.OptState]]:
    """`(params, optimizer_state, data, key, i) -> (loss, params, optimizer_state)`: step i of one network, from 0."""

    def step(params, optimizer_state, data, key, i):
        value, gradient = gradient_of(params, data, key, i)
        # optax raises a float to the power of the integer step.
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer_state = transformation.update(gradient, optimizer_state, params)
        return value, cast(nnx.State, optax.apply_updates(params, updates)), optimizer_state

    return step


@dataclasses.dataclass(frozen=True)
class Training:
    """An ensemble in training: how it is trained, on what, and its state.

    `advance(state, data, keys, first, until)` does the steps `first` to `until - 1`. It is compiled once and
    donates `state`. Step `i` of a network depends on its key, its data, its state and `i` alone.
    """

    advance: Wrapped
    data: TrainingSet
    keys: Array
    state: TrainState


def make_training(
    init: Callable[[Array], Any],
    losses: Losses,
    config: TrainConfig,
    mesh: Mesh,
    data: TrainingSet,
    *,
    init_keys: Array,
    keys: Array,
    levels: int,
) -> Training:
    """The training of an ensemble at noise levels 1..`levels`, before its first step; lays data out on the devices.

    Data and keys have a leading network axis: `init_keys` are those of the first weights, `keys` those of the training.
    """
    transformation = optimizer(config, data.x_0.shape[1])
    decay_power = average_exponent(config.average_width)

    def init_one(key):
        params = init(key)
        return TrainState(params, jax.tree.map(jnp.copy, params), transformation.init(params), jnp.int32(-1))

    if config.privacy.clip_each:
        # What it takes is an extra.
        from hierdiff.learning.private import private_gradient

        gradient_of = private_gradient(losses, config, levels, data.x_0.shape[1])
    else:
        gradient_of = batch_gradient(losses, config, levels)

    step_of = make_step(gradient_of, transformation)

    def advance_one(state, data, key, first, until):
        def step(i, state):
            value, params, optimizer_state = step_of(state.params, state.optimizer, data, key, i)
            kept = (i / (i + 1)) ** decay_power
            average = jax.tree.map(lambda old, new: kept * old + (1 - kept) * new, state.average, params)
            failed = (state.failed_at < 0) & ~jnp.isfinite(value)
            return TrainState(params, average, optimizer_state, jnp.where(failed, i, state.failed_at))

        return jax.lax.fori_loop(first, until, step, state)

    init_keys, data = spread_networks((init_keys, data), mesh)
    state = jax.jit(over_networks(init_one, mesh, stacked=1))(init_keys)
    return Training(jax.jit(over_networks(advance_one, mesh, stacked=3), donate_argnums=0), data, keys, state)


def train(config: TrainConfig, training: Training, done: int = 0) -> Iterator[tuple[int, TrainState]]:
    """Train to the end from step `done`; gives step and state at each checkpoint, and after 100 steps at the latest.

    A state is used up when the next one is asked for.

    Raises:
      FloatingPointError: a loss is not finite; the message says at which step, of which network.
    """
    state = training.state
    for checkpoint in config.checkpoint_steps():
        while done < checkpoint:
            until = min(checkpoint, done + max(1, min(config.steps // 200, 100)))
            state = training.advance(state, training.data, training.keys, done, until)
            check_finite(state)
            done = until
            yield done, state


def check_finite(state: TrainState) -> None:
    """Raise `FloatingPointError` where the training has met a loss that is not finite."""
    for network, step in enumerate(to_host(state.failed_at)):
        if step >= 0:
            raise FloatingPointError(f"the loss of network {network} is not finite at step {step + 1}")
