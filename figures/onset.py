"""The onset of biased generalization along training (arXiv 2603.03469, figure 1b).

Left: divergence of the networks from the exact and the filtered posteriors. Right: sample split and excess loss.

    python -m figures.onset runs/laptop-0
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine

from figures import style
from hierdiff import record

SPLIT, MEMBERS, EXCESS = "C1", "C4", "C0"


def draw(folder: Path) -> None:
    """Draw `onset.png` into the folder of a run."""
    results, summary = record.read_results(folder), record.read_json(folder / "summary.json")
    with plt.style.context(["petroff10", style.STYLE]):
        layout = ConstrainedLayoutEngine(rect=(0, 0.03, 1, 0.97))
        figure, (left, right) = plt.subplots(1, 2, figsize=(6.9, 2.9), layout=layout)
        at = results.sel(noise=summary["onset_noise"])
        divergences(left, at)
        split_and_excess(right, at, summary)
        style.save(figure, folder / "onset.png", folder)
        plt.close(figure)


def divergences(axes: Axes, at: xr.Dataset) -> None:
    """KL(BP_k || f) against the training step, with the smallest point of each marked."""
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.85, at.sizes["filtered"]))
    for k, shade in zip(at.filtered.values, shades, strict=True):
        each = at.divergence.sel(filtered=k)
        mean, error = each.mean("network"), interval(each, "network")
        axes.plot(at.step, mean, color=shade, label=f"k = {k}" + (" (exact)" if k == 0 else ""))
        axes.fill_between(at.step, mean - error, mean + error, color=shade, alpha=0.2, linewidth=0)
        axes.plot(at.step[int(mean.values.argmin())], mean.values.min(), "o", color=shade)
    axes.set(xscale="log", yscale="log", xlabel="training step", ylabel=r"KL(BP$_k$ || f)  [nats / sequence]")
    axes.set_title(f"distance to the filtered posteriors, t/T = {float(at.noise):g}")
    axes.legend()


def split_and_excess(axes: Axes, at: xr.Dataset, summary: dict) -> None:
    """Sample split and excess loss against the training step, with both minima marked."""
    split = at.split.mean("sequence")
    curves = [
        (split, "pair", SPLIT, "-", f"sample split, held-out, t/T = {float(at.noise):g}", "onset"),
        (at.member_split, "pair", MEMBERS, "--", "sample split, training", None),
        (at.excess.mean("sequence"), "network", EXCESS, "-", "excess loss, held-out, all t", "best"),
    ]
    for each, over, colour, line, words, minimum in curves:
        mean, error = each.mean(over), interval(each, over)
        axes.plot(at.step, mean, line, color=colour, label=words)
        axes.fill_between(at.step, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
        if minimum and summary[minimum]["reached"]:
            axes.axvline(summary[minimum]["step"], color=colour, linewidth=0.8, linestyle=":")
            axes.plot(summary[minimum]["step"], summary[minimum]["value"], "o", color=colour)
            place = (summary[minimum]["step"], 0.01)
            axes.annotate(f" {minimum}", place, xycoords=("data", "axes fraction"), color=colour, fontsize=7)
    axes.set(xscale="log", yscale="log", xlabel="training step", ylabel="nats / sequence")
    axes.set_title("distance between networks, and excess loss")
    axes.legend()


def interval(each: xr.DataArray, over: str) -> xr.DataArray:
    """Two standard errors over the networks or pairs."""
    return (
        2 * each.std(over, ddof=1) / np.sqrt(each.sizes[over])
        if each.sizes[over] > 1
        else xr.zeros_like(each.mean(over))
    )


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
