"""Networks that are trained again without some of their samples, and scores that are to tell what that does.

A network A is trained, and B on a disjoint set, with raw weights and an optimizer that has a derivative everywhere.
What is attributed are the losses of A on held-out sequences, with the same noise for all networks, and the
data-dependent part of A and B at each height, with B as it is.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.denoiser import network_log_posterior
from hierdiff.learning.devices import over_networks, spread_networks
from hierdiff.learning.loop import TrainingSet, check_finite
from hierdiff.learning.metagradient import block_length, make_pull, metagradient
from hierdiff.learning.optimizer import optimizer
from hierdiff.learning.sample_gradients import sample_gradients
from hierdiff.measures.attribution import gradient_products, memorizer_weights, projected, trak
from hierdiff.measures.probe import Piece, Reference, at
from hierdiff.noising.process import cross_entropy, stratified_times
from hierdiff.questions.configs import AttributionConfig
from hierdiff.runs.laboratory import make_measure, prepare
from hierdiff.runs.world import Inputs
from hierdiff.worlds.sequences import Sequences

METAGRADIENT, TRACIN, RETRAC, TRAK, MEMORIZER = METHODS = (
    "metagradient",
    "TracIn",
    "Diffusion-ReTrac",
    "TRAK",
    "memorizer",
)
# Networks that are retrained together; an even number, for A and B may be on two devices.
TOGETHER = 10


class Attributed(NamedTuple):
    """On what the quantities are measured: noised targets, and held-out sequences with what is compared there."""

    noised: Piece
    piece: Piece
    reference: Reference


class Place(NamedTuple):
    """A checkpoint: the step, the steps since the one before, and the parameters of A and B."""

    step: int
    passed: int
    params: Any
    other: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """The two networks, trained, and the inputs on which the first one is measured.

    `blocks` are the first step and the state of each block of A's training, and at each of the `places` of the whole
    training `split` and `excess` are known.
    """

    config: AttributionConfig
    world: Sequences
    inputs: Attributed
    places: list[Place]
    blocks: list[tuple[int, Any]]
    split: np.ndarray
    excess: np.ndarray

    @property
    def key(self) -> Array:
        return key_for(self.world.key, "attribution")

    def quantities(self, params: Any, other: Any, inputs: Attributed) -> Float[Array, " q"]:
        return quantities(self.world, self.config.targets, inputs, params, other)


def checkpoints(config: AttributionConfig) -> list[int]:
    """Spaced evenly in log(step), each at the end of a block; the last one is the last step."""
    block = block_length(config.steps)
    numbers = np.geomspace(block, config.steps, config.checkpoints) / block
    return sorted({block * int(number) for number in np.rint(numbers)})


def train(config: AttributionConfig, world: Sequences) -> Experiment:
    """Train both networks, and keep what the derivative needs of the first."""
    training, everything = prepare(config.training, world), make_measure(world)
    measured = jax.jit(lambda *given: {name: everything(*given)[name].mean() for name in ("split", "excess")})
    pieces, reference = world.probe((config.noise,))
    inputs = Inputs(held_out=pieces, reference=reference, any_held_out=world.any_held_out())
    before = dict(itertools.pairwise([0, *checkpoints(config)]))
    block, state = block_length(config.steps), training.state
    blocks, params, found = [], {}, []
    for first in range(0, config.steps, block):
        blocks.append((first, on_host((at(state.params, 0), at(state.optimizer, 0)))))
        state = training.advance(state, training.data, training.keys, first, first + block)
        check_finite(state)
        if first + block in before.values():
            params[first + block] = [on_host(at(state.params, i)) for i in range(2)]
            found.append(on_host(measured(state.params, inputs)))
    return Experiment(
        config=config,
        world=world,
        inputs=attributed(config, world),
        places=[Place(step, step - last, *params[step]) for last, step in before.items()],
        blocks=blocks,
        split=np.array([each["split"] for each in found]),
        excess=np.array([each["excess"] for each in found]),
    )


def on_host(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)


def attributed(config: AttributionConfig, world: Sequences) -> Attributed:
    """Draw the inputs of the quantities."""
    name, keys = "noise of what is attributed", jnp.arange(config.targets)
    keys = keys_of(key_for(world.key, f"levels of {name}"), keys)
    t = jax.vmap(lambda key: stratified_times(key, config.draws, world.process.levels))(keys)
    targets = jnp.repeat(world.held_out[: config.targets], config.draws, 0)
    return Attributed(world.noised(name, targets, t.ravel(), filtered=(0,)), *at(world.probe((config.noise,)), 0))


def quantities(world: Sequences, targets: int, inputs: Attributed, params: Any, other: Any) -> Float[Array, " q"]:
    """The mean loss of a network on each target, and its data-dependent part beside another at each height from 0."""
    log_posterior, (noised, piece, reference) = network_log_posterior(world.network, world.process), inputs
    losses = cross_entropy(noised.tokens, log_posterior(params, noised.x_t, noised.t)).reshape(targets, -1).mean(1)

    def both(x_t):
        return jnp.stack([log_posterior(each, x_t, piece.t) for each in (params, other)])

    answers = both(piece.x_t)
    of_parts = jax.lax.map(lambda part: world.on_part(reference, answers, part, both(part.x_t)), world.parts(reference))
    products = world.on_held_out(piece, reference, answers, of_parts)["spectrum"].mean(-1)[1:]
    own = 0.5 * (products[:, 0, 0] + products[:, 1, 1]) - products[:, 0, 1]
    return jnp.concatenate([losses, own])


def make_retraining(experiment: Experiment) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Of weights of A's samples, `(TOGETHER, P)`: the quantities of a network trained with each, at each checkpoint.

    All start as A did and draw the same batches and noise; the divisor of the loss is the same.
    """
    world, every = experiment.world, np.zeros(TOGETHER, int)
    training = prepare(experiment.config.training, world)
    first = jax.tree.map(lambda x: x[every], (training.state, training.data, training.keys))
    state, data, keys = spread_networks(first, world.mesh)
    measured = jax.jit(over_networks(experiment.quantities, world.mesh, stacked=1))

    def retrain(weight: np.ndarray) -> dict[str, np.ndarray]:
        weighted = data._replace(weight=spread_networks(jnp.asarray(weight, data.weight.dtype), world.mesh))
        now, done, found = jax.tree.map(jnp.copy, state), 0, []
        for place in experiment.places:
            now, done = training.advance(now, weighted, keys, done, place.step), place.step
            check_finite(now)
            found.append(np.asarray(measured(now.params, place.other, experiment.inputs)))
        return {"truth": np.stack(found, 1)}

    return retrain


