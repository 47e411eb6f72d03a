"""Oracle divergences and sample split through training, for a small and a large set (arXiv 2603.03469, figure 6).

Above the small set, below the large one, trained for the same number of epochs.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.onset import divergences, split_and_excess
from hierdiff.pictures.records import LARGE, ONSET, SMALL, Need, Records

NEEDS = {Need(ONSET, SMALL), Need(ONSET, LARGE)}


def draw(records: Records) -> Figure:
    """A row for each size."""
    figure, rows = plt.subplots(2, 2, figsize=(7.0, 5.2), sharey="col")
    for axes, size in zip(rows, (SMALL, LARGE), strict=True):
        curves, summary = records.curves(size), records.summary(size)
        at = curves.sel(noise=summary["onset_noise"])
        divergences(axes[0], at, summary)
        split_and_excess(axes[1], at, summary)
        for each in axes:
            each.set_title(f"P = {records.scale.sizes[size]:,}")
    style.legends_above(rows, ncols=1)
    return figure
