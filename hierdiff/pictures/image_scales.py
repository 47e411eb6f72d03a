"""How far two networks lie apart at coarser and finer scales of the image, through training.

The image counterpart of the level spectrum: the squared difference of the predicted noises at each Haar scale, against
the sum of their squares there.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import IMAGES, ONSET, Need, Records

NEEDS = {Need(ONSET, IMAGES)}


def draw(records: Records) -> Figure:
    """A curve for each scale."""
    figure, axes = plt.subplots(figsize=(3.4, 2.9))
    summary = records.summary(IMAGES)
    at = records.curves(IMAGES).sel(noise=summary["onset_noise"])
    for scale, shade in zip(at.scale.values, style.shades(at.sizes["scale"]), strict=True):
        style.curve(axes, at.sel(scale=scale), "scale_distance", f"{scale}", color=shade)
    style.mark_steps(axes, summary)
    axes.set(xscale="log", yscale="log", xlabel="training step", ylabel="relative squared difference")
    axes.set_title(f"predicted noises, t/T = {summary['onset_noise']:g}, held-out")
    figure.legend(loc="outside upper center", ncols=at.sizes["scale"], title="scale  [pixels]")
    return figure
