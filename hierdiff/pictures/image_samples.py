"""What two networks make of the same noise, with their nearest training images (arXiv 2603.03469, figure 1a, right).

At the snapshots nearest to the onset, to best and to the end.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierdiff.pictures.records import IMAGES, ONSET, SAMPLES, Need, Records

NEEDS = {Need(ONSET, IMAGES), Need(SAMPLES, IMAGES)}
ROWS = ("sample of A", "sample of B", "nearest of A", "nearest of B")


def draw(records: Records) -> Figure:
    """A panel for each step: of networks A and B the samples, and the nearest images of their own sets."""
    steps, samples = records.read_at(IMAGES), records.samples()
    figure, panels = plt.subplots(1, len(steps), figsize=(7.0, 1.9), squeeze=False)
    for axes, (when, step) in zip(panels[0], steps.items(), strict=True):
        at = samples.sel(step=step, method="nearest")
        axes.imshow(mosaic(at), cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{when}, step {int(at.step):,}")
        name_rows(axes, samples.sizes["y"], ROWS if axes is panels[0, 0] else len(ROWS) * [""])
    return figure


def mosaic(at: xr.Dataset) -> np.ndarray:
    """The pictures of the first two networks, a row for each of `ROWS`, a column for each start, with white seams."""
    rows = [at[name].sel(network=network).values for name in ("picture", "nearest_picture") for network in (0, 1)]
    framed = np.pad(np.stack(rows), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=255)
    rows_of, _, height, _ = framed.shape
    return framed.swapaxes(1, 2).reshape(rows_of * height, -1)


def name_rows(axes: Axes, side: int, names: Sequence[str]) -> None:
    """Names in the middle of each row, and no frame."""
    axes.set_xticks([])
    axes.set_yticks((side + 1) * (np.arange(len(names)) + 0.5), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
