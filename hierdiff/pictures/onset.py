"""The onset of biased generalization along training (arXiv 2603.03469, figure 1b), and the level spectrum.

Above: divergence of the networks from the exact and the filtered posteriors; sample split and excess loss. Below: the
squared error of each height and its data-dependent part; the data-dependent part over height and noise at two steps.
Bands are 95% intervals.

    python -m figures.onset runs/laptop-0
"""

from pathlib import Path

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from hierdiff.errors import require
from hierdiff.pictures import style
from hierdiff.runs import record

MEMBERS = "C4"


def draw(folder: Path) -> None:
    """Draw `onset.png` into the folder of a run."""
    curves, summary = record.read_results(folder / "curves.nc"), record.read_json(folder / "summary.json")
    at = curves.sel(noise=summary["onset_noise"])
    with style.in_style():
        figure = plt.figure(figsize=(7.2, 5.4))
        grid = figure.add_gridspec(2, 4)
        divergences(figure.add_subplot(grid[0, :2]), at, summary)
        split_and_excess(figure.add_subplot(grid[0, 2:]), at, summary)
        spectrum(figure.add_subplot(grid[1, :2]), at, summary)
        maps([figure.add_subplot(grid[1, 2]), figure.add_subplot(grid[1, 3])], curves, summary)
        style.save(figure, [folder / "onset.png"], [style.origin(folder / "curves.nc", curves.attrs)])
        plt.close(figure)


def divergences(axes: Axes, at: xr.Dataset, summary: dict) -> None:
    """KL(BP_k || f) against the training step, with the minimum of each marked where it is reached."""
    for row, shade in zip(summary["divergences"], style.shades(at.sizes["filtered"]), strict=True):
        k = row["filtered"]
        style.curve(axes, at.sel(filtered=k), "divergence", f"k = {k}" + (" (exact)" if k == 0 else ""), color=shade)
        if row["minimum"]["reached"]:
            axes.plot(row["minimum"]["step"], row["minimum"]["value"], "o", color=shade)
    axes.set(xscale="log", yscale="log", xlabel="training step", ylabel=r"KL(BP$_k$ || f)  [nats / sequence]")
    axes.set_title(f"distance to the filtered posteriors, t/T = {float(at.noise):g}")
    axes.legend()


def split_and_excess(axes: Axes, at: xr.Dataset, summary: dict) -> None:
    """Sample split and excess loss against the training step, with both minima and their intervals."""
    style.curve(axes, at, "split", f"sample split, held-out, t/T = {float(at.noise):g}", color=style.SPLIT)
    style.curve(axes, at, "member_split", "sample split, training", color=MEMBERS, linestyle="--")
    style.curve(axes, at, "excess", "excess loss, held-out, all t", color=style.LOSS)
    for name, colour in (("onset", style.SPLIT), ("best", style.LOSS)):
        found = summary[name]
        if found["reached"]:
            low, high = found["low"] or float(at.step[0]), found["high"] or summary["steps"]
            axes.axvspan(low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(found["step"], found["value"], "o", color=colour)
            place = (found["step"], 0.01)
            axes.annotate(name, place, xycoords=("data", "axes fraction"), color=colour, fontsize=7, ha="center")
    axes.set(xscale="log", yscale="log", xlabel="training step", ylabel="nats / sequence")
    axes.set_title("distance between networks, and excess loss")
    axes.legend()


def spectrum(axes: Axes, at: xr.Dataset, summary: dict) -> None:
    """The squared error of each height (solid) and its data-dependent part (dashed) against the training step."""
    heights = at.height.values[1:]
    for h, shade in zip(heights, style.shades(len(heights)), strict=True):
        style.curve(axes, at.sel(height=h), "error", f"height {h}", color=shade)
        style.curve(axes, at.sel(height=h), "data_dependent", None, color=shade, linestyle="--")
    for name in ("onset", "best"):
        if summary[name]["reached"]:
            axes.axvline(summary[name]["step"], color="0.5", linewidth=0.7, linestyle=":")
    largest = float(at.error.max())
    axes.set(xscale="log", yscale="log", ylim=(1e-3 * largest, 1.5 * largest))
    axes.set(xlabel="training step", ylabel="squared error / sequence")
    axes.set_title(f"error (solid), data-dependent part (dashed), t/T = {float(at.noise):g}")
    axes.legend(ncols=2)


def maps(both: list[Axes], curves: xr.Dataset, summary: dict) -> None:
    """The data-dependent part over height and noise, at the onset and at the best step (or the last)."""
    own = curves.data_dependent.isel(height=slice(1, None))
    top = float(own.max())
    norm = LogNorm(1e-3 * top, top)
    for axes, name in zip(both, ("onset", "best"), strict=True):
        axes.set_title(f"data-dependent part,\nno {name}")
        axes.set_xticks(range(own.sizes["noise"]), [f"{x:g}" for x in own.noise.values], rotation=60)
        axes.set_yticks(range(own.sizes["height"]), own.height.values)
        axes.set(xlabel="noise t/T", xlim=(-0.5, own.sizes["noise"] - 0.5), ylim=(-0.5, own.sizes["height"] - 0.5))
        step = summary["read_at"][name]
        if step is not None:
            values = own.sel(step=step, method="nearest").transpose("height", "noise").clip(min=1e-3 * top)
            axes.imshow(values, norm=norm, origin="lower", aspect="auto")
            where = f"at {name}" if summary[name]["reached"] else "at the end"
            axes.set_title(f"data-dependent part\n{where}, step {step:,.0f}")
    both[0].set_ylabel("height")
    both[1].figure.colorbar(ScalarMappable(norm), ax=both[1], label="squared units / sequence")


def draw_finished(run: Path) -> None:
    """Draw the picture of a run anew.

    Raises:
      ValueError: there is no finished run in the folder.
    """
    need = "the folder of a finished run of experiments.onset"
    require(record.finished(run, "run"), "run", str(run), need)
    draw(run)
