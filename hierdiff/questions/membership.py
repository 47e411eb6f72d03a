"""Can one tell from its loss whether a network was trained on a sequence, and since which step?

The attack scores a sequence by the network's loss on it, averaged over draws of noise. Calibrated by the exact Bayes
loss under the same noise, it no longer mistakes an easy sequence for a known one. Networks that are told true labels
are attacked with these too, calibrated by the exact loss given them.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Int

from hierdiff.grammar import Grammar
from hierdiff.keys import key_for, keys_of
from hierdiff.learning.denoiser import network_log_posterior
from hierdiff.measures.divergence import log_of
from hierdiff.measures.membership import area_under_curve, true_positive_rate
from hierdiff.measures.times import any_times
from hierdiff.noising.process import cross_entropy
from hierdiff.posterior import leaf_posterior, node_posteriors
from hierdiff.questions.configs import MembershipConfig
from hierdiff.questions.losses import targets_of
from hierdiff.questions.snapshots import Answer, Question, Work
from hierdiff.statistics.groups import GROUPS
from hierdiff.statistics.landmarks import first_significant
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import column, lines_over, with_interval
from hierdiff.worlds.finished import Run, label_steps

FALSE_POSITIVE_RATE = 0.01
# The last only where networks are told true labels.
ATTACKS = ("calibrated", "uncalibrated", "conditional")


def work(run: Run, config: MembershipConfig) -> Work:
    """Score the first training sequences of each network's own set, and as many that no network has seen.

    Networks that are told true labels are scored with labels and without.
    """
    world, grammar, process = run.world, run.world.grammar, run.world.process
    config.require_run(run.config)
    key = key_for(world.key, "membership")
    targets, rows, seen = targets_of(run, key_for(key, "others"), config.targets)
    # Each row of targets meets its own noise.
    keys = jax.vmap(lambda key: keys_of(key, range(config.draws)))(keys_of(key_for(key, "noise"), range(len(targets))))
    log_posterior = network_log_posterior(world.network, process)

    def exact(x_t, t, labels):
        return log_of(leaf_posterior(grammar, process.log_likelihood(x_t, t), labels=labels))

    def losses(answer, rows, targets, keys, labels):
        """Of some rows, the loss of what gives log p(x_0 | x_t, labels), averaged over draws, `(rows, n)`."""

        def of_row(row):
            told = None if labels is None else labels[row]

            def draw(key):
                t = any_times(key_for(key, "levels"), config.targets, process.levels)
                x_t = process.corrupt(key_for(key, "noise"), targets[row], t)
                return cross_entropy(targets[row], answer(x_t, t, told))

            return jax.lax.map(draw, keys[row]).mean(0)

        return jax.lax.map(of_row, rows)

    bayes_of_all = jax.jit(functools.partial(losses, exact))
    losses_of_all = run.of_networks(
        lambda params, *of_rows: losses(lambda x_t, t, labels: log_posterior(params, x_t, t, labels=labels), *of_rows),
        stacked=2,
    )
    told: list[Array | None] = [None]
    if run.config.labels.labels == "level":
        told.append(symbols(grammar, targets, run.config.labels.label_level))
    every = jnp.arange(len(targets))
    bayes = [np.asarray(bayes_of_all(every, targets, keys, labels))[rows] for labels in told]

    def measure(params) -> dict[str, np.ndarray]:
        loss = [losses_of_all(params, rows, targets, keys, labels) for labels in told]
        calibrated, *conditional = map(operator.sub, bayes, loss)
        return {"score": np.stack([calibrated, -loss[0], *conditional])}

    attacks = list(ATTACKS[: 1 + len(told)])
    dims = {"score": ("attack", "network", "known", "target")}
    known = xr.Dataset({}, {"attack": attacks, "known": [True, False]}, {"coincidences": seen})
    return Work(measure, lambda measured: label_steps(run, measured, dims, known))


def symbols(grammar: Grammar, tokens: Int[Array, "rows n L"], level: int) -> Int[Array, "rows n nodes"]:
    """Those of a level in the derivations of sequences, each of which has one."""
    clean = jnp.log(jax.nn.one_hot(tokens.reshape(-1, grammar.leaves), grammar.vocab))
    return node_posteriors(grammar, clean)[level].argmax(-1).reshape(*tokens.shape[:2], -1)


def areas(score: xr.DataArray) -> xr.DataArray:
    """The area under the ROC curve of each network, by groups of others."""
    return xr.apply_ufunc(
        functools.partial(area_under_curve, groups=GROUPS),
        *known_and_others(score),
        input_core_dims=[["target"], ["target"]],
        output_core_dims=[["group"]],
        vectorize=True,
    )


def known_and_others(score: xr.DataArray) -> list[xr.DataArray]:
    return [score.sel(known=known, drop=True).astype(float) for known in (True, False)]


def means(run: Run, results: xr.Dataset) -> Statistics:
    """Area under the ROC curve, and the rate of true positives."""
    scores, dims = known_and_others(results.score), [["target"], ["target"]]
    found = replicate({"area": areas(results.score)}, run.sets_of)

    def rates(weight: np.ndarray) -> xr.DataArray:
        return xr.apply_ufunc(
            functools.partial(true_positive_rate, false_positive_rate=FALSE_POSITIVE_RATE),
            *scores,
            xr.DataArray(weight, dims=("replicate", "group")),
            input_core_dims=[*dims, ["replicate", "group"]],
            output_core_dims=[["replicate"]],
            vectorize=True,
        ).transpose("replicate", ...)

    kept = [~np.isin(run.world.set_of, left_out) for left_out in found.resampling.left_out]
    drawn = rates(found.resampling.weight).where(xr.DataArray(kept, dims=("replicate", "network"))).mean("network")
    rate = rates(np.full((1, GROUPS), 1 / GROUPS)).mean(("replicate", "network"))
    return Statistics(
        found.mean.assign(true_positives=rate), found.replicates.assign(true_positives=drawn), found.resampling
    )


def summarise(found: Statistics) -> Answer:
    last = found.curves().isel(step=-1)
    attacks = last.attack.values.tolist()
    since = {name: first_significant(found.curve("advantage", attack=name), found.resampling) for name in attacks}
    areas = {name: with_interval(last.sel(attack=name), "area", 3) for name in attacks}
    given = "; with both losses given the labels"
    if found.resampling.sets == 2:
        conditional = f"{given} it is {areas['conditional']}" if "conditional" in attacks else ""
        sentence = (
            "From which step on the attack tells members from others is not estimated with two data sets; the area "
            f"under the curve, at the last step, is {areas['calibrated']} calibrated by the exact Bayes loss, and "
            f"{areas['uncalibrated']} without it{conditional}."
        )
    else:
        when = {name: f"from step {x:,.0f} on" if np.isfinite(x) else "at no step" for name, x in since.items()}
        conditional = f"{given} {when['conditional']} ({areas['conditional']})" if "conditional" in attacks else ""
        sentence = (
            f"Calibrated by the exact Bayes loss, the attack tells members from others {when['calibrated']} (area "
            f"under the curve, at the last step, {areas['calibrated']}); without the exact loss "
            f"{when['uncalibrated']} ({areas['uncalibrated']}){conditional}."
        )
    names = {name: "since" if name == "calibrated" else f"since_{name}" for name in attacks}
    return Answer(sentence, {names[name]: since[name] for name in attacks})


def table(curves: xr.Dataset) -> list[str]:
    columns = {
        f"{what}, {attack}": column(name, 3, attack=attack)
        for attack in curves.attack.values
        for what, name in (("AUC", "area"), ("TPR", "true_positives"))
    }
    return [
        f"members against others; TPR: share of members found at {FALSE_POSITIVE_RATE:.0%} false positives",
        *lines_over("step", curves, columns),
    ]


MEMBERSHIP = Question(
    "membership", work, summarise, table, derive=lambda x: x.assign(advantage=x.area - 0.5), means=means
)
