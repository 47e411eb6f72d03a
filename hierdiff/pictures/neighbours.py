"""How near to training sets generated samples lie."""

import xarray as xr
from matplotlib.axes import Axes

from hierdiff.pictures import style
from hierdiff.pictures.records import ONSET, Need, Records, needs


@needs(Need("neighbours"))
@style.panels(2, 1, figsize=(3.4, 3.8), sharex=True)
def samples(records: Records, above: Axes, below: Axes) -> None:
    """Nearest-neighbour divergence of generated samples, beside the test loss (arXiv 2603.03469, figure 4a).

    Above the divergences, below the excess loss. The paper's divergence compares the distances of samples and of
    held-out sequences to the own training set, and feels how imperfect the samples are; that between the distances to
    the own set and to another's feels bias alone.
    """
    divergences(above, records.read("neighbours"), records.summary())
    above.set_xlabel("")
    style.curve(below, records.read(ONSET), "excess", "excess loss, held-out, all t", color=style.LOSS)
    style.over_training(below, records.summary(), "upper right", yscale="log", ylabel="nats / sequence")


def divergences(axes: Axes, curves: xr.Dataset, summary: dict) -> None:
    """Both divergences against the training step, with the floor of the paper's."""
    floor, error = float(curves.neighbour_floor), float(curves.neighbour_floor_half)
    axes.axhspan(max(floor - error, 0), floor + error, color="0.85", linewidth=0)
    axes.axhline(floor, color="0.5", linewidth=0.8, label="held-out against held-out")
    style.curve(axes, curves, "neighbour_divergence", "generated against held-out", color="C2", marker=".")
    style.curve(axes, curves, "own_divergence", "own set against another's", color="C1", marker=".")
    style.over_training(axes, summary, "upper right", ylabel="neighbour KL  [nats]")
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_ylim(bottom=0)
