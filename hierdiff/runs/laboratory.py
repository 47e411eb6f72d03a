"""What is done with any world: its networks are trained, measured and compared, and the measurements labelled."""

from typing import Any

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
    run_each = over_networks(world.answer, world.mesh, stacked=3)

    def on_held_out(params, level):
        piece, reference = level
        answers, parts = run(params, piece.x_t, piece.t), world.parts(reference)

        def on_part(part):
            return world.on_part(reference, answers, part, run(params, part.x_t, piece.t))

        of_parts = None if parts is None else jax.lax.map(on_part, parts)
        return world.on_held_out(piece, reference, answers, of_parts)

    @jax.jit
    def measure(params, inputs):
        def on_members(of_sets):
            return own_members(
                world,
                jax.lax.map(lambda piece: world.on_members(piece, run(params, piece.x_t, piece.t)), of_sets),
            )

        def losses(piece):
            return world.losses(piece, run(params, piece.x_t, piece.t))

        def own_losses(of_sets):
            own = jax.tree.map(lambda x: x[world.set_of], of_sets)
            answers = run_each(params, own.x_t, own.t)
            found = jax.vmap(lambda piece, answer: world.losses(piece, answer[None]))(own, answers)
            return {of_members(name): x.mean((1, 2)) for name, x in found.items()}

        def over_draws(of_losses, pieces):
            return {name: x.mean(0) for name, x in jax.lax.map(of_losses, pieces).items()}

        held_out = over_draws(losses, inputs.any_held_out)
        if inputs.bound is not None:
            held_out |= world.on_bound(inputs.bound, run(params, inputs.bound.x_t, inputs.bound.t))
        return {
            **jax.lax.map(lambda level: on_held_out(params, level), (inputs.held_out, inputs.reference)),
            **{name: in_groups(x) for name, x in held_out.items()},
            **jax.lax.map(on_members, inputs.members),
            **over_draws(own_losses, inputs.any_members),
        }

    return measure


def own_members(world: World, of_sets: dict[str, Array]) -> dict[str, Array]:
    """Means over members, of `(sets, ..., unit, members)` on each set: on a network's own, or on both of a pair.

    What has the dimension `members_of` is kept of all sets.
    """
    first, second = (world.set_of[ends] for ends in world.pairs)

    def of(dims, x):
        def on(sets):
            return jnp.moveaxis(x[sets, ..., np.arange(len(sets))], 0, -1)

        if "members_of" in dims:
            return jnp.moveaxis(x, 0, -1)
        return 0.5 * (on(first) + on(second)) if "pair" in dims else on(world.set_of)

    return {name: of(world.VARIABLES[name].dims, x.mean(-1)) for name, x in of_sets.items()}


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
