"""Which training sequences make what a network shows, and which method tells?

The truth are networks that are trained as the first one was, from the same weights, with the same batches and noise,
but with weight 0 for the samples that are left out (`retraining`).
"""

import argparse
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Array, Float

from hierdiff.keys import key_for
from hierdiff.measures.attribution import datamodelling_score, shared_heights
from hierdiff.questions.answers import leave
from hierdiff.questions.configs import AttributionConfig
from hierdiff.questions.data import in_folder
from hierdiff.questions.retraining import (
    METAGRADIENT,
    METHODS,
    RETRAC,
    TOGETHER,
    TRACIN,
    Experiment,
    cost,
    make_retraining,
    make_scores,
    train,
)
from hierdiff.runs import record, saying
from hierdiff.statistics.minima import locate_minimum, locate_onset
from hierdiff.statistics.words import aligned, around, with_error
from hierdiff.worlds.sequences import Sequences

LOSS, HEIGHT = KINDS = "loss of a sequence", "data-dependent part"
LANDMARKS = "turning point", "best"
# By what it is told how a sequence changes a loss, beside the metagradient.
RETRAINED = "retrained"
# Draws of a bootstrap.
REPLICATES = 1000


def answer(config: AttributionConfig, options: argparse.Namespace) -> None:
    """Train, attribute, retrain and compare, or say what it costs; the tables, and all that was found in the folder."""
    if options.plan:
        saying.answer(cost(config))
        return
    with in_folder(options.out, config):
        file = options.out / "attribution.results.nc"
        if not record.made_with(file, config):
            results = measure(config, Sequences.set_up(config.training), options.out)
            record.write_results(file, results.assign_attrs(record.origin(config)))
        results = record.read_results(file)
        found = summarise(results)
        record.write_results(options.out / "attribution.curves.nc", curves_of(found).assign_attrs(results.attrs))
        leave(options.out / "attribution.json", config, table(found), sentence(found), **found)
        shutil.rmtree(options.out / "attribution.pieces", ignore_errors=True)


def measure(config: AttributionConfig, world: Sequences, folder: Path) -> xr.Dataset:
    """All scores, and what is measured of retrained networks; each piece is kept in `folder` until all are there."""
    experiment = train(config, world)
    weight, share = subsets(config, experiment.key)
    groups, singles = len(weight) // TOGETHER, -(-(1 + config.alone) // TOGETHER)
    files = record.pieces(folder, "attribution", [*range(len(experiment.places) + groups + singles)], config)
    score, retrain = make_scores(experiment), make_retraining(experiment)
    with saying.progress(len(files), "piece") as show:
        show(0)

        def made(first: int, work: Iterable[Callable[[], dict[str, np.ndarray]]]) -> Iterator[dict[str, np.ndarray]]:
            for number, make in enumerate(work, first):
                if not record.is_whole(files[number]):
                    record.write_arrays(files[number], make())
                show(number + 1)
                yield record.read_arrays(files[number])

        def retrained(first: int, weight: np.ndarray) -> np.ndarray:
            together = weight.reshape(-1, TOGETHER, config.size)
            return np.concatenate([x["truth"] for x in made(first, (partial(retrain, each) for each in together))])

        scores = [*made(0, (partial(score, place) for place in experiment.places))]
        of_method = {name: np.stack([each[name] for each in scores]) for name in METHODS}
        of_method |= {name: of_method[name].cumsum(0) for name in (TRACIN, RETRAC)}
        truth = retrained(len(scores), weight)
        alone = highest(of_method[METAGRADIENT], config.alone)
        one_less = np.ones((singles * TOGETHER, config.size))
        one_less[1 + np.arange(config.alone), alone] = 0
        truth_alone = retrained(len(scores) + groups, one_less)
    return label(experiment, of_method, weight[share > 0], share[share > 0], truth[share > 0], alone, truth_alone)


