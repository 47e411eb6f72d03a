"""Nearest-neighbour divergence of generated samples, beside the test loss (arXiv 2603.03469, figure 4a).

The paper's divergence compares the distances of samples and of held-out sequences to the own training set, and feels
how imperfect the samples are; that between the distances to the own set and to another's feels bias alone.
"""

from typing import Any

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import MIDDLE, ONSET, Need, Records

NEEDS = {Need(ONSET), Need("neighbours")}


def draw(records: Records) -> Figure:
    """Above the divergences, below the excess loss."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(3.4, 3.8), sharex=True)
    summary = records.summary(MIDDLE)
    neighbours(above, records.curves(MIDDLE, "neighbours"), summary)
    excess(below, records.curves(MIDDLE), summary)
    return figure


def neighbours(axes: Axes, curves: xr.Dataset, summary: dict[str, Any]) -> None:
    """Both divergences against the training step, with the floor of the paper's."""
    floor, error = float(curves.neighbour_floor), float(curves.neighbour_floor_half)
    axes.axhspan(max(floor - error, 0), floor + error, color="0.85", linewidth=0)
    axes.axhline(floor, color="0.5", linewidth=0.8, label="held-out against held-out")
    style.curve(axes, curves, "neighbour_divergence", "generated against held-out", color="C2", marker=".")
    style.curve(axes, curves, "own_divergence", "own set against another's", color="C1", marker=".")
    style.mark_steps(axes, summary)
    axes.set(xscale="log", ylabel="neighbour KL  [nats]")
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right")


def excess(axes: Axes, curves: xr.Dataset, summary: dict[str, Any]) -> None:
    """The excess loss against the training step."""
    style.curve(axes, curves, "excess", "excess loss, held-out, all t", color=style.LOSS)
    style.mark_steps(axes, summary)
    axes.set(xscale="log", yscale="log", xlabel="training step", ylabel="nats / sequence")
    axes.legend(loc="upper right")
