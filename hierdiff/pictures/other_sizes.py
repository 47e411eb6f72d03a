"""Samples, loss and U-turns for a small and a large training set (arXiv 2603.03469, figures 9 and 10).

As the figures `samples`, `losses` and `uturns`, in a column for each size.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.losses import known
from hierdiff.pictures.records import LARGE, ONSET, SMALL, Need, Records
from hierdiff.pictures.samples import neighbours
from hierdiff.pictures.uturns import ratios

NEEDS = {Need(question, size) for question in (ONSET, "neighbours", "losses", "uturn") for size in (SMALL, LARGE)}


def draw(records: Records) -> Figure:
    """A column for each size."""
    figure, rows = plt.subplots(4, 2, figsize=(7.0, 8.6))
    for axes, size in zip(rows.T, (SMALL, LARGE), strict=True):
        summary, uturns = records.summary(size), records.curves(size, "uturn")
        neighbours(axes[0], records.curves(size, "neighbours"), summary)
        known(axes[1], records.curves(size, "losses"), summary)
        ratios(axes[2], uturns, summary, "onset")
        ratios(axes[3], uturns, summary, "best")
        for each in axes:
            title = each.get_title()
            each.set_title(f"P = {records.scale.sizes[size]:,}" + (f", {title}" if title else ""))
        axes[0].set_xlabel("training step")
    style.legends_above(rows.T, ncols=2)
    return figure
