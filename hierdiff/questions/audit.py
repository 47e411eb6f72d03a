"""What does a run give away for certain? A lower bound on epsilon, by canaries, beside the upper bound of DP-SGD.

Each data set has canaries, of which fair coins included about half in the training. A network's loss on a canary, below
the exact Bayes loss under the same noise, is the score by which the coins are guessed. Coins of different sets are
independent, and each network sees those of its own set: all canaries of a run are guessed together.
"""

import functools

import jax
import numpy as np
import xarray as xr

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.denoiser import network_log_posterior
from hierdiff.measures.audit import audit
from hierdiff.measures.divergence import log_of
from hierdiff.measures.membership import area_under_curve
from hierdiff.measures.times import any_times
from hierdiff.noising.process import cross_entropy
from hierdiff.posterior import leaf_posterior
from hierdiff.questions.configs import AuditConfig
from hierdiff.questions.snapshots import Answer, Question, Work
from hierdiff.runs import record
from hierdiff.statistics.groups import GROUPS
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import column, lines_over
from hierdiff.worlds.finished import Run, label_steps

DIMENSIONS = {"score": ("network", "canary")}
CONFIDENCE = 0.95


def work(run: Run, config: AuditConfig) -> Work:
    """Score the canaries of each network's data set."""
    world, process, key = run.world, run.world.process, key_for(run.world.key, "audit")
    config.require_run(run.config)
    m, log_posterior = run.config.canaries, network_log_posterior(world.network, process)
    canaries, keys = world.canaries[world.set_of], keys_of(key, world.set_of)

    def exact(x_t, t):
        return log_of(leaf_posterior(world.grammar, process.log_likelihood(x_t, t)))

    def losses(answer, canaries, key):
        """Of what gives log p(x_0 | x_t): the loss of each canary, averaged over draws of the noise."""

        def draw(key):
            t = any_times(key_for(key, "levels"), m, process.levels, groups=1)
            x_t = process.corrupt(key_for(key, "noise"), canaries, t)
            return cross_entropy(canaries, answer(x_t, t))

        return jax.lax.map(draw, keys_of(key, range(config.draws))).mean(0)

    bayes = run.of_networks(functools.partial(losses, exact), stacked=2)(canaries, keys)
    of_networks = run.of_networks(
        lambda params, *of_set: losses(functools.partial(log_posterior, params), *of_set), stacked=3
    )
    included = np.asarray(world.included)[world.set_of]
    # Of runs without DP-SGD nothing bounds epsilon from above.
    privacy = record.read_json(run.folder / "summary.json").get("privacy", {"steps": [], "epsilon": []})
    above = {step: x for step, x in zip(privacy["steps"], privacy["epsilon"], strict=True) if x is not None}
    known = xr.Dataset(
        {
            "included": (DIMENSIONS["score"], included),
            "upper": ("step", [above.get(step, np.inf) for step in run.steps]),
        }
    )
    return Work(
        lambda params: {"score": bayes - of_networks(params, canaries, keys)},
        lambda measured: label_steps(run, measured, DIMENSIONS, known),
    )


def means(run: Run, results: xr.Dataset) -> Statistics:
    """The area under the ROC curve of the score, and the bounds on epsilon, which are no means."""
    included = results.included.values.astype(bool)

    def area(scores: np.ndarray, coins: np.ndarray) -> float:
        return area_under_curve(scores[coins], scores[~coins], groups=1)[0]

    areas = [list(map(area, of_step, included)) for of_step in results.score.values]
    grouped = xr.DataArray(areas, dims=("step", "network"), coords={"step": results.step}).expand_dims(group=GROUPS)
    found = replicate({"area": grouped}, run.sets_of)
    delta = run.config.train.privacy.delta
    each = [audit(x.ravel(), included.ravel(), delta=delta, confidence=CONFIDENCE) for x in results.score.values]
    bounds = {
        "lower": ("step", [x.epsilon for x in each]),
        "upper": results.upper,
        "guesses": ("step", [x.guesses for x in each]),
        "right": ("step", [x.right for x in each]),
    }
    return Statistics(found.mean.assign(bounds), found.replicates, found.resampling)


def summarise(found: Statistics) -> Answer:
    last = found.mean.isel(step=-1)
    lower, upper = float(last.lower), float(last.upper)
    guesses = f"{int(last.right):,} of {int(last.guesses):,} guesses are right"
    told = f"{guesses}, which shows nothing of epsilon"
    if lower:
        told = f"{guesses}, so that epsilon is at least {lower:.2f}, with {CONFIDENCE:.0%} confidence"
    above = f"it is at most {upper:.3g}" if np.isfinite(upper) else "no noise bounds it from above"
    sentence = f"Of the canaries, at the last step, {told}; {above}."
    return Answer(sentence, {"lower": lower, "upper": upper})


def table(curves: xr.Dataset) -> list[str]:
    columns = {
        "AUC": column("area", 3),
        "guesses": lambda x: f"{int(x.guesses):,}",
        "right": lambda x: f"{int(x.right):,}",
        "epsilon, at least": lambda x: f"{float(x.lower):.2f}",
        "at most": lambda x: f"{float(x.upper):.3g}" if np.isfinite(x.upper) else "-",
    }
    return [
        f"canaries that coins included against the others; epsilon at least: with {CONFIDENCE:.0%} confidence, at each "
        "step alone",
        *lines_over("step", curves, columns),
    ]


AUDIT = Question("audit", work, summarise, table, means=means)
