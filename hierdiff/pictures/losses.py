"""What the training loss is made of."""

import xarray as xr
from matplotlib.axes import Axes

from hierdiff.pictures import style
from hierdiff.pictures.records import Need, Records, needs


@needs(Need("losses"))
@style.panels(1, 2, figsize=(7.0, 2.6))
def losses(records: Records, left: Axes, right: Axes) -> None:
    """The training loss, split into the distance to the exact posterior and a residual (arXiv 2603.03469, figure 4b).

    Left both on training sequences, averaged over all t. The residual vanishes on new sequences. On training sequences
    it falls below that of the exact posterior, by what the network knows of them beyond their noised form: right, what
    it knows of them and of new ones.
    """
    curves, summary = records.read("losses"), records.summary()
    own = curves.sel(inputs="training")
    style.curve(left, own, "loss_average", "training loss", color="C0", marker=".")
    style.curve(left, own, "to_exact_average", "to the exact posterior", color="C1", marker=".")
    style.over_training(left, summary, ylabel="nats / sequence")
    known(right, curves, summary)


def known(axes: Axes, curves: xr.Dataset, summary: dict) -> None:
    """How far the residual lies below that of the exact posterior."""
    colours = {"training": "C1", "held-out": "C0"}
    style.curves(axes, curves, "known_average", "inputs", "{} sequences".format, colours, marker=".")
    axes.axhline(0, color="0.5", linewidth=0.8)
    style.over_training(axes, summary, ylabel="exact minus network\nresidual  [nats / sequence]")
