"""Noise a sequence to level t and reverse it: how much of it comes back, with a network and with the exact score?

Starts are the network's own training sequences, sequences that no network has seen, and uniform random strings. A
network that leans towards its own samples brings back more of its training sequences than the exact score does.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from hierdiff.keys import key_for
from hierdiff.learning.devices import over_networks
from hierdiff.learning.network import network_denoiser
from hierdiff.noising import Denoiser, respaced, u_turn
from hierdiff.noising.process import noise_level, require_levels
from hierdiff.posterior import exact_denoiser, memorizer
from hierdiff.questions.configs import UTurnConfig
from hierdiff.questions.snapshots import Answer, Question
from hierdiff.sampling import coincidences, sample
from hierdiff.statistics.groups import in_groups
from hierdiff.statistics.landmarks import first_significant
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import cell, lines_over
from hierdiff.worlds.finished import Run, measure_snapshots
from hierdiff.worlds.run_config import require_size

TRAINING, HELD_OUT, RANDOM = STARTS = ("training", "held-out", "random")


def measure(run: Run, config: UTurnConfig, done: Callable[[], object]) -> xr.Dataset:
    """The share of symbols that come back, from the same starts with the same noise for every denoiser."""
    setting = run.setting
    grammar, process, data, set_of = setting.grammar, setting.process, setting.data, setting.set_of
    n = config.starts
    require_size("starts", n, data.train.shape[1])
    require_levels("turns", config.turns, process.levels)
    key = key_for(setting.key, "uturn")
    others = [
        sample(key_for(key, "new sequences"), grammar, n).leaves,
        jax.random.randint(key_for(key, "random strings"), (n, grammar.leaves), 0, grammar.vocab),
    ]
    # For each data set, the three kinds of starts in turn.
    starts = jnp.stack([jnp.concatenate([train[:n], *others]) for train in data.train])
    turns = [respaced(noise_level(share, process.levels), config.reverse_steps) for share in config.turns]

    def overlaps(denoiser: Denoiser, tokens: jax.Array) -> jax.Array:
        """The share of equal symbols, `(turns, kinds, n)`."""

        def turn(number):
            return u_turn(
                key_for(key, f"noise of the turn at t = {turns[number][0]}"), denoiser, process, tokens, turns[number]
            )

        back = jnp.stack([turn(number) for number in range(len(turns))])
        return (back == tokens[None]).mean(-1).reshape(len(turns), -1, n)

    def of_network(params, own, starts):
        return overlaps(network_denoiser(setting.network, process, params), starts[own])

    def empirical(train: jax.Array) -> Denoiser:
        return lambda x_t, t: memorizer(train, process.log_likelihood(x_t, t))

    of_networks = jax.jit(over_networks(of_network, setting.mesh, stacked=2))
    of_exact = jax.jit(lambda starts: jax.lax.map(lambda s: overlaps(exact_denoiser(grammar, process), s), starts))
    of_exact = np.asarray(of_exact(starts))
    exact = of_exact[set_of]

    def on_snapshot(params: Any) -> dict[str, np.ndarray]:
        overlap = np.asarray(of_networks(params, jnp.asarray(set_of, jnp.int32), starts))
        ratio = np.where(exact > 0, overlap / np.maximum(exact, 1 / grammar.leaves), 0)
        return {"overlap": in_groups(overlap), "ratio": in_groups(ratio)}

    dims = ("network", "turn", "start", "group")
    coordinates = {"turn": list(config.turns), "start": list(STARTS), "filtered": np.arange(grammar.depth + 1)}
    results = measure_snapshots(run, on_snapshot, {"overlap": dims, "ratio": dims}, coordinates, done)
    results["exact"] = dims, in_groups(exact)
    results["counted"] = dims, in_groups((exact > 0).astype(float))
    # From random strings, against the filtered and the empirical posteriors.
    bp = [exact_denoiser(grammar, process, filtered=k) for k in range(1, grammar.depth + 1)]
    by_k = [of_exact[0], *(jax.jit(lambda x, denoiser=k: overlaps(denoiser, x))(starts[0]) for k in bp)]
    by_k = in_groups(np.stack([np.asarray(x)[:, -1] for x in by_k], 1))
    results["of_filtered"] = ("network", "turn", "filtered", "group"), np.broadcast_to(by_k, (len(set_of), *by_k.shape))
    by_set = jax.jit(lambda sets: jax.lax.map(lambda each: overlaps(empirical(each), starts[0])[:, -1], sets))
    by_set = by_set(data.train)
    results["of_empirical"] = ("network", "turn", "group"), in_groups(np.asarray(by_set))[set_of]
    return results.assign_attrs(coincidences=coincidences(others[0], data.train))


def statistics(run: Run, results: xr.Dataset) -> Statistics:
    """The ratio of the mean overlaps, and the mean of the ratios over sequences of which the exact score keeps some."""

    def derive(x: xr.Dataset) -> xr.Dataset:
        ratio = x.overlap / x.exact
        return x.assign(
            ratio_of_means=ratio,
            mean_of_ratios=x.ratio / x.counted,
            own_above_new=ratio.sel(start=TRAINING, drop=True) - ratio.sel(start=HELD_OUT, drop=True),
        ).drop_vars(("ratio", "counted"))

    return replicate(results.data_vars, run.sets_of).derive(derive)


def summarise(found: Statistics) -> Answer:
    """Since when more of the own training sequences comes back than of new ones, each against the exact score."""
    turns = found.mean.turn.values
    since = [first_significant(found.curve("own_above_new", turn=turn), found.resampling) for turn in turns]
    when = [f"{step:,.0f} (t/T = {turn:g})" for turn, step in zip(turns, since, strict=True) if np.isfinite(step)]
    sentence = (
        f"Against the exact score, networks bring back more of their own training sequences than of new ones from step "
        f"{', '.join(when)} on."
        if when
        else "At no turn do networks bring back more of their own training sequences than of new ones."
    )
    rows = [{"turn": float(turn), "since": step} for turn, step in zip(turns, since, strict=True)]
    return Answer(sentence, {"since": rows})


def table(found: Statistics) -> str:
    """A row for each snapshot: at each turn, the ratio of mean overlaps on training and on held-out starts."""
    curves = found.curves()
    turns, kinds = curves.turn.values, (TRAINING, HELD_OUT)

    def both(at: xr.Dataset, name: str, turn: float) -> str:
        return " / ".join(cell(at.sel(turn=turn, start=kind), name, 3) for kind in kinds)

    columns = {f"t/T = {turn:g}": lambda at, turn=turn: both(at, "ratio_of_means", turn) for turn in turns}
    lines = [
        "overlap of the network over that of the exact score, ratio of means: 'a / b' from training / held-out starts",
        *lines_over("step", curves, columns, 21),
    ]
    last = curves.isel(step=-1)
    lines.append("mean over sequences of the ratio, where the exact score brings back anything, at the last step")
    lines.append(" " * 9 + " ".join(f"{both(last, 'mean_of_ratios', turn):>21}" for turn in turns))
    lines += ["", f"{'from random strings, overlap of':>36} " + " ".join(f"{f't/T = {turn:g}':>12}" for turn in turns)]
    rows = {f"BP_{k}": ("of_filtered", {"filtered": k}) for k in curves.filtered.values}
    rows |= {"the memorizer": ("of_empirical", {}), "the networks, last step": ("overlap", {"start": RANDOM})}
    for label, (name, where) in rows.items():
        cells = [cell(last.sel(turn=turn, **where), name, 3) for turn in turns]
        lines.append(f"{label:>36} " + " ".join(f"{each:>12}" for each in cells))
    return "\n".join(lines)


QUESTION = Question("uturn", measure, statistics, summarise, table)
answer = QUESTION.answer
