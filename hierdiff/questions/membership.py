"""Can one tell from its loss whether a network was trained on a sequence, and since which step?

The attack scores a sequence by the network's loss on it, averaged over draws of noise. Calibrated by the exact Bayes
loss under the same noise, it no longer mistakes an easy sequence for a known one.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.denoiser import network_log_posterior
from hierdiff.measures.divergence import log_of
from hierdiff.measures.membership import area_under_curve, true_positive_rate
from hierdiff.measures.times import any_times
from hierdiff.noising.process import cross_entropy
from hierdiff.posterior import exact_denoiser
from hierdiff.questions.configs import MembershipConfig
from hierdiff.questions.losses import targets_of
from hierdiff.questions.snapshots import Answer, Question, Work
from hierdiff.statistics.groups import GROUPS
from hierdiff.statistics.landmarks import first_significant
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import column, lines_over, with_interval
from hierdiff.worlds.finished import Run, label_steps

FALSE_POSITIVE_RATE = 0.01
ATTACKS = ("calibrated", "uncalibrated")


def work(run: Run, config: MembershipConfig) -> Work:
    """Score the first training sequences of each network's own set, and as many that no network has seen."""
    world, process = run.world, run.world.process
    config.require_run(run.config)
    key = key_for(world.key, "membership")
    targets, rows, seen = targets_of(run, key_for(key, "others"), config.targets)
    # Each row of targets meets its own noise.
    keys = jax.vmap(lambda key: keys_of(key, range(config.draws)))(keys_of(key_for(key, "noise"), range(len(targets))))
    exact, log_posterior = exact_denoiser(world.grammar, process), network_log_posterior(world.network, process)

    def losses(answer, rows, targets, keys):
        """Of some rows, the loss of what gives log p(x_0 | x_t), averaged over draws, `(rows, n)`."""

        def of_row(row):
            def draw(key):
                t = any_times(key_for(key, "levels"), config.targets, process.levels)
                x_t = process.corrupt(key_for(key, "noise"), targets[row], t)
                return cross_entropy(targets[row], answer(x_t, t))

            return jax.lax.map(draw, keys[row]).mean(0)

        return jax.lax.map(of_row, rows)

    bayes = jax.jit(functools.partial(losses, lambda x_t, t: log_of(exact(x_t, t))))
    bayes = np.asarray(bayes(jnp.arange(len(targets)), targets, keys))[rows]
    losses_of_all = run.of_networks(
        lambda params, *of_rows: losses(functools.partial(log_posterior, params), *of_rows), stacked=2
    )

    def measure(params) -> dict[str, np.ndarray]:
        loss = losses_of_all(params, rows, targets, keys)
        return {"score": np.stack([bayes - loss, -loss])}

    dims = {"score": ("attack", "network", "known", "target")}
    known = xr.Dataset({}, {"attack": list(ATTACKS), "known": [True, False]}, {"coincidences": seen})
    return Work(measure, lambda measured: label_steps(run, measured, dims, known))


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
    since = {name: first_significant(found.curve("advantage", attack=name), found.resampling) for name in ATTACKS}
    areas = {name: with_interval(found.curves().isel(step=-1).sel(attack=name), "area", 3) for name in ATTACKS}
    if found.resampling.sets == 2:
        sentence = (
            "From which step on the attack tells members from others is not estimated with two data sets; the area "
            f"under the curve, at the last step, is {areas['calibrated']} calibrated by the exact Bayes loss, and "
            f"{areas['uncalibrated']} without it."
        )
    else:
        when = {name: f"from step {x:,.0f} on" if np.isfinite(x) else "at no step" for name, x in since.items()}
        sentence = (
            f"Calibrated by the exact Bayes loss, the attack tells members from others {when['calibrated']} (area "
            f"under the curve, at the last step, {areas['calibrated']}); without the exact loss "
            f"{when['uncalibrated']} ({areas['uncalibrated']})."
        )
    return Answer(sentence, {"since": since["calibrated"], "since_uncalibrated": since["uncalibrated"]})


def table(curves: xr.Dataset) -> list[str]:
    columns = {
        f"{what}, {attack}": column(name, 3, attack=attack)
        for attack in ATTACKS
        for what, name in (("AUC", "area"), ("TPR", "true_positives"))
    }
    return [
        f"members against others; TPR: share of members found at {FALSE_POSITIVE_RATE:.0%} false positives",
        *lines_over("step", curves, columns),
    ]


MEMBERSHIP = Question(
    "membership", work, summarise, table, derive=lambda x: x.assign(advantage=x.area - 0.5), means=means
)
