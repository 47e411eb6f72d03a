"""What comes back of a sequence that is noised and brought back."""

import xarray as xr
from matplotlib.axes import Axes

from hierdiff.pictures import losses, neighbours, style
from hierdiff.pictures.records import LARGE, SMALL, Need, Records, needs
from hierdiff.pictures.run import oracle


@needs(Need("uturn"))
@style.panels(1, 2, figsize=(7.0, 2.6), sharey=True)
def uturns(records: Records, left: Axes, right: Axes) -> None:
    """U-turns at the turning point and at the smallest test loss (arXiv 2603.03469, figure 5).

    A sequence is noised to t and brought back: its overlap with what comes back, from the networks over that from the
    exact score. Above 1 the networks keep more of the start than the exact score does.
    """
    ratios(left, records.read("uturn"), records.summary(), "turning point")
    ratios(right, records.read("uturn"), records.summary(), "best")
    right.legend()


@needs(Need("uturn"))
@style.panels(1, 2, figsize=(7.0, 2.6), sharey=True)
def random_strings(records: Records, left: Axes, right: Axes) -> None:
    """U-turns from random strings (arXiv 2603.03469, figure 11).

    How much of a uniform random string, which the grammar does not produce, comes back: left from the networks at three
    steps, right from the filtered posteriors BP_k, and from the memorizer, the posterior of the training set.
    """
    curves, colours = records.read("uturn"), {"turning point": style.SPLIT, "best": style.LOSS, "the end": "C2"}
    for name, step in records.read_at().items():
        at = curves.sel(start="random").sel(step=step, method="nearest")
        style.curve(
            left,
            at,
            "overlap",
            f"networks, {name}, step {int(at.step):,}",
            along="turn",
            color=colours[name],
            marker=".",
        )
    style.curves(right, curves, "of_filtered", "filtered", oracle, along="turn", marker=".")
    style.curve(right, curves, "of_empirical", "memorizer", along="turn", color="C1", linestyle="--", marker=".")
    for axes in (left, right):
        axes.set(xlabel="turn t/T")
        axes.legend()
    left.set_ylabel("share of symbols that come back")


@needs(*(Need(question, size) for question in ("neighbours", "losses", "uturn") for size in (SMALL, LARGE)))
@style.panels(4, 2, figsize=(7.0, 8.6))
def other_sizes(records: Records, *panels: Axes) -> None:
    """Samples, loss and U-turns for a small and a large training set (arXiv 2603.03469, figures 9 and 10).

    As the figures `samples`, `losses` and `uturns`, in a column for each size.
    """
    columns = panels[::2], panels[1::2]
    for column, size in zip(columns, (SMALL, LARGE), strict=True):
        summary, curves = records.summary(size), records.read("uturn", size)
        neighbours.divergences(column[0], records.read("neighbours", size), summary)
        losses.known(column[1], records.read("losses", size), summary)
        ratios(column[2], curves, summary, "turning point")
        ratios(column[3], curves, summary, "best")
        for axes in column:
            axes.set_title(", ".join(filter(None, (f"P = {records.sizes[size]:,}", axes.get_title()))))
    for row in zip(*columns, strict=True):
        style.legend_above(row, ncols=2)


def ratios(axes: Axes, curves: xr.Dataset, summary: dict, when: str) -> None:
    """The ratio of mean overlaps against the turn, from training and from held-out starts, at the nearest snapshot."""
    step, colours = summary["read_at"][style.LANDMARKS[when][0]], {"training": "C1", "held-out": "C0"}
    axes.axhline(1, color="0.5", linewidth=0.8)
    axes.set(xlabel="turn t/T", ylabel="overlap, network / exact", title=f"no {when}")
    if step is not None:
        at = curves.sel(step=step, method="nearest")
        style.curves(axes, at, "ratio_of_means", "start", "{} starts".format, colours, along="turn", marker=".")
        axes.set_title(f"{when if style.located(summary, when) else 'the end'}, step {int(at.step):,}")
