"""Training of an ensemble of diffusion networks on disjoint data sets, as one compiled loop."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from jax.stages import Wrapped
from jaxtyping import Array, Float, Int

from hierdiff.devices import over_networks, spread_batch, spread_networks, to_host
from hierdiff.networks import Network
from hierdiff.noising import Schedule, corrupt
from hierdiff.options import option, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training."""

    steps: int = option(10_000, "training steps")
    batch: int = option(128, "samples in a batch, drawn with replacement")
    learning_rate: float = option(1e-3, "Adam's learning rate at the start")
    decay: Literal["constant", "paper"] = option(
        "constant", "learning rate: constant, or the paper's (1 to 0.5 over 50 epochs, then cosine to 0.1)"
    )
    average_width: float = option(0.1, "width of the weights' average, as a share of the steps done (0: none)")
    checkpoints: int = option(32, "checkpoints, spaced evenly in log(step)")
    first_checkpoint: int = option(40, "step of the first checkpoint")
    snapshots: int = option(16, "checkpoints whose weights are kept, spread evenly over all (0: none)")

    def __post_init__(self):
        require(1 <= self.steps < 2**31, "steps", self.steps, "an integer from 1 to 2,147,483,647")
        require(self.batch >= 1, "batch", self.batch, "an integer of at least 1")
        require(0 < self.learning_rate < 1, "learning_rate", self.learning_rate, "a number between 0 and 1")
        # The average is of finite order only up to this width (arXiv 2312.02696, section 3.1).
        good = self.average_width == 0 or 1e-3 <= self.average_width < 0.28
        require(good, "average_width", self.average_width, "0, or a number from 0.001 to below 0.28")
        require(2 <= self.checkpoints <= 10_000, "checkpoints", self.checkpoints, "an integer from 2 to 10,000")
        require(self.snapshots >= 0, "snapshots", self.snapshots, "an integer of at least 0")
        need = f"an integer from 1 to below the number of steps, {self.steps}"
        require(1 <= self.first_checkpoint < self.steps, "first_checkpoint", self.first_checkpoint, need)

    def checkpoint_steps(self) -> list[int]:
        """The steps at which the ensemble is measured; the last is `steps`."""
        spaced = np.geomspace(self.first_checkpoint, self.steps, self.checkpoints)
        return sorted({int(step) for step in np.rint(spaced)})

    def snapshot_steps(self) -> list[int]:
        """The checkpoints whose weights are kept; the last is among them."""
        steps = self.checkpoint_steps()
        kept = np.rint(np.linspace(len(steps) - 1, 0, min(self.snapshots, len(steps)))).astype(int)
        return sorted(steps[i] for i in kept)


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


def token_loss(network: Network, schedule: Schedule, batch: int, mesh: Mesh, *, vocab: int) -> Loss:
    """The mean cross-entropy of sequences drawn with replacement, at noise levels stratified over 1..T."""

    def loss(params, key, leaves):
        pick_key, time_key, noise_key, dropout_key = jax.random.split(key, 4)
        x_0 = leaves[jax.random.randint(pick_key, (batch,), 0, len(leaves))]
        t = stratified_times(time_key, batch, schedule.levels)
        x_t = corrupt(noise_key, x_0, schedule.alpha_bar[t - 1], vocab)
        x_0, t, x_t = spread_batch((x_0, t, x_t), mesh)
        log_f = network.log_posterior(params, x_t, t, dropout_key)
        return cross_entropy(x_0, log_f).mean()

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


def cross_entropy(tokens: Int[Array, "*batch L"], log_f: Float[Array, "*batch L v"]) -> Float[Array, "*batch"]:
    """-log f(x_0 | x_t), in nats a sequence."""
    return -jnp.take_along_axis(log_f, tokens[..., None], axis=-1).sum((-1, -2))


def stratified_times(key: Array, n: int, levels: int) -> Int[Array, " n"]:
    """`n` noise levels 1..levels, each uniform, one in each n-th of the range (arXiv 2107.00630, appendix I.1)."""
    u = (jnp.arange(n, dtype=float) + jax.random.uniform(key)) / n
    return jnp.minimum(jnp.floor(u * levels).astype(jnp.int32) + 1, levels)


def learning_rate(config: TrainConfig, size: int) -> optax.Schedule:
    """The learning rate at each step; an epoch is `size / batch` steps."""
    if config.decay == "constant":
        return optax.constant_schedule(config.learning_rate)
    ramp = max(1, min(round(50 * size / config.batch), config.steps - 1))
    linear = optax.linear_schedule(config.learning_rate, 0.5 * config.learning_rate, ramp)
    cosine = optax.cosine_decay_schedule(0.5 * config.learning_rate, max(1, config.steps - ramp), alpha=0.2)
    return optax.join_schedules([linear, cosine], [ramp])


def average_exponent(width: float) -> float:
    """The power p of the average that keeps `(1 - 1/i)**p` at step i, for a relative width (arXiv 2312.02696)."""
    if width == 0:
        return float("inf")
    return float(np.roots([1, 7, 16 - width**-2, 12 - width**-2]).real.max()) + 1
