"""What is a training loss made of: what the network lacks of the exact posterior, and what it knows of the sequence?"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.devices import over_networks
from hierdiff.learning.network import network_log_posterior
from hierdiff.measures.divergence import log_of
from hierdiff.measures.losses import decomposition
from hierdiff.measures.probe import Piece
from hierdiff.noising.process import any_times, noise_level
from hierdiff.questions.configs import LossesConfig
from hierdiff.questions.snapshots import Answer, Question
from hierdiff.sampling import coincidences, sample
from hierdiff.statistics.groups import in_groups
from hierdiff.statistics.landmarks import estimate, first_significant
from hierdiff.statistics.minima import locate_minimum
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import cell, interval, lines_over
from hierdiff.worlds.finished import Run, measure_snapshots
from hierdiff.worlds.run_config import require_size
from hierdiff.worlds.sequences import noised_at

TRAINING, HELD_OUT = INPUTS = ("training", "held-out")


def measure(run: Run, config: LossesConfig, done: Callable[[], object]) -> xr.Dataset:
    """The two parts of the loss on own training sequences and on new ones, at each noise level and on average."""
    setting = run.setting
    grammar, process, data, set_of = setting.grammar, setting.process, setting.data, setting.set_of
    noise, n = run.config.measure.noise, config.targets
    require_size("targets", n, data.train.shape[1])
    key = key_for(setting.key, "losses")
    others = sample(key_for(key, "new sequences"), grammar, n).leaves
    leaves = jnp.concatenate([*data.train[:, :n], others])
    keys = keys_of(key_for(key, "any level"), range(len(leaves) // n))
    any_level = jnp.concatenate([any_times(key, n, process.levels) for key in keys])
    levels = [noise_level(share, process.levels) for share in noise]
    pieces = noised_at(setting, "losses'", leaves, levels, any_level, filtered=(0,))
    log_posterior = network_log_posterior(setting.network, process)

    def parts(params, own, pieces):
        """To the exact posterior, and residual: each `(levels, inputs, n)`."""
        rows = jnp.concatenate([own * n + jnp.arange(n), len(leaves) - n + jnp.arange(n)])

        def at(piece):
            log_f = log_posterior(params, piece.x_t[rows], piece.t[rows])
            return [x.reshape(2, n) for x in decomposition(piece.tokens[rows], piece.exact[0, rows], log_f)]

        return jax.lax.map(at, pieces)

    parts_of_all = jax.jit(over_networks(parts, setting.mesh, stacked=2))

    def on_snapshot(params: Any) -> dict[str, np.ndarray]:
        found = parts_of_all(params, jnp.asarray(set_of, jnp.int32), pieces)
        by_name = zip(("to_exact", "residual"), (in_groups(np.asarray(x)) for x in found), strict=True)
        return {
            f"{name}{when}": x
            for name, whole in by_name
            for when, x in (("", whole[:, :-1]), ("_average", whole[:, -1]))
        }

    results = measure_snapshots(run, on_snapshot, DIMENSIONS, {"noise": list(noise), "inputs": list(INPUTS)}, done)
    floor = np.asarray(exact_residuals(pieces)).reshape(len(pieces.t), -1, n)
    floor = in_groups(np.stack([floor[:, set_of], np.broadcast_to(floor[:, -1:], floor[:, set_of].shape)], 2))
    floor = np.moveaxis(floor, 1, 0)
    results["exact_residual"] = DIMENSIONS["residual"], floor[:, :-1]
    results["exact_residual_average"] = DIMENSIONS["residual_average"], floor[:, -1]
    return results.assign_attrs(coincidences=coincidences(others, data.train))


@jax.jit
def exact_residuals(pieces: Piece) -> jax.Array:
    """The residual of the exact posterior, `(levels, n)`: zero on average over any sequences, seen or not."""
    exact = pieces.exact[:, 0]
    return decomposition(pieces.tokens, exact, log_of(exact))[1]


BY_LEVEL, AVERAGED = ("network", "noise", "inputs", "group"), ("network", "inputs", "group")
# Of each variable, the dimensions beside the step.
DIMENSIONS: dict[str, tuple[str, ...]] = {
    "to_exact": BY_LEVEL,
    "residual": BY_LEVEL,
    "to_exact_average": AVERAGED,
    "residual_average": AVERAGED,
}


def statistics(run: Run, results: xr.Dataset) -> Statistics:
    """Means with replicates. `known` is the residual below that of the exact posterior, which has the same noise."""

    def derive(x: xr.Dataset) -> xr.Dataset:
        return x.assign(
            loss=x.to_exact + x.residual,
            loss_average=x.to_exact_average + x.residual_average,
            known=x.exact_residual - x.residual,
            known_average=x.exact_residual_average - x.residual_average,
        )

    return replicate(results.data_vars, run.sets_of).derive(derive)


def summarise(found: Statistics) -> Answer:
    """Since when the residual of training sequences is negative, and where the part towards the exact is smallest."""
    since = first_significant(found.curve("known_average", inputs=TRAINING), found.resampling)
    nearest = estimate(found.curve("to_exact_average", inputs=TRAINING), found.resampling, locate_minimum)
    sentence = (
        "On training sequences, the part of the loss that measures the distance to the exact posterior is smallest at "
        f"step {interval(nearest)}; the network knows its own sequences, beyond what their noised form says, "
        + (f"from step {since:,.0f} on." if np.isfinite(since) else "at no step for good.")
    )
    return Answer(sentence, {"known_since": since, "nearest_on_training": nearest.landmark})


def table(found: Statistics) -> str:
    """A row for each snapshot, averaged over all noise levels, and a row for each of some levels at the last one."""
    curves = found.curves()

    def columns(end: str) -> dict[str, Callable[[xr.Dataset], str]]:
        return {
            f"{part.replace('_', ' ')}, {inputs}": lambda at, part=part, inputs=inputs: cell(
                at.sel(inputs=inputs), f"{part}{end}", 3
            )
            for inputs in INPUTS
            for part in ("loss", "to_exact", "residual", "known")
        }

    lines = [
        "nats a sequence, averaged over the noise levels; loss = to exact + residual; known: how far the residual lies "
        "below that of the exact posterior",
        *lines_over("step", curves, columns("_average"), 19),
        "",
        f"at step {int(curves.step[-1]):,}, at the noise level t/T",
        *lines_over("noise", curves.isel(step=-1), columns(""), 19),
    ]
    return "\n".join(lines)


QUESTION = Question("losses", measure, statistics, summarise, table)
answer = QUESTION.answer
