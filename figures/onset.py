"""The onset of biased generalization along training (arXiv 2603.03469, figure 1b), and the level spectrum.

Above: divergence of the networks from the exact and the filtered posteriors; sample split and excess loss. Below: the
squared error of each height and its data-dependent part; the data-dependent part over height and noise at two steps.

    python -m figures.onset runs/laptop-0
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.layout_engine import ConstrainedLayoutEngine

from figures import style
from hierdiff import record
from hierdiff.onset import across_sets, spectrum_parts

SPLIT, MEMBERS, EXCESS = "C1", "C4", "C0"


def draw(folder: Path) -> None:
    """Draw `onset.png` into the folder of a run."""
    results, summary = record.read_results(folder), record.read_json(folder / "summary.json")
    results = results.isel(pair=across_sets(results))
    at = results.sel(noise=summary["onset_noise"])
    with plt.style.context(["petroff10", style.STYLE]):
        layout = ConstrainedLayoutEngine(rect=(0, 0.02, 1, 0.98))
        figure = plt.figure(figsize=(7.2, 5.4), layout=layout)
        grid = figure.add_gridspec(2, 4)
        divergences(figure.add_subplot(grid[0, :2]), at)
        split_and_excess(figure.add_subplot(grid[0, 2:]), at, summary)
        spectrum(figure.add_subplot(grid[1, :2]), at, summary)
        maps([figure.add_subplot(grid[1, 2]), figure.add_subplot(grid[1, 3])], results, summary)
        style.save(figure, folder / "onset.png", folder)
        plt.close(figure)


def divergences(axes: Axes, at: xr.Dataset) -> None:
    """KL(BP_k || f) against the training step, with the smallest point of each marked."""
    for k, shade in zip(at.filtered.values, style.shades(at.sizes["filtered"]), strict=True):
        curve(axes, at.divergence.sel(filtered=k), "network", f"k = {k}" + (" (exact)" if k == 0 else ""), color=shade)
        mean = at.divergence.sel(filtered=k).mean(("network", "group")).values
        axes.plot(at.step[mean.argmin()], mean.min(), "o", color=shade)
    axes.set(xscale="log", yscale="log", xlabel="training step", ylabel=r"KL(BP$_k$ || f)  [nats / sequence]")
    axes.set_title(f"distance to the filtered posteriors, t/T = {float(at.noise):g}")
    axes.legend()


def split_and_excess(axes: Axes, at: xr.Dataset, summary: dict) -> None:
    """Sample split and excess loss against the training step, with both minima and their intervals."""
    words = f"sample split, held-out, t/T = {float(at.noise):g}"
    curve(axes, at.split, "pair", words, color=SPLIT)
    curve(axes, at.member_split, "pair", "sample split, training", color=MEMBERS, linestyle="--")
    curve(axes, at.excess, "network", "excess loss, held-out, all t", color=EXCESS)
    for name, colour in (("onset", SPLIT), ("best", EXCESS)):
        found = summary[name]
        if found["reached"]:
            axes.axvspan(found["low"], found["high"] or summary["steps"], color=colour, alpha=0.15, linewidth=0)
            axes.plot(found["step"], found["value"], "o", color=colour)
            place = (found["step"], 0.01)
            axes.annotate(name, place, xycoords=("data", "axes fraction"), color=colour, fontsize=7, ha="center")
    axes.set(xscale="log", yscale="log", xlabel="training step", ylabel="nats / sequence")
    axes.set_title("distance between networks, and excess loss")
    axes.legend()


def spectrum(axes: Axes, at: xr.Dataset, summary: dict) -> None:
    """The squared error of each height (solid) and its data-dependent part (dashed) against the training step."""
    parts = spectrum_parts(at)
    heights = parts.height.values[1:]
    for h, shade in zip(heights, style.shades(len(heights)), strict=True):
        curve(axes, parts.error.sel(height=h), "network", f"height {h}", color=shade)
        curve(axes, parts.data_dependent.sel(height=h), "pair", None, color=shade, linestyle="--")
    for name in ("onset", "best"):
        if summary[name]["reached"]:
            axes.axvline(summary[name]["step"], color="0.5", linewidth=0.7, linestyle=":")
    largest = float(parts.error.mean(("network", "group")).max())
    axes.set(xscale="log", yscale="log", ylim=(1e-3 * largest, 1.5 * largest))
    axes.set(xlabel="training step", ylabel="squared error / sequence")
    axes.set_title(f"error (solid), data-dependent part (dashed), t/T = {float(at.noise):g}")
    axes.legend(ncols=2)


def maps(both: list[Axes], results: xr.Dataset, summary: dict) -> None:
    """The data-dependent part over height and noise, at the onset and at the best step (or the last)."""
    own = spectrum_parts(results).data_dependent.mean(("pair", "group")).isel(height=slice(1, None))
    steps = {
        "at onset": summary["onset"]["step"] if summary["onset"]["reached"] else float(own.step[0]),
        "at best": summary["best"]["step"] if summary["best"]["reached"] else float(own.step[-1]),
    }
    top = float(own.max())
    norm = LogNorm(1e-3 * top, top)
    for axes, (name, step) in zip(both, steps.items(), strict=True):
        values = own.sel(step=step, method="nearest").transpose("height", "noise").clip(min=1e-3 * top)
        axes.imshow(values, norm=norm, origin="lower", aspect="auto")
        axes.set_xticks(range(own.sizes["noise"]), [f"{x:g}" for x in own.noise.values], rotation=60)
        axes.set_yticks(range(own.sizes["height"]), own.height.values)
        axes.set(xlabel="noise t/T", title=f"data-dependent part\n{name}, step {step:,.0f}")
    both[0].set_ylabel("height")
    both[1].figure.colorbar(ScalarMappable(norm), ax=both[1], label="squared units / sequence")


def curve(axes: Axes, each: xr.DataArray, over: str, label: str | None, **style_options) -> None:
    """Mean over networks or pairs, with a band of two standard errors over them (over sequences if there is one)."""
    mean = each.mean((over, "group"))
    units = over if each.sizes[over] > 1 else "group"
    rest = each.mean("group" if units == over else over)
    error = 2 * rest.std(units, ddof=1) / np.sqrt(rest.sizes[units]) if rest.sizes[units] > 1 else 0 * mean
    axes.plot(each.step, mean, label=label, **style_options)
    colour = style_options["color"]
    axes.fill_between(each.step, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
