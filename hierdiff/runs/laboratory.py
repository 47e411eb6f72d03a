"""What is done with any world: its networks are trained, measured and compared, and the measurements labelled."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.stages import Wrapped

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.devices import over_networks
from hierdiff.learning.loop import Training, TrainingSet, make_training
from hierdiff.runs.world import Inputs, World, of_members
from hierdiff.statistics.groups import in_groups
from hierdiff.statistics.replicates import Statistics, replicate


def prepare(config: Any, world: World) -> Training:
    networks, train = range(len(world.set_of)), world.train[world.set_of]
    init_keys = keys_of(key_for(world.key, "first weights"), networks)
    if config.common_start:
        init_keys = jnp.broadcast_to(init_keys[:1], init_keys.shape)
    return make_training(
        world.network.init,
        world.example_losses(),
        config.train,
        world.mesh,
        TrainingSet(train, jnp.ones(train.shape[:2])),
        init_keys=init_keys,
        keys=keys_of(key_for(world.key, "training"), networks),
        levels=world.process.levels,
    )


def make_measure(world: World) -> Wrapped:
    """All measures of an ensemble, as one compiled function of its weights and the inputs.

    It gives an array for each name in the world's `VARIABLES`, where its dimensions are.
    """
    run = over_networks(world.answer, world.mesh, stacked=1)

    def on_held_out(params, level):
        piece, reference = level
        answers, parts = run(params, piece.x_t, piece.t), world.parts(reference)

        def on_part(part):
            return world.on_part(reference, answers, part, run(params, part.x_t, piece.t))

        of_parts = None if parts is None else jax.lax.map(on_part, parts)
        return world.on_held_out(piece, reference, answers, of_parts)

    def own(name, x):
        """Of values on the members of all sets in turn, those on the own set of a network, or on both of a pair."""
        x = x.reshape(*x.shape[:-1], len(world.train), -1)

        def on(sets):
            return in_groups(x[..., np.arange(len(sets)), sets, :])

        if "pair" in world.VARIABLES[name].dims:
            return 0.5 * (on(world.set_of[world.pairs[0]]) + on(world.set_of[world.pairs[1]]))
        return on(world.set_of)

    def on(params, piece, measures):
        return measures(piece, run(params, piece.x_t, piece.t))

    @jax.jit
    def measure(params, inputs):
        members = jax.lax.map(lambda piece: on(params, piece, world.on_members), inputs.members)
        members |= {of_members(name): x for name, x in on(params, inputs.any_members, world.losses).items()}
        held_out = on(params, inputs.any_held_out, world.losses)
        if inputs.bound is not None:
            held_out |= on(params, inputs.bound, world.on_bound)
        return {
            **jax.lax.map(lambda level: on_held_out(params, level), (inputs.held_out, inputs.reference)),
            **{name: in_groups(x) for name, x in held_out.items()},
            **{name: own(name, x) for name, x in members.items()},
        }

    return measure


def label(along: dict[str, list], world: World, inputs: Inputs, measured: list[dict[str, np.ndarray]]) -> xr.Dataset:
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
            **labelled({name: in_groups(x) for name, x in world.references(inputs).items()}),
        },
        {
            **along,
            "network": np.arange(len(world.set_of)),
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
    two parts: what pairs on the same set show of it, and what the others have above that.
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

    return replicate(variables | (seeds if same.any() else {}), sets_of).derive(derive)
