"""U-turns at the onset and at the smallest test loss (arXiv 2603.03469, figure 5).

A sequence is noised to t and brought back: its overlap with what comes back, from the networks over that from the exact
score. Above 1 the networks keep more of the start than the exact score does.
"""

from typing import Any

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import MIDDLE, ONSET, Need, Records

NEEDS = {Need(ONSET), Need("uturn")}


def draw(records: Records) -> Figure:
    """A panel for each of the two steps."""
    figure, panels = plt.subplots(1, 2, figsize=(7.0, 2.6), sharey=True)
    curves, summary = records.curves(MIDDLE, "uturn"), records.summary(MIDDLE)
    for axes, when in zip(panels, ("onset", "best"), strict=True):
        ratios(axes, curves, summary, when)
    panels[1].legend()
    return figure


def ratios(axes: Axes, curves: xr.Dataset, summary: dict[str, Any], when: str) -> None:
    """The ratio of mean overlaps against the turn, from training and from held-out starts, at the nearest snapshot."""
    step = summary["read_at"][when]
    axes.axhline(1, color="0.5", linewidth=0.8)
    axes.set(xlabel="turn t/T", ylabel="overlap, network / exact")
    if step is None:
        axes.set_title("no onset")
        return
    at = curves.sel(step=step, method="nearest")
    for start, colour in (("training", "C1"), ("held-out", "C0")):
        style.curve(
            axes, at.sel(start=start), "ratio_of_means", f"{start} starts", along="turn", color=colour, marker="."
        )
    where = when if summary[when]["reached"] else "the end"
    axes.set_title(f"{where}, step {int(at.step):,}")