def make_scores(experiment: Experiment) -> Callable[[Place], dict[str, np.ndarray]]:
    """Of a checkpoint, the scores of each method, `(q, P)`; of those that sum over checkpoints, its part alone."""
    config, world, key = experiment.config, experiment.world, experiment.key
    run, size, process, shares = config.training.train, config.size, world.process, world.mesh.shape["network"]
    losses, data = world.example_losses(), TrainingSet(world.train[0], jnp.ones(size))
    pull = make_pull(losses, optimizer(run, size), run, process.levels, world.mesh)
    of_training = keys_of(key_for(world.key, "training"), [0])[0]
    of_samples = sample_gradients(losses, data.x_0, key_for(key, "noise"), config.draws, process.levels)
    samples = jax.jit(over_networks(of_samples, world.mesh, stacked=1))
    remembered = memories(experiment)
    units, numbers = in_shares(jnp.eye(len(remembered)), shares), in_shares(jnp.arange(size), shares)

    def of_quantities(units, params, other, inputs):
        _, back = jax.vjp(lambda params: experiment.quantities(params, other, inputs), params)
        return jax.lax.map(lambda unit: back(unit)[0], units)

    gradients = jax.jit(over_networks(of_quantities, world.mesh, stacked=1))

    def score(place: Place) -> dict[str, np.ndarray]:
        direct = gradients(units, place.params, place.other, experiment.inputs)
        rows = jax.vmap(lambda tree: ravel_pytree(tree)[0])(all_rows(direct, len(remembered)))
        mine, normalised = all_rows(samples(numbers, place.params), size)
        blocks = [(first, state) for first, state in experiment.blocks if first < place.step]
        steps = place.passed * config.learning_rate
        onto = functools.partial(projected, key_for(key, "projections"), size=config.projections)
        return on_host(
            {
                METAGRADIENT: all_rows(metagradient(pull, direct, blocks, data, of_training), len(remembered)),
                TRACIN: gradient_products(rows, mine, steps),
                RETRAC: gradient_products(rows / jnp.linalg.norm(rows, axis=-1, keepdims=True), normalised, steps),
                TRAK: trak(onto(rows), onto(mine)),
                MEMORIZER: remembered,
            }
        )

    return score


def in_shares(x: Array, shares: int) -> Array:
    """Rows in so many shares of one size; the last is filled up with the first rows."""
    each = -(-len(x) // shares)
    return x[jnp.arange(shares * each) % len(x)].reshape(shares, each, *x.shape[1:])


def all_rows(tree: Any, number: int) -> Any:
    """What was made of rows in shares, in one piece again."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:number], tree)


def memories(experiment: Experiment) -> Array:
    """What share of the memorizer's answers is each sequence's: it makes a loss smaller, and the parts larger."""
    config, world = experiment.config, experiment.world
    of_targets, of_heights = (
        memorizer_weights(world.train[0], world.process.log_likelihood(x.x_t, x.t))
        for x in (experiment.inputs.noised, experiment.inputs.piece)
    )
    losses = -of_targets.reshape(config.targets, config.draws, config.size).mean(1)
    return jnp.concatenate([losses, jnp.tile(of_heights.mean(0), (config.grammar.depth + 1, 1))])


def cost(config: AttributionConfig) -> list[str]:
    """What the derivative needs of memory, and how much is to be trained, in words."""
    world, run = Sequences.set_up(config.training), config.training.train
    init, begin = world.network.init, optimizer(run, config.size).init
    params = jax.eval_shape(init, world.key)
    of_params, of_state = (
        sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)) / 1e6
        for tree in (params, (params, jax.eval_shape(begin, params)))
    )
    block, measured = block_length(run.steps), config.targets + config.grammar.depth + 1
    states = run.steps // block + block
    retrained = config.subsets + (len(config.left_out) - 1) * (config.subsets // 2) + config.alone
    return [
        f"networks of {sum(x.size for x in jax.tree.leaves(params)):,} parameters; {run.steps:,} steps are "
        f"{run.steps // block:,} blocks of {block:,}",
        f"memory of the derivative: {states:,} states of {of_state:,.1f} MB, and one for each of {measured:,} "
        f"quantities: {(states + measured) * of_state:,.0f} MB",
        f"memory of the gradients: those of {config.size:,} samples twice, {2 * config.size * of_params:,.0f} MB",
        f"{retrained:,} networks are retrained, {TOGETHER} together: {retrained * run.steps:,} steps",
        f"the derivative goes back over {sum(checkpoints(config)):,} steps, for all quantities together",
    ]
