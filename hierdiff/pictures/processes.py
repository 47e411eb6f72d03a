"""Three noises beside each other, on the axes that they share: bits, and the excess of the bound on -log p."""

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import PROCESSES, Need, Records, needs, read

# Of each curve, what it is called and the landmark of its minimum.
NAMED = {
    "split": ("sample split", "onset"),
    "excess": ("excess loss", "best"),
    "excess_bound": ("excess of the bound on -log p", "excess_bound_minimum"),
}
# Nats of the bound's excess that are shown: networks that have just begun lie far above.
LIMITS = 1, 100


@needs(Need(PROCESSES, PROCESSES))
def processes(records: Records) -> Figure:
    """Sample split, excess loss and bound through training under each noise, and the data-dependent part by height.

    Ours; no figure of the paper. The split is read at the noise level of the turning point, named by the bits that x_t
    says of x_0 there; below, each noise has a panel, at its smallest excess loss or the last step, over its bits.
    """
    landmarks = records.read(PROCESSES, PROCESSES)["landmarks"]
    figure = Figure(figsize=(7.0, 5.0))
    grid = figure.add_gridspec(2, 1)
    upper, lower = (figure.add_subfigure(grid[row]) for row in range(2))
    rows = upper.subplots(1, len(NAMED)), lower.subplots(1, len(landmarks), sharex=True, sharey=True, squeeze=False)[0]
    for number, row in enumerate(landmarks):
        folder = records.run(PROCESSES) / row["folder"]
        curves, summary = read(folder / "curves.nc"), read(folder / "summary.json")
        at, colour = curves.sel(noise=row["noise"]), f"C{number}"
        for axes, (name, (words, minimum)) in zip(rows[0], NAMED.items(), strict=True):
            style.curve(axes, at, name, f"{row['process']}, {row['bits']:.1f} bits", color=colour)
            style.dot(axes, row[minimum], colour)
            axes.set(title=words, xscale="log", yscale="log", xlabel="training step")
        best = curves.sel(step=summary["read_at"]["best"], method="nearest")
        when = "step" if style.located(summary, "best") else "last step"
        by_height(rows[1][number], best, f"{row['process']}, {when} {int(best.step):,}")
    rows[0][0].set_ylabel("nats / sequence")
    rows[0][-1].set_ylim(*LIMITS)
    rows[1][0].set_ylabel("data-dependent part\n[squared units / sequence]")
    upper.legend(*rows[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=len(landmarks))
    lower.legend(*rows[1][0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return figure


def by_height(axes: Axes, at: xr.Dataset, title: str) -> None:
    """The data-dependent part of each height over what x_t says of x_0."""
    over_bits = at.isel(height=slice(1, None)).assign_coords(bits=("noise", at.information.values))
    over_bits = over_bits.swap_dims(noise="bits").sortby("bits")
    style.curves(axes, over_bits, "data_dependent", "height", "height {}".format, along="bits", marker=".")
    axes.set(title=title, xlabel="I(x_0; x_t)  [bits]")


@needs(Need(PROCESSES, PROCESSES))
def copies(records: Records) -> Figure:
    """What networks copy of their own training set above chance, against the excess of the bound, for each noise.

    Ours; no figure of the paper. A panel for each number of reverse steps; points are snapshots, joined along training,
    which comes from the right and turns where the bound is smallest. Intervals are 95%.
    """
    rows = records.read(PROCESSES, PROCESSES)["landmarks"]
    found = {row["process"]: read(records.run(PROCESSES) / row["folder"] / "copying.curves.nc") for row in rows}
    steps = found[rows[0]["process"]].reverse_steps.values.tolist()
    figure, panels = style.subplots(1, len(steps), figsize=(7.0, 2.6), sharey=True, squeeze=False)
    for axes, number in zip(panels[0], steps, strict=True):
        for i, (name, curves) in enumerate(found.items()):
            along(axes, curves.sel(reverse_steps=number, height=min(2, int(curves.height[-1]))), name, f"C{i}")
        axes.axhline(0, color="0.5", linewidth=0.8)
        axes.set(title=f"{number} reverse steps", xscale="log", xlabel="excess of the bound  [nats]", xlim=LIMITS)
    panels[0, 0].set_ylabel("copied blocks, own minus other")
    panels[0, 0].legend()
    return figure


def along(axes: Axes, at: xr.Dataset, label: str, colour: str) -> None:
    """Copies against the bound's excess, snapshot by snapshot."""
    axes.errorbar(
        at.excess_bound,
        at.more_copies,
        at.more_copies_half,
        at.excess_bound_half,
        fmt=".-",
        color=colour,
        label=label,
        linewidth=0.8,
        elinewidth=0.4,
    )
