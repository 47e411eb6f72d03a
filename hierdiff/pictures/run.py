"""The picture of a run, of any world, and the panels that it is made of.

hierdiff figures onset runs/laptop-0
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from hierdiff import called
from hierdiff.errors import require
from hierdiff.pictures import style
from hierdiff.runs import record
from hierdiff.runs.world import World, of_members
from hierdiff.statistics.story import OWN, SLOPE, Table
from hierdiff.worlds.finished import world_of


def draw_finished(folder: Path) -> None:
    """Draw the picture of a run anew.

    Raises:
      ValueError: there is no finished run in the folder.
    """
    need = f"the {called.finished_run('onset')}"
    require(record.finished(folder, "run"), "run", str(folder), need)
    draw(folder, world_of(folder))


def draw(folder: Path, world: type[World]) -> None:
    """Draw `onset.png` into the folder of a run; bands are 95% intervals."""
    curves, summary = record.read_results(folder / "curves.nc"), record.read_json(folder / "summary.json")
    style.save(
        lambda: picture(world, curves, summary), [folder / "onset.png"], [style.origin(folder / "curves.nc", curves)]
    )


def picture(world: type[World], curves: xr.Dataset, summary: dict[str, Any]) -> Figure:
    """The run, through training.

    How far networks on different data lie apart, and their loss; by how much less each loses on its own samples than
    others do; how much of the memorizer is in them; and, height by height or scale by scale, what they have of their
    own samples alone. Of sequences, the distance to the exact and the filtered posteriors too (arXiv 2603.03469, figure
    1b). Bands are 95% intervals.
    """
    at, story = curves.sel(noise=summary["onset_noise"]), world.STORY
    in_one_panel = world.VARIABLES[story.split].units == world.VARIABLES[story.loss].units
    there = {
        "divergences": "divergence" in curves,
        "split": True,
        "loss": not in_one_panel,
        "own": OWN in curves,
        "slope": SLOPE in curves,
        "parts": story.axis is not None,
        "maps": "data_dependent" in curves,
    }
    names = [name for name, is_there in there.items() if is_there]
    rows: list[Any] = [[*names[i : i + 2], "."][:2] for i in range(0, len(names), 2)]
    figure = Figure(figsize=(7.2, 2.6 * len(rows)))
    panels = figure.subplot_mosaic(rows)
    split_and_loss(panels["split"], panels.get("loss", panels["split"]), at, summary, world)
    if "divergences" in panels:
        divergences(panels["divergences"], at, summary)
    if "own" in panels:
        own_against_other(panels["own"], at, summary, world)
    if "slope" in panels:
        memorization_slope(panels["slope"], curves, summary)
    if story.axis:
        parts(panels["parts"], at, summary, story.axis, story.part)
    if "maps" in panels:
        place = panels["maps"].get_subplotspec()
        panels["maps"].remove()
        maps([figure.add_subplot(each) for each in place.subgridspec(1, 2)], curves, summary)
    return figure


def oracle(k: int) -> str:
    return f"k = {k}" + (" (exact)" if k == 0 else "")


def divergences(axes: Axes, at: xr.Dataset, summary: dict[str, Any]) -> None:
    """KL(BP_k || f) against the training step, with the minimum of each marked where it is located."""
    for row, shade in zip(summary["divergences"], style.shades(at.sizes["filtered"]), strict=True):
        k, minimum = row["filtered"], row["minimum"]
        style.curve(axes, at.sel(filtered=k), "divergence", oracle(k), color=shade)
        style.dot(axes, minimum, shade)
    axes.set(
        title=f"distance to the filtered posteriors, t/T = {float(at.noise):g}",
        xscale="log",
        yscale="log",
        xlabel="training step",
        ylabel="KL(BP_k || f)  [nats / sequence]",
    )
    style.mark(axes, summary)
    axes.legend()


def split_and_loss(distance: Axes, loss: Axes, at: xr.Dataset, summary: dict[str, Any], world: type[World]) -> None:
    """How far networks lie apart, and the loss, with their minima and intervals; in one panel or in two."""
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
    owners = dict(zip(style.MINIMA, (distance, loss), strict=True))
    for axes in dict.fromkeys(owners.values()):
        style.mark(axes, summary, [name for name, owner in owners.items() if owner is axes])
    for name, found, colour in style.landmarks(summary):
        if name in owners:
            style.dot(owners[name], found, colour)


def own_against_other(axes: Axes, at: xr.Dataset, summary: dict[str, Any], world: type[World]) -> None:
    """By how much less a network loses on its training samples than others do, and since when zero is excluded."""
    axes.axhline(0, color="0.5", linewidth=0.8)
    style.curve(axes, at, OWN, None, color="C4")
    since = summary["own_since"]
    if since is not None:
        words = f"told from zero from step {since:,.0f} on"
        axes.plot(since, float(at[OWN].sel(step=since)), "^", color="C4", label=words, linestyle="none")
        axes.legend(loc="upper left")
    style.mark(axes, summary)
    axes.set(
        title=f"own against other, t/T = {float(at.noise):g}",
        xscale="log",
        xlabel="training step",
        ylabel=f"loss of others minus own\n[{world.VARIABLES['member_loss'].units}]",
    )


def memorization_slope(axes: Axes, curves: xr.Dataset, summary: dict[str, Any]) -> None:
    """The memorization slope, and the level at which memorization is said to begin; older records have no level."""
    noise, level = (summary.get(name) for name in ("slope_noise", "slope_level"))
    noise = noise or summary["onset_noise"]
    style.curve(axes, curves.sel(noise=noise), SLOPE, None, color=style.SLOPE)
    if level is not None:
        axes.axhline(level, color="0.5", linewidth=0.8, linestyle="--", label=f"slope {level:g}")
        axes.legend(loc="upper left")
    style.mark(axes, summary, ["memorization"])
    axes.set(
        title=f"towards the memorizer, t/T = {noise:g}",
        xscale="log",
        xlabel="training step",
        ylabel="memorization slope",
    )


def parts(axes: Axes, at: xr.Dataset, summary: dict[str, Any], table: Table, part: str) -> None:
    """What leans to the own sample (dashed) along the world's own axis, and the error (solid) where it is known."""
    named = at.sel({table.axis: [value for value in at[table.axis].values if value not in table.places]})
    solid, dashed = ("error", table.minimum) if "error" in at else (table.minimum, None)
    style.curves(axes, named, solid, table.axis, table.place.format, dashed=dashed)
    style.mark(axes, summary)
    largest = float(at[solid].max())
    words = f"error (solid), {part} (dashed)" if dashed else part
    axes.set(
        title=f"{words},\nt/T = {float(at.noise):g}",
        xscale="log",
        yscale="log",
        ylim=(1e-3 * largest, 1.5 * largest),
        xlabel="training step",
        ylabel="squared error / sequence" if dashed else "relative squared difference",
    )
    axes.legend(ncols=2)


