"""What is done with any world: its networks are trained, measured and compared, and the measurements labelled."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.stages import Wrapped
from jaxtyping import Array

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.devices import over_networks
from hierdiff.learning.loop import Training, TrainingSet, make_training
from hierdiff.runs.world import Inputs, World, of_members
from hierdiff.statistics.groups import in_groups
from hierdiff.statistics.replicates import Statistics, replicate


def prepare(config: Any, world: World) -> Training:
    config.train.privacy.require_installed()
    networks, data = range(len(world.set_of)), training_set(world)
    init_keys = keys_of(key_for(world.key, "first weights"), networks)
    if config.common_start:
        init_keys = jnp.broadcast_to(init_keys[:1], init_keys.shape)
    return make_training(
        world.network.init,
        world.example_losses(),
        config.train,
        world.mesh,
        jax.tree.map(lambda x: x[world.set_of], data),
        init_keys=init_keys,
        keys=keys_of(key_for(world.key, "training"), networks),
        levels=world.process.levels,
    )


def training_set(world: World) -> TrainingSet:
    """What networks are trained on, of each set; canaries that are left out weigh nothing."""
    samples, weight = world.train, jnp.ones(world.train.shape[:2])
    if world.canaries is not None:
        samples = jnp.concatenate([samples, world.canaries], axis=1)
        weight = jnp.concatenate([weight, world.included.astype(weight.dtype)], axis=1)
    return TrainingSet(samples, weight, world.train_labels)


def make_measure(world: World) -> Wrapped:
    """All measures of an ensemble, as one compiled function of its weights and the inputs.

    It gives an array for each name in the world's `VARIABLES`, where its dimensions are.
    """
    run = over_networks(world.answer, world.mesh, stacked=1)
    run_each = over_networks(world.answer, world.mesh, stacked=3)

    reduced = functools.partial(means, world)

    @jax.jit
    def measure(params, inputs):
        answers, own = (functools.partial(each, params) for each in (run, run_each))
        return measures(world, inputs, Denoisers(answers, own), over=jax.lax.map, reduced=reduced)

    return measure


class Denoisers(NamedTuple):
    """The denoisers of a world: `all_on(x_t, t)`, `(S, n, *shape)`, and `own_on(x_t, t)`, of each on inputs of its own.

    Both have the answers that the world's measures take; t is a level for each sample.
    """

    all_on: Callable[[Array, Array], Array]
    own_on: Callable[[Array, Array], Array]


def measures(
    world: World,
    inputs: Inputs,
    denoisers: Denoisers,
    *,
    over: Callable[[Callable, Any], Any],
    reduced: Callable[[dict[str, Array]], dict[str, Array]],
    compiled: Callable[[Callable], Callable] = lambda function: function,
) -> dict[str, Array]:
    """What denoisers show on the inputs that there are, by the names in the world's `VARIABLES`.

    `over(f, trees)` applies `f` to each of stacked trees, and stacks the results; `reduced` is applied to what is
    measured at each sample, `(..., n)`, and `compiled` to the world's functions of arrays.
    """

    def on_held_out(level):
        piece, reference = level
        answers, parts = denoisers.all_on(world.shown(piece), piece.t), world.parts(reference)

        def on_part(part):
            there = denoisers.all_on(world.shown(piece._replace(x_t=part.x_t)), piece.t)
            return compiled(world.on_part)(reference, answers, part, there)

        of_parts = None if parts is None else over(on_part, parts)
        return reduced(compiled(world.on_held_out)(piece, reference, answers, of_parts))

    def on_members(of_sets):
        def on_set(piece):
            return compiled(world.on_members)(piece, denoisers.all_on(world.shown(piece), piece.t))

        return reduced(own_members(world, over(on_set, of_sets)))

    def losses(piece):
        return compiled(world.losses)(piece, denoisers.all_on(world.shown(piece), piece.t))

    def own_losses(of_sets):
        own = jax.tree.map(lambda x: x[world.set_of], of_sets)
        found = compiled(world.own_losses)(own, denoisers.own_on(world.shown(own), own.t))
        return {of_members(name): x for name, x in found.items()}

    def over_draws(of_losses, pieces):
        return reduced({name: x.mean(0) for name, x in over(of_losses, pieces).items()})

    def on_bound(piece):
        return reduced(compiled(world.on_bound)(piece, denoisers.all_on(world.shown(piece), piece.t)))

    found = {}
    if inputs.held_out is not None:
        found |= over(on_held_out, (inputs.held_out, inputs.reference))
    if inputs.any_held_out is not None:
        found |= over_draws(losses, inputs.any_held_out)
    if inputs.bound is not None:
        found |= on_bound(inputs.bound)
    if inputs.members is not None:
        found |= over(on_members, inputs.members)
    if inputs.any_members is not None:
        found |= over_draws(own_losses, inputs.any_members)
    return found


def means(world: World, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """What is measured at each sample, on the last axis: its means over groups of the held-out ones, or over all."""
    grouped = {name: "group" in world.VARIABLES[name].dims for name in arrays}
    return {name: in_groups(x) if grouped[name] else x.mean(-1) for name, x in arrays.items()}


def own_members(world: World, of_sets: dict[str, Array]) -> dict[str, Array]:
    """Of what is measured on the members of each set, `(sets, ..., unit, members)`: that on the own set, or both.

    A pair has two, and their mean. What has the dimension `members_of` is kept of all: `(..., unit, sets, members)`.
    """
    first, second = (world.set_of[ends] for ends in world.pairs)

    def of(dims, x):
        def on(sets):
            return jnp.moveaxis(x[sets, ..., np.arange(len(sets)), :], 0, -2)

        if "members_of" in dims:
            return jnp.moveaxis(x, 0, -2)
        return 0.5 * (on(first) + on(second)) if "pair" in dims else on(world.set_of)

    return {name: of(world.VARIABLES[name].dims, x) for name, x in of_sets.items()}


def label(
    along: dict[str, list], world: World, references: Mapping[str, Any], measured: list[dict[str, np.ndarray]]
) -> xr.Dataset:
    """The measurements at each step, and what they are compared with, as one labelled set of arrays.

    `along` are the steps and the noise levels.
    """
    first, second = world.pairs

    def labelled(arrays, *along):
        return {
            name: ((*along, *dims), np.asarray(x), {"units": units, "meaning": meaning})
            for name, x in arrays.items()
            for dims, units, meaning in [world.VARIABLES[name]]
        }

    return xr.Dataset(
        {
            **labelled({name: [each[name] for each in measured] for name in measured[0]}, "step"),
            **labelled(means(world, world.settled(references))),
        },
        {
            **along,
            "network": np.arange(len(world.set_of)),
            "members_of": np.arange(len(world.train)),
            "first": ("pair", first),
            "second": ("pair", second),
            "data_set": ("network", world.set_of),
            **world.coordinates(),
        },
        world.about,
    )


def statistics(world: type[World], results: xr.Dataset) -> Statistics:
    """All that is reported of a run, from the measurements of each network, pair and group of held-out samples.

    Pairs are those across data sets. With several networks on one data set, each variable in the world's `SEEDS` has
    two parts: what pairs on the same set show of it, and what the others have above that. A share of what does not lie
    two standard errors above zero is nan.
    """
    variables, ends = world.curves(results), np.stack([results["first"].values, results["second"].values], axis=1)
    sets = results.data_set.values[ends]
    same = sets[:, 0] == sets[:, 1]
    seeds = {seed: variables[name].isel(pair=same).rename(pair="seed_pair") for name, (seed, _) in world.SEEDS.items()}
    variables = {name: x.isel(pair=~same) if "pair" in x.dims else x for name, x in variables.items()}
    sets_of = {"network": results.data_set.values[:, None], "pair": sets[~same], "seed_pair": sets[same]}

    def derive(x: xr.Dataset) -> xr.Dataset:
        parts = {of_data: x[name] - x[seed] for name, (seed, of_data) in world.SEEDS.items() if seed in x}
        return world.ratios(x).assign(parts)

    found = replicate(variables | (seeds if same.any() else {}), sets_of).derive(derive)
    error = found.resampling.error
    told = {share: found.mean[of] > 2 * error(found.replicates[of].values) for share, of in world.SHARES.items()}
    return found.derive(lambda x: x.assign({share: x[share].where(known) for share, known in told.items()}))
