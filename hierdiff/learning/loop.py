"""Training of an ensemble of diffusion networks on disjoint data sets, as one compiled loop."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jax.stages import Wrapped
from jaxtyping import Array, Int

from hierdiff.learning.devices import over_networks, spread_batch, spread_networks, to_host
from hierdiff.learning.network import Network, network_log_posterior
from hierdiff.learning.optimizer import average_exponent, learning_rate
from hierdiff.learning.train_config import TrainConfig
from hierdiff.noising.process import Process, cross_entropy, stratified_times


class TrainState(NamedTuple):
    """An ensemble in training; each array has a leading network axis.

    `average` are the averaged weights, which are the ones measured. `failed_at` is the first step whose loss
    was not finite, -1 where there is none.
    """

    params: nnx.State
    average: nnx.State
    optimizer: optax.OptState
    failed_at: Int[Array, " S"]


class Trainer(NamedTuple):
    """The functions that train an ensemble.

    `init(keys, data)` gives the first state and lays the data `(S, P, ...)` out on the devices;
    `advance(state, data, keys, first, until)` does the steps `first` to `until - 1`. It is compiled once and
    donates `state`. Step `i` of a network depends on its key, its data, its state and `i` alone.
    """

    init: Callable[[Array, Array], tuple[TrainState, Array]]
    advance: Wrapped


# The loss of one network on a batch, of its weights, a key and its data set.
Loss = Callable[[nnx.State, Array, Array], Array]


def make_trainer(init: Callable[[Array], nnx.State], loss: Loss, config: TrainConfig, mesh: Mesh, size: int) -> Trainer:
    """The training of one ensemble, whose data sets hold `size` samples each."""
    optimizer = optax.adam(learning_rate(config, size))
    decay_power = average_exponent(config.average_width)

    def init_one(key):
        params = init(key)
        copy = jax.tree.map(jnp.copy, params)
        return TrainState(params, copy, optimizer.init(params), jnp.int32(-1))

    def advance_one(state, data, key, first, until):
        def step(i, state):
            value, gradient = jax.value_and_grad(loss)(state.params, jax.random.fold_in(key, i), data)
            updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
            params = cast(nnx.State, optax.apply_updates(state.params, updates))
            kept = (i / (i + 1)) ** decay_power
            average = jax.tree.map(lambda old, new: kept * old + (1 - kept) * new, state.average, params)
            failed = (state.failed_at < 0) & ~jnp.isfinite(value)
            return TrainState(params, average, optimizer_state, jnp.where(failed, i, state.failed_at))

        return jax.lax.fori_loop(first, until, step, state)

    init_each = jax.jit(over_networks(init_one, mesh, stacked=1))
    advance = jax.jit(over_networks(advance_one, mesh, stacked=3), donate_argnums=0)

    def init_all(keys, data):
        keys, data = spread_networks((keys, data), mesh)
        return init_each(keys), data

    return Trainer(init_all, advance)


def token_loss(network: Network, process: Process, batch: int, mesh: Mesh) -> Loss:
    """The mean cross-entropy of sequences drawn with replacement, at noise levels stratified over 1..T."""
    log_posterior = network_log_posterior(network, process)

    def loss(params, key, tokens):
        pick_key, time_key, noise_key, dropout_key = jax.random.split(key, 4)
        x_0 = tokens[jax.random.randint(pick_key, (batch,), 0, len(tokens))]
        t = stratified_times(time_key, batch, process.levels)
        x_t = process.corrupt(noise_key, x_0, t)
        x_0, t, x_t = spread_batch((x_0, t, x_t), mesh)
        return cross_entropy(x_0, log_posterior(params, x_t, t, dropout_key)).mean()

    return loss


class Training(NamedTuple):
    """An ensemble about to be trained: its trainer with the data and keys on the devices, and the first state."""

    trainer: Trainer
    data: Array
    keys: Array
    state: TrainState


class Experiment(NamedTuple):
    """The training of an ensemble on data sets of `size` samples, and what is measured at each checkpoint.

    `measure(weights, inputs)` gives named arrays, with the averaged weights of all networks.
    """

    config: TrainConfig
    size: int
    mesh: Mesh
    training: Training
    measure: Wrapped
    inputs: Any


def train(config: TrainConfig, training: Training, done: int = 0) -> Iterator[tuple[int, TrainState]]:
    """Train to the end from step `done`; gives step and state at each checkpoint, and after 100 steps at the latest.

    A state is used up when the next one is asked for.

    Raises:
      FloatingPointError: a loss is not finite; the message says at which step, of which network.
    """
    trainer, data, keys, state = training
    for checkpoint in config.checkpoint_steps():
        while done < checkpoint:
            until = min(checkpoint, done + max(1, min(config.steps // 200, 100)))
            state = trainer.advance(state, data, keys, done, until)
            check_finite(state)
            done = until
            yield done, state


def check_finite(state: TrainState) -> None:
    """Raise `FloatingPointError` where the training has met a loss that is not finite."""
    for network, step in enumerate(to_host(state.failed_at)):
        if step >= 0:
            raise FloatingPointError(f"the loss of network {network} is not finite at step {step + 1}")
