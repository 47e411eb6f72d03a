"""Oracle divergences against the noise level, for three training-set sizes (arXiv 2603.03469, figure 3b).

Each at the snapshot nearest to the smallest test loss, or the last where there is none, on sequences that are in no
training set. The more data, the nearer the networks come to the exact posterior (k = 0), and the farther they move from
those that ignore the top levels.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import ONSET, SIZES, Need, Records

NEEDS = {Need(question, size) for question in (ONSET, "noise") for size in SIZES}


def draw(records: Records) -> Figure:
    """A panel for each size, and a curve for each k."""
    figure, panels = plt.subplots(1, 3, figsize=(7.0, 2.6), sharey=True)
    for axes, size in zip(panels, SIZES, strict=True):
        curves, summary = records.curves(size, "noise"), records.summary(size)
        at = curves.sel(step=summary["read_at"]["best"], method="nearest")
        for k, shade in zip(at.filtered.values, style.shades(at.sizes["filtered"]), strict=True):
            style.curve(axes, at.sel(filtered=k), "divergence", f"k = {k}", along="noise", color=shade, marker=".")
        when = "step" if summary["best"]["reached"] else "last step"
        axes.set_title(f"P = {records.scale.sizes[size]:,}, {when} {int(at.step):,}")
        axes.set(xscale="log", yscale="log", xlabel="noise level t/T")
        style.ticks(axes, [0.02, 0.05, 0.1, 0.2, 0.5])
    panels[0].set_ylabel(r"KL(BP$_k$ || f)  [nats / sequence]")
    panels[0].legend(ncols=2)
    return figure
