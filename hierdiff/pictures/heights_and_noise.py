"""Where the bias is: the data-dependent part of the error over height and noise level, at three steps.

Ours; no figure of the paper. Above the part itself, below its share of the squared error, where the error of that
height is told from zero.
"""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from hierdiff.pictures.records import MIDDLE, ONSET, Need, Records

NEEDS = {Need(ONSET), Need("noise")}


def draw(records: Records) -> Figure:
    """A column for each of the snapshots nearest to the onset, to best and to the end."""
    curves = records.curves(MIDDLE, "noise").isel(height=slice(1, None))
    steps = records.read_at(MIDDLE)
    figure, rows = plt.subplots(2, len(steps), figsize=(7.0, 4.2), squeeze=False)
    top = float(curves.data_dependent.max())
    norms = LogNorm(1e-3 * top, top), Normalize(0, 1)
    for (name, step), (above, below) in zip(steps.items(), rows.T, strict=True):
        at = curves.sel(step=step, method="nearest").transpose(..., "height", "noise")
        told = at.error > 2 * at.error_error
        above.imshow(at.data_dependent.clip(min=1e-3 * top), norm=norms[0], origin="lower", aspect="auto")
        below.imshow(at.share.where(told).clip(0, 1), norm=norms[1], origin="lower", aspect="auto")
        above.set_title(f"{name}, step {int(at.step):,}")
        for axes in (above, below):
            label(axes, at)
    for row, norm, words in zip(
        rows, norms, ("data-dependent part\n[squared units / sequence]", "its share"), strict=True
    ):
        figure.colorbar(ScalarMappable(norm), ax=row[-1], label=words)
    return figure


def label(axes: Axes, at: xr.Dataset) -> None:
    """Name the rows and the columns of a map."""
    axes.set_xticks(np.arange(at.sizes["noise"]), [f"{x:g}" for x in at.noise.values], rotation=90)
    axes.set_yticks(np.arange(at.sizes["height"]), at.height.values)
    axes.set(xlabel="noise level t/T", ylabel="height")
