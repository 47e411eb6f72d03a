"""Noise a sequence to level t and reverse it: how much of it comes back, with a network and with the exact score?

Starts are the network's own training sequences, sequences that no network has seen, and uniform random strings. A
network that leans to its own samples brings back more of its training sequences than the exact score does.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from hierdiff.keys import key_for
from hierdiff.learning.denoiser import network_denoiser
from hierdiff.noising import Denoiser, respaced, u_turn
from hierdiff.noising.levels import noise_level
from hierdiff.posterior import exact_denoiser, memorizer
from hierdiff.questions.configs import UTurnConfig
from hierdiff.questions.snapshots import Answer, Question, Work
from hierdiff.sampling import coincidences, sample
from hierdiff.statistics.groups import in_groups
from hierdiff.statistics.landmarks import first_significant
from hierdiff.statistics.replicates import Statistics
from hierdiff.statistics.words import column, lines_over, since
from hierdiff.worlds.finished import Run, label_steps

TRAINING, HELD_OUT, RANDOM = STARTS = ("training", "held-out", "random")


def work(run: Run, config: UTurnConfig) -> Work:
    """The share of symbols that come back, from the same starts with the same noise for every denoiser."""
    world, n = run.world, config.starts
    grammar, process, sets, set_of = world.grammar, world.process, world.train, world.set_of
    config.require_run(run.config)
    key = key_for(world.key, "uturn")
    new = sample(key_for(key, "new sequences"), grammar, n).leaves
    strings = jax.random.randint(key_for(key, "random strings"), (n, grammar.leaves), 0, grammar.vocab)
    # For each data set, the three kinds of starts in turn.
    starts = jnp.stack([jnp.concatenate([train[:n], new, strings]) for train in sets])
    ways = [respaced(noise_level(share, process.levels), config.reverse_steps) for share in config.turns]

    def overlaps(denoiser: Denoiser, tokens: jax.Array, first: int = 0) -> jax.Array:
        """The share of equal symbols, `(turns, kinds, n)`; noise is that of the starts from number `first` on."""
        keys = {f"noise of the turn at t = {times[0]}": times for times in ways}
        back = [
            u_turn(key_for(key, name), denoiser, process, tokens, times, first=first) for name, times in keys.items()
        ]
        return (jnp.stack(back) == tokens[None]).mean(-1).reshape(len(ways), -1, n)

    def of_strings(denoiser: Denoiser) -> jax.Array:
        """From the random strings alone, which come last."""
        return overlaps(denoiser, strings, first=2 * n)[:, 0]

    def of_memorizer(train: jax.Array) -> jax.Array:
        return of_strings(lambda x_t, t: memorizer(train, process.log_likelihood(x_t, t)))

    of_networks = run.of_networks(
        lambda params, starts: overlaps(network_denoiser(world.network, process, params), starts), stacked=2
    )
    bp = [exact_denoiser(grammar, process, filtered=k) for k in range(grammar.depth + 1)]
    of_exact = jax.jit(lambda starts: jax.lax.map(lambda tokens: overlaps(bp[0], tokens), starts))
    of_sets = np.asarray(of_exact(starts))
    exact, dims = of_sets[set_of], ("network", "turn", "start", "group")

    def measure(params: Any) -> dict[str, np.ndarray]:
        overlap = of_networks(params, starts[set_of])
        ratio = np.where(exact > 0, overlap / np.maximum(exact, 1 / grammar.leaves), 0)
        return {"overlap": in_groups(overlap), "ratio": in_groups(ratio)}

    of_filtered = [of_sets[0, :, -1], *(jax.jit(functools.partial(of_strings, each))() for each in bp[1:])]
    of_empirical = jax.jit(lambda sets: jax.lax.map(of_memorizer, sets))(sets)
    known = xr.Dataset(
        {
            "exact": (dims, in_groups(exact)),
            "counted": (dims, in_groups((exact > 0).astype(float))),
            # From random strings, which all networks share.
            "of_filtered": (
                ("network", "turn", "filtered", "group"),
                in_groups(np.stack(len(set_of) * [np.stack(of_filtered, 1)])),
            ),
            "of_empirical": (("network", "turn", "group"), in_groups(np.asarray(of_empirical))[set_of]),
        },
        {"turn": list(config.turns), "start": list(STARTS), "filtered": np.arange(grammar.depth + 1)},
        {"coincidences": coincidences(new, sets)},
    )
    return Work(measure, lambda measured: label_steps(run, measured, dict.fromkeys(("overlap", "ratio"), dims), known))


def derive(x: xr.Dataset) -> xr.Dataset:
    """The ratio of the mean overlaps, and the mean of the ratios over sequences of which the exact score keeps some."""
    ratio = x.overlap / x.exact
    return x.assign(
        ratio_of_means=ratio,
        mean_of_ratios=x.ratio / x.counted,
        own_above_new=ratio.sel(start=TRAINING, drop=True) - ratio.sel(start=HELD_OUT, drop=True),
    ).drop_vars(("ratio", "counted"))


def summarise(found: Statistics) -> Answer:
    turns = found.mean.turn.values
    steps = [first_significant(found.curve("own_above_new", turn=turn), found.resampling) for turn in turns]
    when = [f"{step:,.0f} (t/T = {turn:g})" for turn, step in zip(turns, steps, strict=True) if np.isfinite(step)]
    more = "networks bring back more of their own training sequences than of new ones"
    more = f"{more} from step {', '.join(when)} on" if when else since(more, np.nan, found.resampling.sets)
    return Answer(
        f"Against the exact score, {more}.",
        {"since": [{"turn": float(t), "since": step} for t, step in zip(turns, steps, strict=True)]},
    )


def table(curves: xr.Dataset) -> list[str]:
    def both(name: str, **where: Any) -> Callable[[xr.Dataset], str]:
        return lambda at: " / ".join(column(name, 3, start=kind, **where)(at) for kind in (TRAINING, HELD_OUT))

    at_turns = {
        "ratio": both("mean_of_ratios"),
        **{f"BP_{k}": column("of_filtered", 3, filtered=k) for k in curves.filtered.values},
        "the memorizer": column("of_empirical", 3),
        "the networks": column("overlap", 3, start=RANDOM),
    }
    return [
        "overlap of the network over that of the exact score, ratio of means: 'a / b' from training / held-out starts",
        *lines_over("step", curves, {f"t/T = {t:g}": both("ratio_of_means", turn=t) for t in curves.turn.values}),
        "",
        "at the last step, for each turn t/T: the mean over sequences of the ratio, where the exact score brings back "
        "anything; then the overlap from random strings of",
        *lines_over("turn", curves.isel(step=-1), at_turns),
    ]


UTURN = Question("uturn", work, summarise, table, derive)
