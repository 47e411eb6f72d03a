"""What is a training loss made of: what the network lacks of the exact posterior, and what it knows of the sequence?"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Int

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.denoiser import network_log_posterior
from hierdiff.measures.divergence import log_of
from hierdiff.measures.losses import decomposition
from hierdiff.measures.probe import stacked
from hierdiff.measures.times import any_times
from hierdiff.noising.levels import noise_level
from hierdiff.questions.configs import LossesConfig
from hierdiff.questions.snapshots import Answer, Question, Work
from hierdiff.sampling import coincidences, sample
from hierdiff.statistics.groups import in_groups
from hierdiff.statistics.landmarks import first_significant, minimum
from hierdiff.statistics.replicates import Statistics
from hierdiff.statistics.words import column, interval, lines_over, since
from hierdiff.worlds.finished import Run, label_steps

TRAINING, HELD_OUT = INPUTS = ("training", "held-out")
# Of each variable, the dimensions beside the step: at each noise level, and at t uniform.
DIMENSIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("to_exact", "residual"), ("network", "noise", "inputs", "group")),
    **dict.fromkeys(("to_exact_average", "residual_average"), ("network", "inputs", "group")),
}


def targets_of(run: Run, key: Array, n: int) -> tuple[Int[Array, "rows n L"], Int[np.ndarray, "S 2"], int]:
    """A row of `n` training sequences of each data set, and one of as many new ones; the two rows of each network.

    Last, how many of the new ones turn up in a data set. Consumes `key`.
    """
    world = run.world
    new, last = sample(key, world.grammar, n).leaves, np.full_like(world.set_of, len(world.train))
    targets, rows = jnp.concatenate([world.train[:, :n], new[None]]), np.stack([world.set_of, last], 1)
    return targets, rows, coincidences(new, world.train)


def work(run: Run, config: LossesConfig) -> Work:
    """The two parts of the loss on own training sequences and on new ones, at each noise level and on average."""
    world, noise, n = run.world, run.config.measure.noise, config.targets
    config.require_run(run.config)
    key = key_for(world.key, "losses")
    targets, rows, seen = targets_of(run, key_for(key, "new sequences"), n)
    keys = keys_of(key_for(key, "any level"), range(len(targets)))
    levels = [noise_level(share, world.process.levels) for share in noise]
    names = {
        **{f"losses' noise at t = {level}": jnp.full(targets[..., 0].size, level) for level in levels},
        "losses' noise at any level": jnp.concatenate([any_times(key, n, world.process.levels) for key in keys]),
    }
    leaves = targets.reshape(-1, targets.shape[-1])
    pieces = stacked(world.noised(name, leaves, t, filtered=(0,)) for name, t in names.items())
    log_posterior = network_log_posterior(world.network, world.process)

    def parts(answer, rows, pieces):
        """Of what gives log p(x_0 | x_t): to the exact posterior, and residual, each `(levels, inputs, n)`."""
        mine = (rows[:, None] * n + jnp.arange(n)[None]).ravel()

        def at(piece):
            exact = piece.exact[0, mine]
            found = decomposition(piece.tokens[mine], exact, answer(piece.x_t[mine], piece.t[mine], exact))
            return [x.reshape(2, n) for x in found]

        return jax.lax.map(at, pieces)

    def by_level(names: tuple[str, ...], found: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Means over groups at each noise level; the last piece is that at t uniform."""
        of_names = list(zip(names, map(in_groups, found), strict=True))
        return {
            **{name: x[:, :-1] for name, x in of_names},
            **{f"{name}_average": x[:, -1] for name, x in of_names},
        }

    of_all = run.of_networks(
        lambda params, *of_rows: parts(lambda x_t, t, _: log_posterior(params, x_t, t), *of_rows), stacked=2
    )
    # The residual of the exact posterior is zero on average over any sequences, seen or not.
    _, residual = run.of_networks(functools.partial(parts, lambda x_t, t, exact: log_of(exact)), stacked=1)(
        rows, pieces
    )
    of_exact = by_level(("exact_residual",), [residual])
    known = xr.Dataset(
        {name: (DIMENSIONS[name.removeprefix("exact_")], x) for name, x in of_exact.items()},
        {"noise": list(noise), "inputs": list(INPUTS)},
        {"coincidences": seen},
    )
    return Work(
        lambda params: by_level(("to_exact", "residual"), of_all(params, rows, pieces)),
        lambda measured: label_steps(run, measured, DIMENSIONS, known),
    )


def derive(x: xr.Dataset) -> xr.Dataset:
    """`known` is the residual below that of the exact posterior, which has the same noise."""
    return x.assign(
        loss=x.to_exact + x.residual,
        loss_average=x.to_exact_average + x.residual_average,
        known=x.exact_residual - x.residual,
        known_average=x.exact_residual_average - x.residual_average,
    )


def summarise(found: Statistics) -> Answer:
    known_since = first_significant(found.curve("known_average", inputs=TRAINING), found.resampling)
    known = "the network knows its own sequences, beyond what their noised form says,"
    nearest = minimum(found.curve("to_exact_average", inputs=TRAINING), found.resampling)
    sentence = (
        "On training sequences, the part of the loss that measures the distance to the exact posterior is smallest at "
        f"step {interval(nearest)}; {since(known, known_since, found.resampling.sets)}."
    )
    return Answer(sentence, {"known_since": known_since, "nearest_on_training": nearest})


def table(curves: xr.Dataset) -> list[str]:
    averaged, by_level = (
        {
            f"{part.replace('_', ' ')}, {inputs}": column(f"{part}{end}", 3, inputs=inputs)
            for inputs in INPUTS
            for part in ("loss", "to_exact", "residual", "known")
        }
        for end in ("_average", "")
    )
    return [
        "nats a sequence, averaged over the noise levels; loss = to exact + residual; known: how far the residual lies "
        "below that of the exact posterior",
        *lines_over("step", curves, averaged),
        "",
        f"at step {int(curves.step[-1]):,}, at the noise level t/T",
        *lines_over("noise", curves.isel(step=-1), by_level),
    ]


LOSSES = Question("losses", work, summarise, table, derive)
