"""Networks that learn sequences, through training (arXiv 2603.03469, figures 1b and 6), and the level spectrum."""

from collections.abc import Sequence

import xarray as xr
from matplotlib.axes import Axes

from hierdiff.pictures import style
from hierdiff.pictures.records import LARGE, ONSET, SMALL, Need, Records, needs
from hierdiff.pictures.run import divergences, split_and_loss
from hierdiff.worlds.sequences import Sequences

PANELS = {
    "learned": "learned fraction",
    "error": "squared error / sequence",
    "data_dependent": "data-dependent part / sequence",
}


@needs(Need(ONSET))
@style.panels(1, 2, figsize=(7.0, 2.7))
def training(records: Records, *both: Axes) -> None:
    """Oracle divergences and sample split through training (arXiv 2603.03469, figure 1b).

    Networks come near to the posteriors that ignore the top k levels first, and move away from them as they learn what
    these ignore. The networks of two data sets part before the test loss is smallest.
    """
    divergences_and_split(both, records.read(ONSET), records.summary())


@needs(Need(ONSET, SMALL), Need(ONSET, LARGE))
@style.panels(2, 2, figsize=(7.0, 5.2), sharey="col")
def set_sizes(records: Records, *panels: Axes) -> None:
    """Oracle divergences and sample split through training, for a small and a large set (arXiv 2603.03469, figure 6).

    Above the small set, below the large one, trained for the same number of epochs.
    """
    for both, size in ((panels[:2], SMALL), (panels[2:], LARGE)):
        divergences_and_split(both, records.read(ONSET, size), records.summary(size))
        for axes in both:
            axes.set_title(f"P = {records.sizes[size]:,}")
    for column in (panels[::2], panels[1::2]):
        style.legend_above(column, ncols=1)


@needs(Need(ONSET))
@style.panels(1, 3, figsize=(7.0, 2.6))
def spectrum(records: Records, *panels: Axes) -> None:
    """The level spectrum through training: what is learned, and what depends on the data, height by height.

    Ours; no figure of the paper. Left the learned fraction of each height, in the middle the squared error of the
    networks, on the right the part of it that depends on the data set and the seed.
    """
    summary = records.summary()
    at = records.read(ONSET).sel(noise=summary["onset_noise"])
    largest, own = float(at.error.max()), at.isel(height=slice(1, None))
    for axes, (name, label) in zip(panels, PANELS.items(), strict=True):
        style.curves(axes, own, name, "height", "height {}".format)
        style.over_training(axes, summary, None, ylabel=label)
        if name != "learned":
            axes.set(yscale="log", ylim=(1e-3 * largest, 1.5 * largest))
    panels[0].axhline(1, color="0.5", linewidth=0.8)
    panels[0].set_ylim(-0.4, 1.2)
    panels[1].set_title(f"t/T = {summary['onset_noise']:g}")
    panels[0].figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=own.sizes["height"]
    )


def divergences_and_split(both: Sequence[Axes], curves: xr.Dataset, summary: dict) -> None:
    """Two panels: the divergences, and the split beside the excess loss with both minima."""
    at = curves.sel(noise=summary["onset_noise"])
    divergences(both[0], at, summary)
    split_and_loss(both[1], both[1], at, summary, Sequences)
