"""The images that networks generate."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import IMAGES, SAMPLES, Need, Records, needs, read

ROWS = ("sample of A", "sample of B", "nearest of A", "nearest of B")


@needs(Need(SAMPLES, IMAGES))
def image_samples(records: Records) -> Figure:
    """What two networks make of the same noise, and the nearest training images (arXiv 2603.03469, figure 1a, right).

    Of networks A and B the samples, and the nearest images of their own sets, at the snapshots nearest to the turning
    point, to best and to the end.
    """
    steps, samples = records.read_at(IMAGES), read(records.run(IMAGES) / "samples.results.nc")
    figure, panels = style.subplots(1, len(steps), figsize=(7.0, 1.9), squeeze=False)
    for axes, (when, step) in zip(panels[0], steps.items(), strict=True):
        at = samples.sel(step=step, method="nearest")
        axes.imshow(mosaic(at), cmap="gray", vmin=0, vmax=255)
        axes.set(title=f"{when}, step {int(at.step):,}", xticks=[], yticks=[])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    panels[0, 0].set_yticks((samples.sizes["y"] + 1) * (np.arange(len(ROWS)) + 0.5), ROWS)
    return figure


def mosaic(at: xr.Dataset) -> np.ndarray:
    """The pictures of the first two networks, a row for each of `ROWS`, a column for each start, with white seams."""
    rows = [at[name].sel(network=network) for name in ("picture", "nearest_picture") for network in (0, 1)]
    # Older records have no channels.
    seams = [(0, 0), (0, 1), (0, 1), (0, 0)][: rows[0].ndim]
    return np.vstack([np.hstack(list(np.pad(row, seams, constant_values=255))) for row in rows])
