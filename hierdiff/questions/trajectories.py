"""Does what networks have of their data reach what they generate? They are measured where they go in reverse diffusion.

Held-out sequences that are noised are not what a network meets when it generates: that is what it has made itself of
noise. Where it goes, the gap between training and new data need not show (arXiv 2603.13419), or the network may never
have been trained (arXiv 2510.01378). So the usual measures are taken on states of four kinds: of held-out sequences, of
the exact denoiser's trajectories, of the own ones of the networks that are measured, and of those of networks whose
data set is none of theirs. All trajectories have the same starts and meet the same noise. A trajectory has no x_0: own
against other, measured beside it, is that of noised training sequences.

Under masking a network may show what the grammar forbids. There is no exact posterior then; measures are means over the
states that the grammar allows, kept as sums and counts.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Int

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.denoiser import network_denoiser
from hierdiff.learning.devices import over_networks, to_host
from hierdiff.measures.divergence import divergence, sample_split
from hierdiff.noising import Denoiser, respaced
from hierdiff.noising.reversal import reverse_state
from hierdiff.posterior import exact_denoiser, leaf_posterior, log_evidence
from hierdiff.questions.configs import TrajectoriesConfig
from hierdiff.questions.snapshots import Answer, Question, Work
from hierdiff.runs import record
from hierdiff.sampling import coincidences, sample
from hierdiff.statistics.groups import in_groups
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import NOT_ESTIMATED, aligned, column, lines_over, with_interval
from hierdiff.worlds.finished import Run, label_steps

HELD_OUT, EXACT, OWN, OTHER = STATES = ("held-out", "exact", "own", "other")
# Of each unit, what is summed over the states that are possible, and how many of all these are.
SUMS = {"network": ("divergence", "evidence"), "pair": ("split", "data_dependent")}
DIMENSIONS = {
    **{name: ("noise", "states", unit, "group") for unit, names in SUMS.items() for name in (*names, f"{unit}_states")},
    **dict.fromkeys(("own_loss", "other_loss"), ("pair", "noise")),
}


def weights(networks: Int[np.ndarray, "units _"], set_of: Int[np.ndarray, " S"]) -> Float[np.ndarray, "kinds units _"]:
    """How much states count in each kind, for units of these networks; they are held-out, exact, and of each network.

    Where there is no network of another data set than the unit's, none do.
    """
    every = np.arange(len(set_of))
    inside = (networks[..., None] == every).any(1)
    outside = ~(set_of[networks][..., None] == set_of).any(1)

    def even(of_networks: Bool[np.ndarray, "units S"]) -> np.ndarray:
        number = np.maximum(of_networks.sum(1, keepdims=True), 1)
        return np.concatenate([np.zeros((len(networks), 2)), of_networks / number], 1)

    fixed = np.eye(2, 2 + len(set_of))
    return np.stack([*(np.tile(row, (len(networks), 1)) for row in fixed), even(inside), even(outside)])


def work(run: Run, config: TrajectoriesConfig) -> Work:
    """What is measured on states of each kind, at each noise level, and own against other on training sequences."""
    config.require_run(run.config)
    world, n, key = run.world, config.sequences, key_for(run.world.key, "trajectories")
    grammar, process, levels = world.grammar, world.process, world.levels_of(config.levels)
    start = process.start(keys_of(key_for(key, "starts"), range(n)), grammar.leaves)
    grid = respaced(process.levels, config.reverse_steps)

    def trajectory(denoiser: Denoiser, x: Array) -> Array:
        """The states at each level."""
        on_the_way = {process.levels: x}
        for above, level in itertools.pairwise([process.levels, *sorted(levels, reverse=True)]):
            times = np.array([above, *grid[(level < grid) & (grid < above)]])
            noise = key_for(key, f"noise down to t = {level}")
            on_the_way[level] = reverse_state(noise, denoiser, process, on_the_way[above], times, end=level)
        return jnp.stack([on_the_way[level] for level in levels])

    def noised(name: str, tokens: Array) -> Array:
        return jnp.stack([process.corrupt(key_for(key, f"{name} at t = {t}"), tokens, t) for t in levels])

    of_networks = run.of_networks(
        lambda params, start: trajectory(network_denoiser(world.network, process, params), start), stacked=1
    )
    new = sample(key_for(key, "new sequences"), grammar, n).leaves
    of_exact = jax.jit(lambda start: trajectory(exact_denoiser(grammar, process), start))(start)
    known = [np.asarray(x) for x in (noised("new sequences", new), of_exact)]
    members = world.train[:, :n]
    of_members = jnp.stack([noised(f"members of set {i}", x) for i, x in enumerate(members)])
    (first, second), every = run.pairs, np.arange(len(world.set_of))
    counted = {"network": weights(every[:, None], world.set_of), "pair": weights(np.stack(run.pairs, 1), world.set_of)}
    answers = over_networks(world.answer, world.mesh, stacked=1)

    @jax.jit
    def measured(params: Any, states: Array, of_members: Array) -> tuple[dict[str, Array], Array]:
        def on_states(given):
            x_t, t = given
            ll = process.log_likelihood(x_t, t)
            evidence, log_f = log_evidence(grammar, ll), answers(params, x_t, jnp.full(n, t))
            f, possible = jnp.exp(log_f), evidence > -jnp.inf
            found = {
                "divergence": divergence(leaf_posterior(grammar, ll)[None], log_f),
                "evidence": evidence[None],
                "split": sample_split(log_f[first], log_f[second]),
                "data_dependent": 0.5 * jnp.square(f[first] - f[second]).sum((-1, -2)),
                "possible": jnp.ones((1, n)),
            }
            return {name: in_groups(jnp.where(possible, x, 0)) for name, x in found.items()}

        def on_members(given):
            tokens, x_t, t = given
            return world.errors(tokens, answers(params, x_t, jnp.full(len(tokens), t))).mean(-1)

        def at_levels(on, *given):
            """Of arrays `(..., levels, n, ...)`, one level of one source after another."""
            outer = given[-1].shape[:2]
            flat = [x.reshape(-1, *x.shape[2:]) for x in given]
            found = jax.lax.map(on, (*flat, jnp.tile(jnp.array(levels, jnp.int32), outer[0])))
            return jax.tree.map(lambda x: x.reshape(*outer, *x.shape[1:]), found)

        tokens = jnp.broadcast_to(members[:, None], (len(members), len(levels), *members.shape[1:]))
        return at_levels(on_states, states), at_levels(on_members, tokens, of_members)

    def measure(params: Any) -> dict[str, np.ndarray]:
        states = jnp.asarray(np.stack([*known, *of_networks(params, start)]))
        found, losses = to_host(measured(params, states, of_members))

        def of_kinds(unit: str, name: str) -> np.ndarray:
            """Of `(sources, levels, units, groups)`, or the same for all units."""
            x, weight = found[name], counted[unit]
            each = np.broadcast_to(x, (*x.shape[:2], weight.shape[1], x.shape[3]))
            return np.einsum("kus,slug->lkug", weight, each)

        return {
            **{name: of_kinds(unit, name) for unit, names in SUMS.items() for name in names},
            **{f"{unit}_states": of_kinds(unit, "possible") for unit in SUMS},
            **run.own_and_other(loss=np.moveaxis(losses, -1, 0)),
        }

    about = xr.Dataset(
        {}, {"noise": list(config.levels), "states": list(STATES)}, {"coincidences": coincidences(new, world.train)}
    )
    return Work(measure, lambda found: label_steps(run, found, DIMENSIONS, about))


def means(run: Run, results: xr.Dataset) -> Statistics:
    """The snapshots at which the run is read, nearest to turning point and best, or to the end, have a word, `when`.

    A pair counts with its own two data sets alone, though the states of others are those of further networks.
    """
    found, summary = replicate(results.data_vars, run.sets_of), record.read_json(run.folder / "summary.json")
    steps = found.mean.step.values
    landmarks = {"the turning point": summary["onset"]["step"], "best": summary["best"]["step"], "the end": steps[-1]}
    two = [(name, abs(steps - step).argmin()) for name, step in landmarks.items() if step is not None][:2]
    when = [" and ".join(name for name, place in two if place == i) for i in range(len(steps))]
    return Statistics(found.mean.assign_coords(when=("step", when)), found.replicates, found.resampling)


def derive(x: xr.Dataset) -> xr.Dataset:
    """Means over the states that are possible, and what they are beside those of other kinds.

    `share` and `times` are the data-dependent part and the divergence over those of held-out sequences, and `drift` is
    the log-evidence minus theirs, or, `beyond_exact`, minus that of the exact denoiser's trajectories.
    """
    of = {
        name: x[name] / x[f"{unit}_states"].where(x[f"{unit}_states"] > 0)
        for unit, names in SUMS.items()
        for name in names
    }

    def over(name: str) -> xr.DataArray:
        held_out = of[name].sel(states=HELD_OUT, drop=True)
        return of[name] / held_out.where(held_out > 0)

    beside = {
        "share": over("data_dependent"),
        "times": over("divergence"),
        "drift": of["evidence"] - of["evidence"].sel(states=HELD_OUT, drop=True),
        "beyond_exact": of["evidence"] - of["evidence"].sel(states=EXACT, drop=True),
        "impossible": 1 - x.network_states,
        "own_against_other": x.other_loss - x.own_loss,
    }
    return x.assign(of | beside).drop_vars([f"{unit}_states" for unit in SUMS])


def looked_at(curves: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """The snapshots at which a run is read, in words."""
    for at in (curves.isel(step=i) for i in np.flatnonzero(curves.when.values != "")):
        yield f"{at.when.item()}, step {int(at.step):,}", at


def summarise(found: Statistics) -> Answer:
    """At each of two snapshots, what is there on trajectories of what held-out sequences show, and what accumulates."""
    said, rows = [], []
    for where, at in looked_at(found.curves()):
        levels = at.noise.values.tolist()
        own = {t: at.sel(states=OWN, noise=t) for t in levels}
        high, low = own[max(levels)], own[min(levels)]
        shares = ", ".join(f"{with_interval(x, 'share', 2)} at t/T = {t:g}" for t, x in own.items())
        first, last = (f"{with_interval(x, 'beyond_exact', 2)} nats at t/T = {float(x.noise):g}" for x in (high, low))
        forbidden = f", and the grammar forbids {float(low.impossible):.0%} of them" if low.impossible > 0 else ""
        said += [
            f"At {where}, the data-dependent part on the networks' own trajectories is, over that on noised held-out "
            f"sequences, {shares}.",
            f"The log-evidence of these states, minus that of the exact denoiser's, is {first} and {last}: "
            f"{accumulates(high, low)}; the divergence from the exact posterior is there "
            f"{with_interval(low, 'times', 1)} times that on held-out sequences{forbidden}.",
        ]
        rows += [{"when": at.when.item(), "step": int(at.step), "noise": t, **numbers(x)} for t, x in own.items()]
    return Answer(" ".join(said), {"own": rows})


def numbers(at: xr.Dataset) -> dict[str, list[float]]:
    """Values with half of their 95% intervals."""
    names = ("share", "times", "beyond_exact", "impossible")
    return {name: [float(at[name]), float(at[f"{name}_half"])] for name in names}


def accumulates(high: xr.Dataset, low: xr.Dataset) -> str:
    """Whether own trajectories part from the exact denoiser's on the way from a high noise level to a low one."""
    first, last, half = (float(x) for x in (high.beyond_exact, low.beyond_exact, low.beyond_exact_half))
    if np.isnan(half):
        return f"whether error accumulates is {NOT_ESTIMATED} with two data sets"
    if abs(last) <= half:
        return "no error that accumulates is told from zero"
    return "error accumulates" if abs(last) > abs(first) else "error shows, but does not grow on the way"


def table(curves: xr.Dataset) -> list[str]:
    columns = {
        "split": column("split", 3),
        "data-dependent": column("data_dependent", 3),
        "share": column("share", 2),
        "KL(exact || f)": column("divergence", 3),
        "times": column("times", 2),
        "log-evidence": column("drift", 2),
        "- exact's": column("beyond_exact", 2),
        "impossible": column("impossible", 3),
    }
    lines = [
        "states: noised held-out sequences, and trajectories of the exact denoiser, of the networks measured and of "
        "others; share, times: over that of held-out; log-evidence: minus that of held-out, or of the exact denoiser's"
    ]
    for where, at in looked_at(curves):
        rows = [
            {"t/T": f"{noise:g}", "states": kind}
            | {name: cell(at.sel(noise=noise, states=kind)) for name, cell in columns.items()}
            for noise in at.noise.values
            for kind in STATES
        ]
        own = lines_over("noise", at, {"own against other": column("own_against_other", 3)})
        lines += [where, *aligned(rows), "on noised training sequences, nats a sequence", *own, ""]
    return lines[:-1]


TRAJECTORIES = Question("trajectories", work, summarise, table, derive, means)