def subsets(config: AttributionConfig, key: Array) -> tuple[np.ndarray, np.ndarray]:
    """The weights of the training sequences for each network that is retrained, and the share that each leaves out.

    They are filled up with networks that leave nothing out.
    """
    first, *others = config.left_out
    shares = np.repeat([first, *others], [config.subsets, *[config.subsets // 2] * len(others)])
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key_for(key, "subsets"))))
    weight = np.ones((-(-len(shares) // TOGETHER) * TOGETHER, config.size))
    for row, share in zip(weight, shares, strict=False):
        row[rng.choice(config.size, round(share * config.size), replace=False)] = 0
    return weight, np.concatenate([shares, np.zeros(len(weight) - len(shares))])


def highest(scores: Float[np.ndarray, "steps q P"], number: int) -> np.ndarray:
    """The sequences whose scores stand out most from those of the others, for any quantity and at any checkpoint."""
    standing_out = np.abs(scores) / np.maximum(scores.std(-1, keepdims=True), np.finfo(np.float32).tiny)
    return np.sort(np.argsort(-standing_out.max((0, 1)), kind="stable")[:number])


def label(
    experiment: Experiment,
    scores: dict[str, np.ndarray],
    weight: np.ndarray,
    share: np.ndarray,
    truth: np.ndarray,
    alone: np.ndarray,
    truth_alone: np.ndarray,
) -> xr.Dataset:
    """All that was measured; the first of the networks that leave out one sequence leaves out none."""
    config, world = experiment.config, experiment.world
    heights = range(config.grammar.depth + 1)
    targets, sequences = (np.asarray(x) for x in (world.held_out[: config.targets], world.train[0]))
    return xr.Dataset(
        {
            "score": (("source", "step", "quantity", "sequence"), np.stack([scores[name] for name in METHODS])),
            "weight": (("subset", "sequence"), weight),
            "truth": (("subset", "step", "quantity"), truth),
            "truth_alone": (("alone", "step", "quantity"), truth_alone[1 : 1 + len(alone)]),
            "truth_whole": (("step", "quantity"), truth_alone[0]),
            "shared": (("target", "sequence"), shared_heights(targets, sequences, world.grammar.branching)),
            "split": ("step", experiment.split),
            "excess": ("step", experiment.excess),
        },
        {
            # Not `method`, which xarray takes for something else.
            "source": list(METHODS),
            "step": [place.step for place in experiment.places],
            "quantity": [f"sequence {i}" for i in range(config.targets)] + [f"height {h}" for h in heights],
            "kind": ("quantity", [LOSS] * config.targets + [HEIGHT] * len(heights)),
            "share": ("subset", share),
            "alone": alone,
        },
    )


def summarise(results: xr.Dataset) -> dict[str, Any]:
    """What is said of the scores and the retrained networks: rows of numbers, each with its standard error."""
    steps = np.array(steps_of(results))
    found = locate_onset(steps, results.split), locate_minimum(steps, results.excess)
    minima = dict(zip(LANDMARKS, found, strict=True))
    # The nearest checkpoints.
    read_at = {
        name: int(steps[np.argmin(np.abs(np.log(steps / found.step)))])
        for name, found in minima.items()
        if found.reached
    }
    scored, alone, shared = datamodelling(results), left_out_alone(results), by_shared_block(results)
    explained = np.array([row["explained"]["value"] for row in alone if row["method"] == METAGRADIENT])
    until = int(np.argmin(explained > 0.5)) if (explained <= 0.5).any() else len(steps)
    return {
        "read_at": read_at | {"end": int(steps[-1])},
        "predicts_until": int(steps[until - 1]) if until else 0,
        "scores": scored,
        "alone": alone,
        "shared": shared,
    }


def datamodelling(results: xr.Dataset) -> list[dict[str, Any]]:
    """Linear datamodelling scores, means over quantities, with errors over subsets and, of losses, over targets."""
    rng, rows = np.random.default_rng(0), []
    for share, kind in itertools.product(np.unique(results.share)[::-1], KINDS):
        here = results.isel(subset=results.share.values == share, quantity=results.kind.values == kind)
        truth, weight = here.truth.transpose("step", "quantity", "subset").values, here.weight.values
        counts = drawn(rng, here.sizes["subset"])
        of_targets = (
            drawn(rng, here.sizes["quantity"]) if kind == LOSS else np.ones((REPLICATES, here.sizes["quantity"]))
        )
        for method in METHODS:
            score = here.score.sel(source=method).values
            means = datamodelling_score(score, weight, truth).mean(-1)
            each = datamodelling_score(score, weight, truth, counts)
            replicates = (each * of_targets[:, None]).sum(-1) / of_targets.sum(-1)[:, None]
            told = {"method": method, "share": float(share), "kind": kind}
            rows += [
                told | {"step": step} | x for step, x in zip(steps_of(results), values(means, replicates), strict=True)
            ]
    return rows


def left_out_alone(results: xr.Dataset) -> list[dict[str, Any]]:
    """What leaving out one sequence does to the losses: its correlation with what each method predicts.

    `explained` is the share of the mean square change that the prediction, as it is, explains. Errors are those over
    sequences.
    """
    losses, rows = results.isel(quantity=results.kind.values == LOSS), []
    counts = np.concatenate([np.ones((1, len(results.alone))), drawn(np.random.default_rng(0), len(results.alone))])
    share = counts / counts.sum(-1, keepdims=True)
    true = (losses.truth_alone - losses.truth_whole).transpose("step", "alone", "quantity").values
    for method in METHODS:
        told = -losses.score.sel(source=method).isel(sequence=results.alone.values)
        told = told.transpose("step", "sequence", "quantity").values
        x, y, xx, yy, xy, apart = (
            share @ each.mean(-1).T for each in (told, true, told**2, true**2, told * true, (told - true) ** 2)
        )
        correlation = (xy - x * y) / np.sqrt((xx - x**2) * (yy - y**2))
        both = (values(found[0], found[1:]) for found in (correlation, 1 - apart / yy))
        for step, of_correlation, of_share in zip(steps_of(results), *both, strict=True):
            rows.append({"method": method, "step": step, "correlation": of_correlation, "explained": of_share})
    return rows


def by_shared_block(results: xr.Dataset) -> list[dict[str, Any]]:
    """By how much a sequence lowers the loss of a target, over the largest block that both have at the same place.

    It is told by the metagradient, and by the networks without the largest share, as the slope of the loss in the
    sequence's weight; above the mean over all sequences, for in subsets of one size another one is in its place. Errors
    are those over targets.
    """
    shared, rows = results.shared.values, []
    most = results.share.values == results.share.values.max()
    losses = results.isel(quantity=results.kind.values == LOSS, subset=most)
    weight, truth = losses.weight.values, losses.truth.transpose("step", "quantity", "subset").values
    varied = weight - weight.mean(0)
    slopes = truth @ varied / np.maximum(np.square(varied).sum(0), np.finfo(float).tiny)
    lowers = {METAGRADIENT: -losses.score.sel(source=METAGRADIENT).values, RETRAINED: -slopes}
    for (source, x), height in itertools.product(lowers.items(), np.unique(shared)):
        pairs = shared == height
        there = pairs.any(1)
        above = np.where(pairs, x - x.mean(-1, keepdims=True), 0).sum(-1)[:, there] / pairs.sum(1)[there]
        error = above.std(-1, ddof=1) / np.sqrt(there.sum()) if there.sum() > 1 else np.full(len(x), np.nan)
        told = {"method": source, "height": int(height), "pairs": int(pairs.sum())}
        for step, mean, of_mean in zip(steps_of(results), above.mean(-1), error, strict=True):
            rows.append(told | {"step": step, "value": float(mean), "error": float(of_mean)})
    return rows


def drawn(rng: np.random.Generator, n: int) -> np.ndarray:
    """How often each of n is drawn in each draw of a bootstrap."""
    return rng.multinomial(n, np.full(n, 1 / n), REPLICATES).astype(float)


def steps_of(results: xr.Dataset) -> list[int]:
    return results.step.values.tolist()


def values(means: np.ndarray, replicates: np.ndarray) -> list[dict[str, float]]:
    """Numbers with their standard errors."""
    pairs = zip(means.tolist(), replicates.std(0, ddof=1).tolist(), strict=True)
    return [{"value": mean, "error": error} for mean, error in pairs]


def curves_of(found: dict[str, Any]) -> xr.Dataset:
    """The scores along training."""
    each: Any = pd.DataFrame([row | {"half": 1.96 * row["error"]} for row in found["scores"]])
    every = each.rename(columns={"method": "source"}).set_index(["kind", "share", "source", "step"]).to_xarray()
    curves = {}
    for kind, name in zip(KINDS, ("score_of_losses", "score_of_parts"), strict=True):
        at = every.sel(kind=kind, drop=True)
        curves |= {name: at["value"], f"{name}_error": at["error"], f"{name}_half": at["half"]}
    return xr.Dataset(curves)


def table(found: dict[str, Any]) -> list[str]:
    read_at, alone, shared = found["read_at"], found["alone"], found["shared"]
    columns = {step: " = ".join(name for name, at in read_at.items() if at == step) for step in read_at.values()}
    shares = sorted({row["share"] for row in found["scores"]}, reverse=True)

    def at(rows: list[dict[str, Any]], digits: int, key: str = "", **where: Any) -> str:
        [row] = [row for row in rows if all(row[name] == x for name, x in where.items())]
        x = row[key] if key else row
        return with_error(x["value"], x["error"], digits)

    def scores(kind: str) -> list[str]:
        return aligned(
            {"left out": f"{share:.0%}", "method": method}
            | {
                f"{name}, {step:,}": at(found["scores"], 2, method=method, share=share, kind=kind, step=step)
                for step, name in columns.items()
            }
            for share in shares
            for method in METHODS
        )

    nowhere = [name for name in LANDMARKS if name not in read_at]
    return [
        "linear datamodelling score, of the losses of held-out sequences; checkpoints nearest to the landmarks"
        + (f" ({' and '.join(nowhere)}: not reached)" if nowhere else ""),
        *scores(LOSS),
        "",
        "linear datamodelling score, of the data-dependent part, mean over the heights",
        *scores(HEIGHT),
        "",
        "one sequence left out: correlation of the changes of losses with those predicted, and the share of them that "
        "the metagradient explains",
        *aligned(
            {"step": f"{step:,}"}
            | {method: at(alone, 2, "correlation", method=method, step=step) for method in METHODS}
            | {"explained": at(alone, 2, "explained", method=METAGRADIENT, step=step)}
            for step in sorted({row["step"] for row in alone})
        ),
        "",
        "by how much a training sequence lowers the loss of a target, above the mean, in thousandths of a nat, over "
        "the height of the largest block that both share (-1: none)",
        *aligned(
            {"height": height, "pairs": f"{pairs:,}"}
            | {
                f"{source}, {name}": at(thousandths, 2, method=source, step=step, height=height)
                for step, name in columns.items()
                for source in (METAGRADIENT, RETRAINED)
            }
            for thousandths in [[row | {x: 1000 * row[x] for x in ("value", "error")} for row in shared]]
            for height, pairs in sorted({(row["height"], row["pairs"]) for row in shared})
        ),
    ]


def sentence(found: dict[str, Any]) -> str:
    """Which method tells best, when, and how far the derivative reaches."""
    most = max(row["share"] for row in found["scores"])

    def best(step: int) -> str:
        here = [row for row in found["scores"] if (row["share"], row["kind"], row["step"]) == (most, LOSS, step)]
        first, second, *_ = sorted(here, key=lambda row: -row["value"])
        score = around(first["value"], 1.96 * first["error"], 2)
        return f"{first['method']}, score {score}, and next by {second['method']}, {second['value']:.2f}"

    named = {step: [name for name, at in found["read_at"].items() if at == step] for step in found["read_at"].values()}
    told = "; ".join(f"at step {step:,}, the {' and '.join(names)}, by {best(step)}" for step, names in named.items())
    last, until = found["read_at"]["end"], found["predicts_until"]
    reach = "at every checkpoint" if until == last else f"up to step {until:,}" if until else "at no checkpoint"
    return (
        f"What leaving out {most:.0%} of the training set does to the losses of sequences is told best: {told}. The "
        "derivative through the training explains more than half of what leaving out single sequences changes "
        f"{reach}."
    )
