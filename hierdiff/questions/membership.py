"""Can one tell whether a network was trained on a sequence, and since which step? Attacks that know more and less.

With one network there is its loss on a sequence, averaged over draws of noise, or what published attacks make of it.
Networks on other data sets are references: they say what it would be had the sequence not been seen. The exact denoiser
under the same noise says that best: an easy sequence is then not taken for a known one. Networks that are told true
labels are attacked with these too, calibrated by the exact loss given them.
"""

from typing import Any

import numpy as np
import xarray as xr

from hierdiff.keys import key_for
from hierdiff.measures.membership import Highest, area_under_curve, highest_others, true_positive_rate
from hierdiff.questions.attackers import EXACT, ONE_NETWORK, REFERENCES, Targets, make_score, needed
from hierdiff.questions.configs import MembershipConfig
from hierdiff.questions.snapshots import Answer, Question, Work
from hierdiff.runs import record
from hierdiff.statistics.groups import GROUPS
from hierdiff.statistics.landmarks import first_significant
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import around, column, lines_over, with_interval
from hierdiff.worlds.finished import Run, label_steps

FALSE_POSITIVE_RATES = (0.01, 0.001)
LAST = "the last step"
# What is kept of the scores, with the dimensions beside the step.
DIMENSIONS = {name: ("attack", "network", dim) for name, dim in (("area", "group"), ("hits", "rank"), ("of", "rank"))}


def work(run: Run, config: MembershipConfig) -> Work:
    """Score the first training sequences of each network's own set, and others that no network has seen."""
    config.require_run(run.config)
    key = key_for(run.world.key, "membership")
    targets = Targets.draw(run, key_for(key, "others"), config)
    score = make_score(run, key, config, targets)

    def measure(params: Any) -> dict[str, np.ndarray]:
        found = score(params)
        members, others = np.split(np.stack([*found.values()]), [config.targets], -1)
        return {"attack": np.array([*found]), **kept(np.where(targets.fair, members, np.nan), others)}

    def label(measured: list[dict[str, np.ndarray]]) -> xr.Dataset:
        known = xr.Dataset(coords={"attack": measured[0]["attack"]}, attrs={"others": targets.others})
        return label_steps(run, measured, DIMENSIONS, known)

    return Work(measure, label)


