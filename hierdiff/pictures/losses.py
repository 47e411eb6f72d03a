"""The training loss, split into the distance to the exact posterior and a residual (arXiv 2603.03469, figure 4b).

The residual vanishes on new sequences. On training sequences it falls below that of the exact posterior, by what the
network knows of them beyond their noised form.
"""

from typing import Any

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import MIDDLE, ONSET, Need, Records

NEEDS = {Need(ONSET), Need("losses")}


def draw(records: Records) -> Figure:
    """Left the two parts on training sequences, right what the network knows of them and of new ones."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 2.6))
    curves, summary = records.curves(MIDDLE, "losses"), records.summary(MIDDLE)
    parts(left, curves, summary)
    known(right, curves, summary)
    return figure


def parts(axes: Axes, curves: xr.Dataset, summary: dict[str, Any]) -> None:
    """Loss and its part towards the exact posterior, on training sequences, averaged over all t."""
    own = curves.sel(inputs="training")
    style.curve(axes, own, "loss_average", "training loss", color="C0", marker=".")
    style.curve(axes, own, "to_exact_average", "to the exact posterior", color="C1", marker=".")
    style.mark_steps(axes, summary)
    axes.set(xscale="log", xlabel="training step", ylabel="nats / sequence")
    axes.legend()


def known(axes: Axes, curves: xr.Dataset, summary: dict[str, Any]) -> None:
    """How far the residual lies below that of the exact posterior."""
    for inputs, colour in (("training", "C1"), ("held-out", "C0")):
        style.curve(axes, curves.sel(inputs=inputs), "known_average", f"{inputs} sequences", color=colour, marker=".")
    axes.axhline(0, color="0.5", linewidth=0.8)
    style.mark_steps(axes, summary)
    axes.set(xscale="log", xlabel="training step", ylabel="exact minus network\nresidual  [nats / sequence]")
    axes.legend()
