"""Can one tell from its loss whether a network was trained on a sequence, and since which step?

The attack scores a sequence by the network's loss on it, averaged over draws of noise. Calibrated by the exact Bayes
loss under the same noise, it no longer mistakes an easy sequence for a known one.
"""

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
from hierdiff.measures.membership import area_under_curve, true_positive_rate
from hierdiff.noising.process import any_times, cross_entropy
from hierdiff.posterior import exact_denoiser
from hierdiff.questions.configs import MembershipConfig
from hierdiff.questions.snapshots import Answer, Question
from hierdiff.sampling import coincidences, sample
from hierdiff.statistics.groups import GROUPS
from hierdiff.statistics.landmarks import first_significant
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import cell, lines_over, with_interval
from hierdiff.worlds.finished import Run, measure_snapshots
from hierdiff.worlds.run_config import require_size

FALSE_POSITIVE_RATE = 0.01
ATTACKS = ("calibrated", "uncalibrated")


def measure(run: Run, config: MembershipConfig, done: Callable[[], object]) -> xr.Dataset:
    """Score the first training sequences of each network's own set, and as many that no network has seen."""
    setting = run.setting
    grammar, process, data, set_of = setting.grammar, setting.process, setting.data, setting.set_of
    require_size("targets", config.targets, data.train.shape[1])
    key = key_for(setting.key, "membership")
    others = sample(key_for(key, "others"), grammar, config.targets).leaves
    # One row of targets for each data set, and the others last; each row meets its own noise.
    targets = jnp.concatenate([data.train[:, : config.targets], others[None]])
    of_rows = keys_of(key_for(key, "noise"), range(len(targets)))
    keys = jax.vmap(lambda key: keys_of(key, range(config.draws)))(of_rows)
    exact, log_posterior = exact_denoiser(grammar, process), network_log_posterior(setting.network, process)

    def noised(tokens, key):
        t = any_times(key_for(key, "levels"), len(tokens), process.levels)
        return t, process.corrupt(key_for(key, "noise"), tokens, t)

    @jax.jit
    def bayes_losses(targets, keys):
        """Of all targets, the exact Bayes loss."""

        def one(target):
            t, x_t = noised(*target)
            return cross_entropy(target[0], log_of(exact(x_t, t)))

        return jax.lax.map(lambda row: jax.lax.map(lambda key: one((row[0], key)), row[1]).mean(0), (targets, keys))

    def losses(params, own, targets, keys):
        """On the own targets and on the others, the network's loss."""

        def one(row):
            def draw(key):
                t, x_t = noised(targets[row], key)
                return cross_entropy(targets[row], log_posterior(params, x_t, t))

            return jax.lax.map(draw, keys[row]).mean(0)

        return jax.lax.map(one, jnp.stack([own, jnp.int32(len(targets) - 1)]))

    bayes = np.asarray(bayes_losses(targets, keys))
    bayes = np.stack([bayes[set_of], np.broadcast_to(bayes[-1], bayes[set_of].shape)], 1)
    losses_of_all = jax.jit(over_networks(losses, setting.mesh, stacked=2))

    def on_snapshot(params: Any) -> dict[str, np.ndarray]:
        loss = np.asarray(losses_of_all(params, jnp.asarray(set_of, jnp.int32), targets, keys))
        return {"score": np.stack([bayes - loss, -loss])}

    dimensions = {"score": ("attack", "network", "known", "target")}
    results = measure_snapshots(run, on_snapshot, dimensions, {"attack": list(ATTACKS), "known": [True, False]}, done)
    return results.assign_attrs(coincidences=coincidences(others, data.train))


def statistics(run: Run, results: xr.Dataset) -> Statistics:
    """Area under the ROC curve, and the rate of true positives, with replicates."""
    members, others = (results.score.sel(known=known).values.astype(float) for known in (True, False))
    shape = members.shape[:-1]
    area = np.array([area_under_curve(members[i], others[i], groups=GROUPS) for i in np.ndindex(shape)])
    dims = ("step", "attack", "network", "group")
    coordinates = {name: results[name].values for name in ("step", "attack")}
    variables = {"area": xr.DataArray(area.reshape(*shape, GROUPS), coordinates, dims)}
    found = replicate(variables, run.sets_of)
    resample = found.resampling

    def rates(weight: np.ndarray) -> np.ndarray:
        each = [
            true_positive_rate(members[i], others[i], weight, false_positive_rate=FALSE_POSITIVE_RATE)
            for i in np.ndindex(shape)
        ]
        return np.moveaxis(np.reshape(each, (*shape, len(weight))), -1, 0)

    drawn, dims = rates(resample.weight), ("step", "attack")
    kept = run.setting.set_of != resample.left_out[:, None]
    drawn = (drawn * kept[:, None, None]).sum(-1) / kept.sum(-1)[:, None, None]
    rate = rates(np.full((1, GROUPS), 1 / GROUPS))[0].mean(-1)
    found = Statistics(
        found.mean.assign(true_positives=(dims, rate)),
        found.replicates.assign(true_positives=(("replicate", *dims), drawn)),
        resample,
    )
    return found.derive(lambda x: x.assign(advantage=x.area - 0.5))


def summarise(found: Statistics) -> Answer:
    """Since when the calibrated attack finds members, and how well at the end."""
    since = {name: first_significant(found.curve("advantage", attack=name), found.resampling) for name in ATTACKS}
    last = found.curves().isel(step=-1)
    areas = {name: with_interval(last.sel(attack=name), "area", 3) for name in ATTACKS}
    when = {name: f"from step {step:,.0f} on" if np.isfinite(step) else "at no step" for name, step in since.items()}
    sentence = (
        f"Calibrated by the exact Bayes loss, the attack tells members from others {when['calibrated']} (area under "
        f"the curve, at the last step, {areas['calibrated']}); without the exact loss {when['uncalibrated']} "
        f"({areas['uncalibrated']})."
    )
    return Answer(sentence, {"since": since["calibrated"], "since_uncalibrated": since["uncalibrated"]})


def table(found: Statistics) -> str:
    """A row for each snapshot."""
    curves = found.curves()
    columns = {
        f"{what}, {attack}": lambda at, name=name, attack=attack: cell(at.sel(attack=attack), name, 3)
        for attack in ATTACKS
        for what, name in (("AUC", "area"), ("TPR", "true_positives"))
    }
    lines = [
        f"members against others; TPR: share of members found at {FALSE_POSITIVE_RATE:.0%} false positives",
        *lines_over("step", curves, columns, 18),
    ]
    return "\n".join(lines)


QUESTION = Question("membership", measure, statistics, summarise, table)
answer = QUESTION.answer
