"""Where a curve along training has its minimum: the onset of the bias, the best step, and their intervals."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit


class Minimum(NamedTuple):
    """A minimum along training; `step` is nan, and `reached` False, where the curve has none within the run."""

    step: float
    value: float
    reached: bool


NOT_REACHED = Minimum(float("nan"), float("nan"), False)


def locate_minimum(steps: ArrayLike, curve: ArrayLike) -> Minimum:
    """The minimum of a curve, between checkpoints by a parabola in log(step).

    The parabola is the least-squares fit to the smallest point and up to two neighbours on each side. A smallest
    point that is the first or the last checkpoint is no minimum: not reached.
    """
    log_step, curve = np.log(np.asarray(steps, float)), np.asarray(curve, float)
    lowest = int(np.argmin(curve))
    if lowest in (0, len(curve) - 1):
        return NOT_REACHED
    near = slice(max(0, lowest - 2), lowest + 3)
    bend, slope, level = np.polyfit(log_step[near] - log_step[lowest], curve[near], 2)
    shift = -slope / (2 * bend) if bend > 0 else np.inf
    left, right = log_step[lowest - 1] - log_step[lowest], log_step[lowest + 1] - log_step[lowest]
    if not left <= shift <= right:
        return Minimum(float(np.exp(log_step[lowest])), float(curve[lowest]), True)
    return Minimum(float(np.exp(log_step[lowest] + shift)), float(level + slope * shift / 2), True)


def after_transient(curve: Float[np.ndarray, " c"]) -> int:
    """The index of the peak from which the curve falls furthest: untrained networks agree, so a split first rises."""
    peaks = np.maximum.accumulate(curve)
    trough = int(np.argmax(peaks - curve))
    return int(np.argmax(curve[: trough + 1]))


def locate_onset(steps: ArrayLike, split: ArrayLike) -> Minimum:
    """The minimum of a sample split after its initial transient; not reached where the split never falls."""
    steps, split = np.asarray(steps), np.asarray(split, float)
    start = after_transient(split)
    return locate_minimum(steps[start:], split[start:])


def last_significant_minimum(steps: ArrayLike, split: ArrayLike, error: ArrayLike, before: float) -> Minimum:
    """The last local minimum at a step below `before` from which the split rises by over two standard errors.

    Networks that learn the heights of the tree one after another show a bump each time, and the global minimum may
    lie before an early one. `error` is the standard error of each point; the rise is read up to `before`, or the end.
    """
    steps, split, error = np.asarray(steps, float), np.asarray(split, float), np.asarray(error, float)
    start = after_transient(split)
    end = len(steps) if np.isnan(before) else int(np.searchsorted(steps, before, side="right"))
    for i in reversed(range(max(start, 1), end - 1)):
        j = i + 1 + int(np.argmax(split[i + 1 : end]))
        rise = split[j] - split[i]
        if split[i - 1] > split[i] <= split[i + 1] and rise > 2 * np.hypot(error[i], error[j]):
            return locate_minimum(steps[i - 1 : i + 2], split[i - 1 : i + 2])
    return NOT_REACHED


class Resampling(NamedTuple):
    """Replicates of an experiment: each leaves one data set out and draws the groups of test sequences anew.

    Replicate r leaves out data set `left_out[r]` (-1: none, where there are only two) and gives group g the weight
    `weight[r, g]`.
    """

    left_out: Int[np.ndarray, " R"]
    weight: Float[np.ndarray, "R groups"]
    sets: int

    def curves(self, x: Float[np.ndarray, "steps unit groups"], sets_of: Int[np.ndarray, "unit _"]) -> np.ndarray:
        """Mean of `x` over units and groups in each replicate, `(R, steps)`; unit u uses the data sets `sets_of[u]`."""
        curves = np.empty((len(self.weight), len(x)))
        for left_out in np.unique(self.left_out):
            kept = (sets_of != left_out).all(1)
            rows = self.left_out == left_out
            curves[rows] = self.weight[rows] @ x[:, kept].mean(1).T
        return curves

    def variance(self, replicates: Float[np.ndarray, "R ..."]) -> tuple[np.ndarray, np.ndarray]:
        """Variance of a statistic over data sets (jackknife) and test sequences (bootstrap), and degrees of freedom.

        These are Satterthwaite's. With two data sets only the test sequences count.
        """
        parts = [replicates[self.left_out == i] for i in np.unique(self.left_out)]
        sequences = np.mean([part.var(0, ddof=1) for part in parts], 0)
        sets = np.zeros_like(sequences)
        if len(parts) > 1:
            sets = (self.sets - 1) * np.var([part.mean(0) for part in parts], 0)
        total = sets + sequences
        groups = self.weight.shape[1]
        with np.errstate(invalid="ignore"):
            freedom = total**2 / (sets**2 / max(self.sets - 1, 1) + sequences**2 / (groups - 1))
        return np.asarray(total), np.asarray(np.nan_to_num(freedom, nan=groups - 1))

    def half_width(self, log_steps: Float[np.ndarray, " R"]) -> float:
        """Half the width of the 95% interval of a log(step)."""
        variance, freedom = self.variance(log_steps)
        return float(stdtrit(freedom, 0.975) * np.sqrt(variance))


def resampling(*, sets: int, groups: int, replicates: int = 1000, seed: int = 0) -> Resampling:
    """`replicates` replicates, spread evenly over the data sets to leave out."""
    rng = np.random.default_rng(seed)
    left_out = np.arange(replicates) % sets if sets > 2 else np.full(replicates, -1)
    weight = rng.multinomial(groups, np.full(groups, 1 / groups), size=replicates) / groups
    return Resampling(left_out, weight, sets)


class Estimate(NamedTuple):
    """A step along training with its 95% interval; `high` is inf where the interval leaves the run."""

    step: float
    low: float
    high: float
    value: float
    reached: bool
    replicates: Float[np.ndarray, " R"]


def estimate(
    steps: np.ndarray,
    x: Float[np.ndarray, "steps unit groups"],
    sets_of: Int[np.ndarray, "unit _"],
    replicates: Resampling,
    locate: Callable[[ArrayLike, ArrayLike], Minimum],
) -> Estimate:
    """Where `locate` finds the minimum of the mean curve of `x`, with its interval on log(step).

    A minimum counts only if the curve rises from it by more than two standard errors. A replicate that does not reach
    its minimum counts as the last step; where more than 2.5% do not, or the interval leaves the run, it has no upper
    end.
    """
    curve, curves = x.mean((1, 2)), replicates.curves(x, sets_of)
    minimum = locate(steps, curve)
    if not minimum.reached or not _rises(steps, curve, curves, minimum, replicates):
        return Estimate(np.nan, np.nan, np.nan, np.nan, False, np.full(len(curves), np.log(steps[-1])))
    found = np.array([locate(steps, each).step for each in curves])
    missed = np.isnan(found).mean()
    logs = np.log(np.where(np.isnan(found), steps[-1], found))
    half = replicates.half_width(logs)
    low, high = minimum.step * np.exp(-half), minimum.step * np.exp(half)
    return Estimate(
        minimum.step, low, np.inf if missed > 0.025 or high > steps[-1] else high, minimum.value, True, logs
    )


def _rises(steps, curve, curves, minimum: Minimum, replicates: Resampling) -> bool:
    lowest = int(np.argmin(np.abs(np.log(steps / minimum.step))))
    highest = lowest + int(np.argmax(curve[lowest:]))
    variance, _ = replicates.variance(curves[:, highest] - curves[:, lowest])
    return bool(curve[highest] - curve[lowest] > 2 * np.sqrt(variance))


def probability_before(first: Estimate, second: Estimate, replicates: Resampling) -> float:
    """P(first < second) by the spread of their difference on log(step)."""
    variance, freedom = replicates.variance(second.replicates - first.replicates)
    late = second.step if second.reached else np.exp(second.replicates.mean())
    gap = np.log(late) - np.log(first.step)
    return float(stdtr(freedom, gap / np.sqrt(variance))) if variance > 0 else float(gap > 0)


def set_pairs(results: xr.Dataset) -> np.ndarray:
    """The data sets of each pair of networks, `(pairs, 2)`."""
    return results.data_set.values[np.stack([results["first"].values, results["second"].values], axis=1)]


def across_sets(results: xr.Dataset) -> np.ndarray:
    """Which pairs of networks are trained on two data sets, `(pairs,)`."""
    first, second = set_pairs(results).T
    return first != second


def spectrum_parts(results: xr.Dataset) -> xr.Dataset:
    """The level spectrum as error of each network, and the common and data-dependent parts of each pair."""
    every = xr.DataArray(np.arange(results.sizes["network"]), dims="network")
    first, second = (xr.DataArray(results[end].values, dims="pair") for end in ("first", "second"))
    spectrum = results.spectrum.drop_vars(("network", "other", "data_set"), errors="ignore")
    error = spectrum.isel(network=every, other=every)
    common = spectrum.isel(network=first, other=second)
    own = 0.5 * (error.isel(network=first) + error.isel(network=second)) - common
    return xr.Dataset({"error": error, "common": common, "data_dependent": own})


def summarise(results: xr.Dataset, *, onset_noise: float, epoch: float) -> dict[str, Any]:
    """The minima of a run (steps) with their intervals, the values there, and the verdict; `epoch` in steps."""
    across = across_sets(results)
    same_set, results = results.isel(pair=~across), results.isel(pair=across)
    steps = results.step.values
    sets_of = {"pair": set_pairs(results), "network": results.data_set.values[:, None]}
    replicates = resampling(sets=len(np.unique(results.data_set)), groups=results.sizes["group"])
    every_part = spectrum_parts(results)
    at, parts = results.sel(noise=onset_noise), every_part.sel(noise=onset_noise)

    def units(x: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
        unit = "pair" if "pair" in x.dims else "network"
        return x.transpose("step", unit, "group").values, sets_of[unit]

    def locate(x: xr.DataArray, how=locate_onset) -> Estimate:
        return estimate(steps, *units(x), replicates, how)

    def value(x: xr.DataArray, step: float) -> float:
        curve = x.mean({"pair", "network", "group"} & set(x.dims))
        return float(np.interp(np.log(step), np.log(steps), curve)) if np.isfinite(step) else float("nan")

    best, onset = locate(results.excess, locate_minimum), locate(at.split)
    until = best.step if best.reached else float(steps[-1])

    def both(x: xr.DataArray) -> dict[str, float]:
        return {"at_onset": value(x, onset.step), "at_best": value(x, until)}

    split_error = np.sqrt(replicates.variance(replicates.curves(*units(at.split)))[0])
    last = last_significant_minimum(steps, at.split.mean(("pair", "group")).values, split_error, best.step)
    increment = at.increment.mean("group")
    learned = at.learned / increment
    slope = at.slope / at.empirical.mean("group")
    totals = every_part.sum("height")
    heights = []
    for h in results.height.values:
        error, own = parts.error.sel(height=h), parts.data_dependent.sel(height=h)
        row = {"height": int(h), "onset": _plain(locate(own)), "increment": float(increment.sel(height=h))}
        for name, x in (("learned", learned.sel(height=h)), ("error", error), ("data_dependent", own)):
            row[name] = both(x)
        heights.append(row)
    summary = {
        "onset": _plain(onset),
        "best": _plain(best),
        "ratio": _ratio(onset, best, replicates),
        "last_significant_minimum": last._asdict(),
        "onset_noise": onset_noise,
        "steps": int(steps[-1]),
        "epoch": epoch,
        "coincidences": int(results.attrs["coincidences"]),
        "split": both(at.split),
        "excess": both(results.excess),
        "slope": both(slope),
        "heights": heights,
        "noise": [
            {
                "noise": float(noise),
                "onset": _plain(locate(results.split.sel(noise=noise))),
                "data_dependent_share_at_best": value(totals.data_dependent.sel(noise=noise), until)
                / value(totals.error.sel(noise=noise), until),
            }
            for noise in results.noise.values
        ],
        "divergences": [
            {
                "filtered": int(k),
                "minimum": _plain(locate(at.divergence.sel(filtered=k), locate_minimum)),
                **both(at.divergence.sel(filtered=k)),
                "scale": float(at.scale.sel(filtered=k).mean()),
            }
            for k in results.filtered.values
        ],
    }
    if not across.all():
        summary["seed_split"] = both(same_set.split.sel(noise=onset_noise))
    return {**summary, "verdict": verdict(summary)}


def _plain(found: Estimate) -> dict[str, Any]:
    return {name: value for name, value in found._asdict().items() if name != "replicates"}


def _ratio(onset: Estimate, best: Estimate, replicates: Resampling) -> dict[str, Any]:
    """How much later than the onset the test loss stops, and the probability that it is later."""
    if not onset.reached:
        return {"best_over_onset": None, "low": None, "high": None, "onset_before_best": None}
    before = probability_before(onset, best, replicates)
    if not best.reached:
        return {"best_over_onset": None, "low": None, "high": None, "onset_before_best": before}
    half = replicates.half_width(best.replicates - onset.replicates)
    ratio = best.step / onset.step
    high = ratio * np.exp(half) if np.isfinite(best.high) else None
    return {"best_over_onset": ratio, "low": ratio * np.exp(-half), "high": high, "onset_before_best": before}


def interval(found: dict[str, Any]) -> str:
    """A step and its 95% interval in words."""
    if not found["reached"]:
        return "not reached"
    high = f"{found['high']:,.0f}" if np.isfinite(found["high"]) else "beyond the run"
    return f"{found['step']:,.0f} ({found['low']:,.0f} to {high})"


def verdict(summary: dict[str, Any]) -> str:
    """One sentence: step, height and noise level of the onset, and when the test loss would have stopped."""
    onset, best, noise, ratio = (summary[name] for name in ("onset", "best", "onset_noise", "ratio"))
    if not onset["reached"]:
        return (
            f"No onset within {summary['steps']:,} steps: at t/T = {noise} the sample split does not rise again, by "
            "more than two standard errors, after its transient."
        )
    start = (
        f"At t/T = {noise} the networks start to lean towards their own samples at step {interval(onset)}, "
        f"{onset['step'] / summary['epoch']:,.0f} epochs"
    )
    grown = max(
        summary["heights"], key=lambda row: row["data_dependent"]["at_best"] - row["data_dependent"]["at_onset"]
    )
    widest = max(summary["noise"], key=lambda row: row["data_dependent_share_at_best"])
    where = "the prior level" if grown["height"] < 0 else f"height {grown['height']}"
    by_then = (
        f"by then the data-dependent part has grown most at {where} "
        f"({grown['data_dependent']['at_onset']:.3f} to {grown['data_dependent']['at_best']:.3f}), and its share of "
        f"the error is largest at t/T = {widest['noise']:g} ({widest['data_dependent_share_at_best']:.0%})."
    )
    if not best["reached"]:
        return f"{start}; the test loss has no clear minimum within {summary['steps']:,} steps; {by_then}"
    if best["step"] <= onset["step"]:
        return f"{start}, not before the test loss is smallest, at step {interval(best)}."
    high = f"{ratio['high']:.1f}" if ratio["high"] else "beyond the run"
    return (
        f"{start}; the test loss would have stopped at step {interval(best)}, {ratio['best_over_onset']:.1f} "
        f"({ratio['low']:.1f} to {high}) times later (P(onset < best) = {ratio['onset_before_best']:.2f}); {by_then}"
    )


def table(summary: dict[str, Any]) -> str:
    """The level spectrum, a row for each height, and the divergences from the filtered posteriors, a row for each k."""

    def pair(values: dict[str, float], width: int) -> str:
        shown = [f"{values[when]:.3f}" if np.isfinite(values[when]) else "-" for when in ("at_onset", "at_best")]
        return " > ".join(shown).rjust(width)

    lines = [
        f"held-out sequences at t/T = {summary['onset_noise']}; 'a > b': at onset > at best (or at the end)",
        f"{'height':>7} {'learned':>15} {'error':>15} {'data-dependent':>15} {'share':>7}  its onset, step (95%)",
    ]
    for row in reversed(summary["heights"]):
        name = "prior" if row["height"] < 0 else row["height"]
        share = row["data_dependent"]["at_best"] / row["error"]["at_best"]
        cells = " ".join(pair(row[key], 15) for key in ("learned", "error", "data_dependent"))
        lines.append(f"{name:>7} {cells} {share:7.0%}  {interval(row['onset'])}")
    lines += ["", f"{'k':>7} {'KL(BP_k || f)':>15} {'KL(BP_0||BP_k)':>15}  smallest at step (95%)"]
    for row in summary["divergences"]:
        lines.append(f"{row['filtered']:>7} {pair(row, 15)} {row['scale']:15.3f}  {interval(row['minimum'])}")
    lines += ["", f"{'t/T':>7} {'onset, step (95%)':>30}  data-dependent share of the error at best"]
    for row in summary["noise"]:
        share = row["data_dependent_share_at_best"]
        lines.append(f"{row['noise']:7g} {interval(row['onset']):>30}  {share:.0%}")
    slope, split = summary["slope"], summary["split"]
    lines += ["", f"sample split {pair(split, 0)} nats, memorization slope {pair(slope, 0)}"]
    if "seed_split" in summary:
        lines.append(f"split of two seeds on one data set {pair(summary['seed_split'], 0)} nats")
    last = summary["last_significant_minimum"]
    if last["reached"] and not abs(np.log(last["step"] / summary["onset"]["step"])) <= 0.2:
        lines.append(f"the last significant minimum of the split before best is another: step {last['step']:,.0f}")
    return "\n".join(lines)
