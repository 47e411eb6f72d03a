"""The level spectrum through training: what is learned, and what depends on the data, height by height.

Ours; no figure of the paper. Left the learned fraction of each height, in the middle the squared error of the networks,
on the right the part of it that depends on the data set and the seed.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import MIDDLE, ONSET, Need, Records

NEEDS = {Need(ONSET)}
PANELS = {
    "learned": "learned fraction",
    "error": "squared error / sequence",
    "data_dependent": "data-dependent part / sequence",
}


def draw(records: Records) -> Figure:
    """A panel for each quantity, a curve for each height."""
    figure, panels = plt.subplots(1, 3, figsize=(7.0, 2.6))
    curves, summary = records.curves(MIDDLE), records.summary(MIDDLE)
    at = curves.sel(noise=summary["onset_noise"])
    heights = at.height.values[1:]
    largest = float(at.error.max())
    for axes, (name, label) in zip(panels, PANELS.items(), strict=True):
        for h, shade in zip(heights, style.shades(len(heights)), strict=True):
            style.curve(axes, at.sel(height=h), name, f"height {h}", color=shade)
        style.mark_steps(axes, summary)
        axes.set(xscale="log", xlabel="training step", ylabel=label)
        if name != "learned":
            axes.set(yscale="log", ylim=(1e-3 * largest, 1.5 * largest))
    panels[0].axhline(1, color="0.5", linewidth=0.8)
    panels[0].set_ylim(-0.4, 1.2)
    panels[1].set_title(f"t/T = {summary['onset_noise']:g}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(heights))
    return figure
