"""Where a curve along training has its minimum: the onset of the bias, and the best step."""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike


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
            near = slice(max(0, i - 2), i + 3)
            return locate_minimum(steps[near], split[near])
    return NOT_REACHED


def summarise(results: xr.Dataset, *, onset_noise: float, epoch: float) -> dict[str, Any]:
    """The minima of a run (steps), the values there (nats a sequence) and the verdict; `epoch` in steps."""
    steps = results.step.values
    at = results.sel(noise=onset_noise)
    split, error = _mean_and_error(at.split, "pair")
    excess, _ = _mean_and_error(results.excess, "network")
    best = locate_minimum(steps, excess)
    onset = locate_onset(steps, split)
    last = last_significant_minimum(steps, split, error, best.step)
    log_steps = np.log(steps)

    def value(curve, step):
        return float(np.interp(np.log(step), log_steps, curve)) if np.isfinite(step) else float("nan")

    divergences = [
        {
            "filtered": int(k),
            "minimum": locate_minimum(steps, curve)._asdict(),
            "at_onset": value(curve, onset.step),
            "at_best": value(curve, best.step),
            "scale": float(at.scale.sel(filtered=k)),
        }
        for k in results.filtered.values
        for curve in [at.divergence.sel(filtered=k).mean("network").values]
    ]
    summary = {
        "onset": onset._asdict(),
        "last_significant_minimum": last._asdict(),
        "best": best._asdict(),
        "ratio": best.step / onset.step,
        "onset_noise": onset_noise,
        "split": {"at_onset": value(split, onset.step), "at_best": value(split, best.step)},
        "excess": {"at_onset": value(excess, onset.step), "at_best": value(excess, best.step)},
        "epoch": epoch,
        "steps": int(steps[-1]),
        "coincidences": int(results.attrs["coincidences"]),
        "divergences": divergences,
    }
    return {**summary, "verdict": verdict(summary)}


def _mean_and_error(x: xr.DataArray, over: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean over networks or pairs and sequences, and its standard error over the sequences, at each checkpoint."""
    each = x.mean(over)
    return each.mean("sequence").values, (each.std("sequence", ddof=1) / np.sqrt(each.sizes["sequence"])).values


def verdict(summary: dict[str, Any]) -> str:
    """One sentence: when the bias sets in, and when the test loss would have stopped."""
    onset, best, noise = summary["onset"], summary["best"], summary["onset_noise"]
    end = f"{summary['steps']:,} steps"
    if not onset["reached"]:
        return f"No onset within {end}: at t/T = {noise} the sample split never rises again after its transient."
    start = f"The networks start to lean towards their own samples at step {onset['step']:,.0f}"
    where = f"({onset['step'] / summary['epoch']:,.0f} epochs, t/T = {noise})"
    if not best["reached"]:
        return f"{start} {where}; the test loss is still falling at the end, after {end}."
    split = summary["split"]
    if best["step"] <= onset["step"]:
        return f"{start} {where}, not before the test loss is smallest, at step {best['step']:,.0f}."
    return (
        f"{start} {where}; the test loss would have stopped at step {best['step']:,.0f}, {summary['ratio']:.1f} times "
        f"later, when the split has grown from {split['at_onset']:.3f} to {split['at_best']:.3f} nats a sequence."
    )


def table(summary: dict[str, Any]) -> str:
    """The divergences from the filtered posteriors, a row for each k."""
    lines = [
        f"KL(BP_k || f) in nats a sequence at t/T = {summary['onset_noise']}, held-out sequences",
        f"{'k':>3} {'smallest at':>12} {'value':>8} {'at onset':>9} {'at best':>9} {'KL(BP_0||BP_k)':>15}",
    ]
    for row in summary["divergences"]:
        minimum = row["minimum"]
        step = f"{minimum['step']:,.0f}" if minimum["reached"] else "not reached"
        lines.append(
            f"{row['filtered']:>3} {step:>12} {minimum['value']:8.3f} {row['at_onset']:9.3f} {row['at_best']:9.3f} "
            f"{row['scale']:15.3f}"
        )
    return "\n".join(lines)
