"""Which training sequences are memorized first: typical ones or isolated ones? And those that are there several times?

Memorization of a training sequence is what its loss under a network that has not seen it lies above that under one that
has, with the same noise. It is ranked against how typical the sequence is, which the grammar says exactly, and each
height of it. Two papers disagree: typical ones come first (arXiv 2605.30642), or isolated ones (arXiv 2606.14390).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.stats import rankdata

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.denoiser import network_log_posterior
from hierdiff.measures.neighbours import nearest_others
from hierdiff.measures.rarity import block_counts, log_probability, rule_weights
from hierdiff.measures.times import any_times
from hierdiff.noising.process import cross_entropy
from hierdiff.questions.configs import FirstConfig
from hierdiff.questions.laws import exponent, placed
from hierdiff.questions.snapshots import Answer, Question, Work
from hierdiff.statistics.groups import GROUPS
from hierdiff.statistics.landmarks import Landmark, crossing, first_significant
from hierdiff.statistics.laws import Law, Reading, power_law
from hierdiff.statistics.ranks import standard_ranks
from hierdiff.statistics.replicates import Statistics, resampling
from hierdiff.statistics.words import NOT_ESTIMATED, aligned, around, column, interval, lines_over, since
from hierdiff.worlds.finished import Run, label_steps

DIMENSIONS = {"loss": ("network", "members_of", "half", "target")}
# Whether each covariate grows with how typical a sequence is, or falls. The last two are of each height.
COVARIATES = {"probability": 1, "distance": -1, "frequency": 1, "weights": 1}
WORDS = {
    "probability": "log-probability",
    "distance": "Hamming distance to the nearest other member",
    "frequency": "frequency of its blocks",
    "weights": "weights of its rules",
}
# How many of the most memorized sequences are shown.
SHOWN = 10
# Of covariates in nats what is less than rounding.
DIGITS = 3


def work(run: Run, config: FirstConfig) -> Work:
    """The loss of every network on the first distinct training sequences of every set, in two halves of the draws."""
    config.require_run(run.config)
    world, n, half = run.world, min(config.targets, int(run.config.places.max()) + 1), config.draws // 2
    members, process = world.train[:, :n], world.process
    keys = keys_of(key_for(world.key, "first"), range(2 * len(members)))
    log_posterior = network_log_posterior(world.network, process)

    def losses(params, members, keys):
        """`(sets, halves, n)`: of each sequence and half at as many levels, one in each equal part of all."""

        def of_half(each):
            tokens, key = each
            t = any_times(key_for(key, "levels"), n * half, process.levels, groups=n).reshape(n, half).T

            def draw(each):
                key, t = each
                x_t = process.corrupt(key, tokens, t)
                return cross_entropy(tokens, log_posterior(params, x_t, t))

            return jax.lax.map(draw, (keys_of(key_for(key, "noise"), range(half)), t)).mean(0)

        found = jax.lax.map(of_half, (jnp.repeat(members, 2, axis=0), keys))
        return found.reshape(len(members), 2, n)

    of_all = run.of_networks(losses, stacked=1)
    known = covariates(run, n, config.level)
    return Work(
        lambda params: {"loss": of_all(params, members, keys)},
        lambda measured: label_steps(run, measured, DIMENSIONS, known),
    )


def covariates(run: Run, n: int, level: float) -> xr.Dataset:
    """How typical the first `n` training sequences of each set are; `level` is kept with it."""
    grammar, train = run.world.grammar, run.world.train
    every = [log_probability(grammar, each[:n]) for each in train], [rule_weights(grammar, each[:n]) for each in train]
    probability, weights = (np.round(np.array(x, float), DIGITS) for x in every)
    counts = np.array([block_counts(each, branching=grammar.branching)[:, :n] for each in train])
    distance = np.array([nearest_others(each, n, vocab=grammar.vocab) for each in train], float)
    of_set, of_height = ("members_of", "target"), ("members_of", "height", "target")
    return xr.Dataset(
        {
            "probability": (of_set, probability),
            "distance": (of_set, distance),
            "frequency": (of_height, np.round(counts, DIGITS)),
            "copies": (of_set, np.rint(np.exp(counts[:, -1])).astype(int)),
            # A leaf has no rule.
            "weights": (of_height, np.pad(weights, ((0, 0), (1, 0), (0, 0)), constant_values=np.nan)),
        },
        {"height": np.arange(grammar.depth + 1)},
        {"level": level},
    )


def means(run: Run, results: xr.Dataset) -> Statistics:
    """Rank correlations within each set, and their mean over sets; each set, with its networks, is left out in turn.

    Ranked are sequences that are put into their set once: what copies do is told apart.
    """
    sets, repeat = len(run.world.train), run.config.repeat
    loss = results.loss.transpose("step", "network", "members_of", "half", "target").values.astype(float)
    by_set = np.stack([loss[:, run.world.set_of == number].mean(1) for number in range(sets)], 1)
    known = {name: results[name].values for name in COVARIATES}
    once = np.bincount(run.config.places)[: results.sizes["target"]] == 1
    ranks = {name: standard_ranks(x[..., once]) for name, x in known.items()}

    def of(kept: np.ndarray) -> xr.Dataset:
        memory = memorization(by_set[:, kept][:, :, kept])
        mean, halves = memory.mean(2), standard_ranks(memory[..., once])
        agree = (halves[:, :, 0] * halves[:, :, 1]).mean((1, 2))
        found: dict[str, Any] = {
            "memory": (["step"], mean[..., once].mean((1, 2))),
            # Of the mean of both halves (Spearman and Brown).
            "reliability": (["step"], 2 * agree / (1 + agree)),
        }
        of_step = standard_ranks(mean[..., once])
        for name, of_set in ranks.items():
            dims = ["step", "height"] if of_set.ndim == 3 else ["step"]
            found[name] = dims, np.einsum("skn,k...n->s...", of_step, of_set[kept]) / of_step[0].size
        if len(repeat) > 1:
            often = np.array([results["copies"].values[kept] == number for number in repeat])
            with np.errstate(invalid="ignore"):
                found["by_copies"] = ["step", "copies"], np.einsum("skn,ckn->sc", mean, often) / often.sum((1, 2))
        return xr.Dataset(found)

    resample = resampling(sets=sets, groups=GROUPS)
    left_out, which = np.unique(resample.left_out, axis=0, return_inverse=True)
    replicates = xr.concat([of(np.flatnonzero(~np.isin(range(sets), each))) for each in left_out], "replicate")
    every = np.arange(sets)
    most = most_memorized(memorization(by_set)[-1].mean(1), run.world.train, known)
    mean = of(every).merge(most).assign_attrs(level=results.level, ranked=len(known["distance"][0]))
    several = {"copies": list(repeat)} if len(repeat) > 1 else {}
    coordinates = {"step": results.step.values, "height": results.height.values, **several}
    drawn = replicates.isel(replicate=which.ravel())
    return Statistics(mean.assign_coords(coordinates), drawn.assign_coords(coordinates), resample)


def memorization(by_set: Float[np.ndarray, "step set set half n"]) -> Float[np.ndarray, "step set half n"]:
    """Of losses of the networks on each set, on members of each: those of all others above those of the own set."""
    own = np.moveaxis(np.diagonal(by_set, axis1=1, axis2=2), -1, 1)
    return (by_set.sum(1) - own) / (by_set.shape[1] - 1) - own


def most_memorized(
    memory: Float[np.ndarray, "set n"], train: Any, known: dict[str, Float[np.ndarray, "set ..."]]
) -> xr.Dataset:
    """The most memorized sequences, with the rank of each covariate in the set, 1 the smallest; nan: all are alike."""
    of_set, place = np.unravel_index(np.argsort(-memory, axis=None)[:SHOWN], memory.shape)
    found: dict[str, Any] = {
        "most_nats": ("most", memory[of_set, place]),
        "most_set": ("most", of_set),
        "most_sequence": (("most", "leaf"), np.asarray(train)[of_set, place]),
    }
    for name, x in known.items():
        ranks = np.where(np.ptp(x, axis=-1, keepdims=True) > 0, rankdata(x, axis=-1), np.nan)[of_set, ..., place]
        found[f"most_{name}"] = ("most", "height")[: ranks.ndim], ranks
    return xr.Dataset(found)


class Told(NamedTuple):
    """What a covariate, at a height if it has one, says of which sequences are memorized more: at which steps.

    At step `most` it says so most: there the rank correlation is `value`, with half of its 95% interval.
    """

    name: str
    height: int | None
    typical: bool
    first: int
    last: int
    most: int
    value: float
    half_width: float

    def __str__(self) -> str:
        of_height = "" if self.height is None else f" of height {self.height}"
        steps = f"steps {self.first:,} to {self.last:,}, {around(self.value, self.half_width, 2)} at {self.most:,}"
        return f"{WORDS[self.name]}{of_height} ({steps})"


def told(curves: xr.Dataset) -> Iterator[Told]:
    """What rank correlations say: that typical sequences are memorized more, or that isolated ones are.

    Two snapshots in a row are asked for at first: of many intervals some lie beside zero by chance.
    """
    steps = curves.step.values.tolist()
    for name, grows in COVARIATES.items():
        for height in curves.height.values.tolist() if "height" in curves[name].dims else [None]:
            here = curves if height is None else curves.sel(height=height)
            value, half = here[name].values, here[f"{name}_half"].values
            for sign in (1, -1):
                beyond = sign * value > half
                twice = np.flatnonzero(beyond[1:] & beyond[:-1])
                if len(twice):
                    where = twice[0] + np.flatnonzero(beyond[twice[0] :])
                    most = where[np.argmax(sign * value[where])]
                    yield Told(
                        name=name,
                        height=height,
                        typical=sign == grows,
                        first=steps[where[0]],
                        last=steps[where[-1]],
                        most=steps[most],
                        value=float(value[most]),
                        half_width=float(half[most]),
                    )


def summarise(found: Statistics) -> Answer:
    curves, sets = found.curves(), found.resampling.sets
    first, each = first_significant(found.curve("memory"), found.resampling), list(told(curves))
    parts = [since("memorization is told from zero", first, sets)]
    if sets > 2:
        typical, isolated = (
            ", ".join(str(one) for one in each if one.typical == kind) or "nothing" for kind in (True, False)
        )
        parts.append(
            f"typical sequences are memorized more, as in arXiv 2605.30642, by {typical}; isolated ones, as in arXiv "
            f"2606.14390, by {isolated}"
        )
    if not np.isfinite(curves.probability).any():
        parts.append(
            f"what log-probability says is {NOT_ESTIMATED}: the rules of this grammar are alike, and --sigma above 0 "
            "makes them differ"
        )
    numbers: dict[str, Any] = {"since": first, "told": [one._asdict() for one in each]}
    if "by_copies" in curves:
        passed, law = of_copies(found)
        parts.append(law_in_words(curves.level, passed, law))
        numbers |= {"copies": [{"copies": k, **vars(each)} for k, each in passed.items()], "law": law}
    sentence = "; ".join(parts)
    return Answer(f"{sentence[0].upper()}{sentence[1:]}.", numbers)


def of_copies(found: Statistics) -> tuple[dict[int, Landmark], Law]:
    """Where sequences that are in a set k times pass the level, by k, and the power law of k through these steps."""
    copies = found.mean.copies.values.tolist()
    passed = {k: crossing(found.curve("by_copies", copies=k), found.resampling, found.mean.level) for k in copies}
    # One grammar, and one ensemble of networks.
    readings = [Reading(value=float(k), grammar=0, **placed(each, found.mean)) for k, each in passed.items()]
    return passed, power_law(readings)


def law_in_words(level: float, passed: dict[int, Landmark], law: Law) -> str:
    steps = ", ".join(f"{interval(each)} ({k})" for k, each in passed.items())
    grows = f"{NOT_ESTIMATED} ({law.why})" if law.why else f"as k^{exponent(law)}"
    return f"sequences that are in a set k times pass {level:g} nats at step (k) {steps}: {grows}"


def table(curves: xr.Dataset) -> list[str]:
    heights = curves.height.values.tolist()
    scalars = {"log p": "probability", "distance": "distance"}
    columns = {"nats": column("memory", 3), "reliability": column("reliability", 2)}
    columns |= {words: column(name, 3) for words, name in scalars.items()}
    columns |= {f"blocks, h={h}": column("frequency", 3, height=h) for h in heights}
    columns |= {f"rules, h={h}": column("weights", 3, height=h) for h in heights[1:]}
    lines = [
        "nats by which networks know their own sequences better than others do; how reliable it is of a sequence; and "
        "its rank correlations, within a set, with log p, the distance to the nearest other member, the frequency of "
        "the blocks of each height in the set, and the log-weights of the rules of each height",
        *lines_over("step", curves, columns),
        "",
        f"the most memorized at the last step, and their ranks in the set by the same, from 1, the least, to "
        f"{curves.ranked}",
        *aligned(row(curves.isel(most=i), heights) for i in range(curves.sizes["most"])),
    ]
    if "by_copies" in curves:
        by = {f"{k} times": column("by_copies", 3, copies=k) for k in curves.copies.values.tolist()}
        lines += ["", "nats, by how often a sequence is in the set", *lines_over("step", curves, by)]
    return lines


def row(one: xr.Dataset, heights: list[int]) -> dict[str, str]:
    """One of the most memorized sequences."""

    def rank(name: str, **where: int) -> str:
        found = float(one[f"most_{name}"].sel(where))
        return f"{found:,.0f}" if np.isfinite(found) else "-"

    return {
        "set": str(int(one.most_set)),
        "sequence": " ".join(map(str, one.most_sequence.values)),
        "nats": f"{float(one.most_nats):.2f}",
        "log p": rank("probability"),
        "distance": rank("distance"),
        **{f"blocks, h={h}": rank("frequency", height=h) for h in heights},
        **{f"rules, h={h}": rank("weights", height=h) for h in heights[1:]},
    }


FIRST = Question("first", work, summarise, table, means=means)