def maps(both: Sequence[Axes], curves: xr.Dataset, summary: dict) -> None:
    """The data-dependent part over height and noise, at the turning point and at the best step (or the last)."""
    own = curves.data_dependent.isel(height=slice(1, None))
    top = float(own.max())
    norm = LogNorm(1e-3 * top, top)
    for axes, name in zip(both, style.MINIMA, strict=True):
        heights_and_levels(axes, own, rotation=60, xlabel="noise t/T", title=f"data-dependent part,\nno {name}")
        step = summary["read_at"][style.LANDMARKS[name][0]]
        if step is not None:
            values = own.sel(step=step, method="nearest").transpose("height", "noise").clip(min=1e-3 * top)
            axes.imshow(values, norm=norm, origin="lower", aspect="auto")
            where = name if style.located(summary, name) else "the end"
            axes.set_title(f"data-dependent part\n{where}, step {step:,.0f}")
    both[0].set_ylabel("height")
    both[1].figure.colorbar(ScalarMappable(norm), ax=both[1], label="squared units / sequence")


def heights_and_levels(axes: Axes, at: xr.Dataset | xr.DataArray, *, rotation: int, **words: str) -> None:
    """Name the rows, heights, and the columns, noise levels, of a map."""
    levels, heights = at.noise.values, at.height.values
    axes.set_xticks(range(len(levels)), [f"{x:g}" for x in levels], rotation=rotation)
    axes.set_yticks(range(len(heights)), heights)
    axes.set(xlim=(-0.5, len(levels) - 0.5), ylim=(-0.5, len(heights) - 0.5), **words)