def kept(members: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
    """Of scores, `(..., n)`, what `DIMENSIONS` names: all that areas and rates need. Members that are nan do not count.

    `area` is that under the ROC curve, by groups of others; `hits` and `of` are the highest of these, and their groups.
    """
    n = others.shape[-1]
    # A bootstrap draws the highest again and again; three times as many as pass are enough.
    most = min(n, 50 + 3 * int(max(FALSE_POSITIVE_RATES) * n))
    area, hits, of = (np.empty((*others.shape[:-1], size)) for size in (GROUPS, most, most))
    for i in np.ndindex(others.shape[:-1]):
        mine = members[i][np.isfinite(members[i])]
        area[i] = area_under_curve(mine, others[i], groups=GROUPS)
        highest = highest_others(mine, others[i], most, groups=GROUPS)
        hits[i], of[i] = highest.hits, highest.group
    return {"area": area, "hits": hits.astype(np.float32), "of": of.astype(np.uint8)}


def kept_of(results: xr.Dataset) -> xr.Dataset:
    """A record with what `kept` gives. An older one has the scores themselves, of as many others as members."""
    if "score" not in results:
        return results
    members, others = (results.score.sel(known=known).values.astype(float) for known in (True, False))
    found = {name: (("step", *DIMENSIONS[name]), x) for name, x in kept(members, others).items()}
    known = {name: results[name] for name in ("step", "attack")}
    return xr.Dataset(found, known, {**results.attrs, "others": others.shape[-1]})


def means(run: Run, results: xr.Dataset) -> Statistics:
    """Area under the ROC curve, and the rate of true positives, along training and at landmarks of the run."""
    results = kept_of(results)
    found = replicate({"area": results.area}, run.sets_of)
    weight = np.concatenate([np.full((1, GROUPS), 1 / GROUPS), found.resampling.weight])

    def rates(hits: np.ndarray, of: np.ndarray) -> np.ndarray:
        highest = Highest(of, hits, int(results.attrs["others"]))
        each = [true_positive_rate(highest, weight, false_positive_rate=rate) for rate in FALSE_POSITIVE_RATES]
        return np.stack(each, -1)

    rate = xr.apply_ufunc(
        rates,
        results.hits.astype(float),
        results.of,
        input_core_dims=[["rank"], ["rank"]],
        output_core_dims=[["replicate", "false_positives"]],
        vectorize=True,
    ).assign_coords(false_positives=list(FALSE_POSITIVE_RATES))
    rate = rate.transpose("replicate", "step", "attack", "false_positives", "network")
    left = xr.DataArray(
        [np.isin(run.world.set_of, out) for out in found.resampling.left_out], dims=("replicate", "network")
    )
    statistics = Statistics(
        found.mean.assign(true_positives=rate[0].mean("network")),
        found.replicates.assign(true_positives=rate[1:].where(~left).mean("network")),
        found.resampling,
    )
    between = weights_of_landmarks(run, results.step.values)
    return statistics.derive(
        lambda x: x.assign({f"{name}_at": x[name].dot(between) for name in ("area", "true_positives")})
    )


def weights_of_landmarks(run: Run, steps: np.ndarray) -> xr.DataArray:
    """The weights of snapshots by which a curve is read between them, by a straight line in log(step).

    At the turning point and best of the run, where it has them, and at the last step.
    """
    file = run.folder / "summary.json"
    summary = record.read_json(file) if file.exists() else {}
    found = {name: summary.get(key, {}).get("step") for name, key in (("the turning point", "onset"), ("best", "best"))}
    places = {name: step for name, step in found.items() if step} | {LAST: steps[-1]}
    weight = [[np.interp(np.log(step), np.log(steps), one) for one in np.eye(len(steps))] for step in places.values()]
    return xr.DataArray(weight, {"landmark": [*places], "step": steps}, ("landmark", "step"))


def best_of(curves: xr.Dataset) -> dict[str, str]:
    """Of each kind of attacker the attack with the largest area at the last step: one for all steps and rates."""
    area, kinds = curves.area.isel(step=-1), {}
    for attack in sorted(curves.attack.values.tolist(), key=lambda attack: float(area.sel(attack=attack))):
        kinds[needed(attack)] = attack
    return {kind: kinds[kind] for kind in (ONE_NETWORK, REFERENCES, EXACT) if kind in kinds}


def summarise(found: Statistics) -> Answer:
    curves = found.curves()
    last = curves.isel(step=-1)
    since = {
        name: first_significant(found.curve("advantage", attack=name), found.resampling)
        for name in curves.attack.values.tolist()
    }
    areas = {name: with_interval(last.sel(attack=name), "area", 3) for name in since}
    given = "; with both losses given the labels"
    if found.resampling.sets == 2:
        conditional = f"{given} it is {areas['conditional']}" if "conditional" in areas else ""
        sentence = (
            "From which step on the attack tells members from others is not estimated with two data sets; the area "
            f"under the curve, at the last step, is {areas['calibrated']} calibrated by the exact Bayes loss, and "
            f"{areas['uncalibrated']} without it{conditional}."
        )
    else:
        when = {name: f"from step {x:,.0f} on" if np.isfinite(x) else "at no step" for name, x in since.items()}
        conditional = f"{given} {when['conditional']} ({areas['conditional']})" if "conditional" in areas else ""
        sentence = (
            f"Calibrated by the exact Bayes loss, the attack tells members from others {when['calibrated']} (area "
            f"under the curve, at the last step, {areas['calibrated']}); without the exact loss "
            f"{when['uncalibrated']} ({areas['uncalibrated']}){conditional}."
        )
    numbers = {f"since_{name}".removesuffix("_calibrated"): step for name, step in since.items()}
    attackers, learned = learned_by(curves)
    return Answer(f"{sentence} {learned}", {**numbers, "attackers": attackers})


def learned_by(curves: xr.Dataset) -> tuple[list[dict[str, Any]], str]:
    """What each kind of attacker finds at the turning point and at best, or at the last step: numbers, a sentence."""
    attackers, said = [], []
    landmarks = curves.landmark.values.tolist()
    for kind, attack in best_of(curves).items():
        found = []
        for landmark in landmarks[:-1] or landmarks:
            shares = []
            for rate in reversed(FALSE_POSITIVE_RATES):
                at = curves.sel(attack=attack, landmark=landmark, false_positives=rate)
                share, half = (float(at[f"true_positives_at{end}"]) for end in ("", "_half"))
                where = {"attacker": kind, "attack": attack, "landmark": landmark, "false_positives": rate}
                attackers.append({**where, "true_positives": share, "half_width": half})
                shares.append("-" if np.isnan(share) else around(100 * share, 100 * half, 2).replace(" ", "% ", 1))
            found.append(f"{' and '.join(shares)} at {landmark}")
        said.append(f"with {kind} ({attack}) {', '.join(found)}")
    rates = " and ".join(f"{rate:.2g}%" for rate in np.multiply(100, FALSE_POSITIVE_RATES[::-1]))
    return attackers, f"Of the members an attacker finds, at {rates} false positives: {'; '.join(said)}."


def table(curves: xr.Dataset) -> list[str]:
    """Some attacks along training, and all of them at landmarks."""
    attacks = curves.attack.values.tolist()
    shown = [
        name for name in attacks if name in ("calibrated", "uncalibrated", "conditional", *best_of(curves).values())
    ]
    least = min(FALSE_POSITIVE_RATES)
    along = {f"AUC, {name}": column("area", 3, attack=name) for name in shown}
    along |= {f"TPR, {name}": column("true_positives", 4, attack=name, false_positives=least) for name in shown}
    lines = [
        f"members against others that no network has seen; TPR: share of members found at {least:.1%} false positives",
        *lines_over("step", curves, along),
    ]
    for landmark in curves.landmark.values.tolist():
        at = {"with": lambda x: needed(str(x.attack.values)), "AUC": column("area_at", 3)}
        for rate in FALSE_POSITIVE_RATES:
            at[f"TPR at {rate:.1%}"] = column("true_positives_at", 4, false_positives=rate)
        lines += ["", f"at {landmark}", *lines_over("attack", curves.sel(landmark=landmark), at)]
    return lines


MEMBERSHIP = Question(
    "membership", work, summarise, table, derive=lambda x: x.assign(advantage=x.area - 0.5), means=means
)
