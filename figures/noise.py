"""Oracle divergences against the noise level, for three training-set sizes (arXiv 2603.03469, figure 3b).

Each at the snapshot nearest to the smallest test loss, on sequences that are in no training set. The more data, the
wider the range of noise levels at which the networks are near to the exact posterior (k = 0).
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from figures import style
from figures.records import ONSET, SIZES, Need, Records

NEEDS = {Need(question, size) for question in (ONSET, "noise") for size in SIZES}


def draw(records: Records) -> Figure:
    """A panel for each size, and a curve for each k."""
    figure, panels = plt.subplots(1, 3, figsize=(7.0, 2.6), sharey=True)
    for axes, size in zip(panels, SIZES, strict=True):
        curves, summary = records.curves(size, "noise"), records.summary(size)
        at = curves.sel(step=summary["read_at"]["best"], method="nearest")
        for k, shade in zip(at.filtered.values, style.shades(at.sizes["filtered"]), strict=True):
            style.curve(axes, at.sel(filtered=k), "divergence", f"k = {k}", along="noise", color=shade, marker=".")
        when = "" if summary["best"]["reached"] else " (the last: no best)"
        axes.set_title(f"P = {records.scale.sizes[size]:,}, step {int(at.step):,}{when}")
        axes.set(xscale="log", yscale="log", xlabel="noise level t/T")
    panels[0].set_ylabel(r"KL(BP$_k$ || f)  [nats / sequence]")
    panels[0].legend(ncols=2)
    return figure
