"""The picture of a run, of any world, and the panels that it is made of.

python -m figures.onset runs/laptop-0
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from hierdiff.errors import require
from hierdiff.pictures import style
from hierdiff.runs import record
from hierdiff.runs.world import World, of_members
from hierdiff.statistics.story import Table
from hierdiff.worlds.finished import world_of


def draw_finished(folder: Path) -> None:
    """Draw the picture of a run anew.

    Raises:
      ValueError: there is no finished run in the folder.
    """
    require(record.finished(folder, "run"), "run", str(folder), "the folder of a finished run of experiments.onset")
    draw(folder, world_of(folder))


def draw(folder: Path, world: type[World]) -> None:
    """Draw `onset.png` into the folder of a run; bands are 95% intervals."""
    curves, summary = record.read_results(folder / "curves.nc"), record.read_json(folder / "summary.json")
    style.save(
        lambda: picture(world, curves, summary), [folder / "onset.png"], [style.origin(folder / "curves.nc", curves)]
    )


def picture(world: type[World], curves: xr.Dataset, summary: dict[str, Any]) -> Figure:
    """How far networks lie apart, and the loss; where it is known, the rest of the world's story.

    For sequences (arXiv 2603.03469, figure 1b) that is the divergence from the exact and the filtered posteriors, and
    what depends on the data, height by height and over the noise levels.
    """
    at, story = curves.sel(noise=summary["onset_noise"]), world.STORY
    figure = plt.figure(figsize=(7.2, 5.4))
    grid = iter(figure.add_gridspec(2, 2))
    if "divergence" in curves:
        divergences(figure.add_subplot(next(grid)), at, summary)
    distance = figure.add_subplot(next(grid))
    one_panel = world.VARIABLES[story.split].units == world.VARIABLES[story.loss].units
    split_and_loss(distance, distance if one_panel else figure.add_subplot(next(grid)), at, summary, world)
    if story.axis:
        parts(figure.add_subplot(next(grid)), at, summary, story.axis, story.part)
    if "data_dependent" in curves:
        maps([figure.add_subplot(each) for each in next(grid).subgridspec(1, 2)], curves, summary)
    return figure


def oracle(k: int) -> str:
    return f"k = {k}" + (" (exact)" if k == 0 else "")


def divergences(axes: Axes, at: xr.Dataset, summary: dict[str, Any]) -> None:
    """KL(BP_k || f) against the training step, with the minimum of each marked where it is reached."""
    for row, shade in zip(summary["divergences"], style.shades(at.sizes["filtered"]), strict=True):
        k, minimum = row["filtered"], row["minimum"]
        style.curve(axes, at.sel(filtered=k), "divergence", oracle(k), color=shade)
        if minimum["reached"]:
            axes.plot(minimum["step"], minimum["value"], "o", color=shade)
    axes.set(
        title=f"distance to the filtered posteriors, t/T = {float(at.noise):g}",
        xscale="log",
        yscale="log",
        xlabel="training step",
        ylabel=r"KL(BP$_k$ || f)  [nats / sequence]",
    )
    axes.legend()


def split_and_loss(distance: Axes, loss: Axes, at: xr.Dataset, summary: dict[str, Any], world: type[World]) -> None:
    """How far networks lie apart, and the loss, with both minima and their intervals; in one panel or in two."""
    split, of_loss = world.STORY.split, world.STORY.loss
    words, of_both = world.STORY.split_words.removeprefix("the "), of_loss.replace("_", " ")
    for axes, name, label, line in (
        (distance, split, f"{words}, held-out, t/T = {float(at.noise):g}", {"color": style.SPLIT}),
        (distance, of_members(split), f"{words}, training", {"color": "C4", "linestyle": "--"}),
        (loss, of_loss, f"{of_both}, held-out, all t", {"color": style.LOSS}),
        (loss, of_members(of_loss), f"{of_both}, training, all t", {"color": "C7", "linestyle": "--"}),
    ):
        style.curve(axes, at, name, label, **line)
        axes.set(xscale="log", yscale="log", xlabel="training step", ylabel=world.VARIABLES[name].units)
        axes.legend()
    for name, found, colour in style.minima(summary):
        axes = distance if name == "onset" else loss
        axes.axvspan(
            found["low"] or float(at.step[0]), found["high"] or summary["steps"], color=colour, alpha=0.15, linewidth=0
        )
        axes.plot(found["step"], found["value"], "o", color=colour)
        axes.text(
            found["step"], 0.01, name, transform=axes.get_xaxis_transform(), color=colour, fontsize=7, ha="center"
        )


def parts(axes: Axes, at: xr.Dataset, summary: dict[str, Any], table: Table, part: str) -> None:
    """What leans to the own sample (dashed) along the world's own axis, and the error (solid) where it is known."""
    named = at.sel({table.axis: [value for value in at[table.axis].values if value not in table.places]})
    solid, dashed = ("error", table.minimum) if "error" in at else (table.minimum, None)
    style.curves(axes, named, solid, table.axis, table.place.format, dashed=dashed)
    for _, found, _ in style.minima(summary):
        axes.axvline(found["step"], color="0.5", linewidth=0.7, linestyle=":")
    largest = float(at[solid].max())
    words = f"error (solid), {part} (dashed)" if dashed else part
    axes.set(
        title=f"{words}, t/T = {float(at.noise):g}",
        xscale="log",
        yscale="log",
        ylim=(1e-3 * largest, 1.5 * largest),
        xlabel="training step",
        ylabel="squared error / sequence" if dashed else "relative squared difference",
    )
    axes.legend(ncols=2)


def maps(both: Sequence[Axes], curves: xr.Dataset, summary: dict) -> None:
    """The data-dependent part over height and noise, at the onset and at the best step (or the last)."""
    own = curves.data_dependent.isel(height=slice(1, None))
    top = float(own.max())
    norm = LogNorm(1e-3 * top, top)
    for axes, name in zip(both, ("onset", "best"), strict=True):
        heights_and_levels(axes, own, rotation=60, xlabel="noise t/T", title=f"data-dependent part,\nno {name}")
        step = summary["read_at"][name]
        if step is not None:
            values = own.sel(step=step, method="nearest").transpose("height", "noise").clip(min=1e-3 * top)
            axes.imshow(values, norm=norm, origin="lower", aspect="auto")
            where = f"at {name}" if summary[name]["reached"] else "at the end"
            axes.set_title(f"data-dependent part\n{where}, step {step:,.0f}")
    both[0].set_ylabel("height")
    both[1].figure.colorbar(ScalarMappable(norm), ax=both[1], label="squared units / sequence")


def heights_and_levels(axes: Axes, at: xr.Dataset | xr.DataArray, *, rotation: int, **words: str) -> None:
    """Name the rows, heights, and the columns, noise levels, of a map."""
    levels, heights = at.noise.values, at.height.values
    axes.set_xticks(range(len(levels)), [f"{x:g}" for x in levels], rotation=rotation)
    axes.set_yticks(range(len(heights)), heights)
    axes.set(xlim=(-0.5, len(levels) - 0.5), ylim=(-0.5, len(heights) - 0.5), **words)
