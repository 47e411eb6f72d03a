"""How far the noises that two networks predict lie apart, for several t (arXiv 2603.03469, figure 2)."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import IMAGES, ONSET, Need, Records

NEEDS = {Need(ONSET, IMAGES)}


def draw(records: Records) -> Figure:
    """A curve for each noise level: held-out images solid, training images dashed."""
    figure, axes = plt.subplots(figsize=(3.4, 2.7))
    curves = records.curves(IMAGES)
    for t, shade in zip(curves.noise.values, style.shades(curves.sizes["noise"]), strict=True):
        at = curves.sel(noise=t)
        style.curve(axes, at, "distance", f"t/T = {t:g}", color=shade)
        style.curve(axes, at, "member_distance", None, color=shade, linestyle="--")
    style.mark_steps(axes, records.summary(IMAGES))
    axes.set(xscale="log", yscale="log", xlabel="training step", ylabel="1 - cosine of the predicted noises")
    axes.set_title("held-out (solid), training images (dashed)")
    axes.legend()
    return figure
