"""Memorization through training: the slope towards the memorizer, and the attack on members.

Ours; no figure of the paper. A slope of 0 is that of networks which ignore the sample they saw, 1 that of networks
which reproduce the posterior of their training set; an area of 0.5 is that of an attack which sees nothing. Calibrated:
by the exact Bayes loss.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import MIDDLE, ONSET, Need, Records

NEEDS = {Need(ONSET), Need("membership")}


def draw(records: Records) -> Figure:
    """Left the slope at each noise level, right the area under the attacker's ROC curve."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 2.6))
    curves, attack, summary = records.curves(MIDDLE), records.curves(MIDDLE, "membership"), records.summary(MIDDLE)
    for t, shade in zip(curves.noise.values, style.shades(curves.sizes["noise"]), strict=True):
        style.curve(left, curves.sel(noise=t), "slope", f"t/T = {t:g}", color=shade)
    left.set(ylabel="memorization slope")
    left.set_yscale("symlog", linthresh=1e-3)
    left.set_ylim(bottom=-2e-3)
    for name, colour in zip(attack.attack.values, ("C1", "C0"), strict=True):
        style.curve(right, attack.sel(attack=name), "area", str(name), color=colour, marker=".")
    right.axhline(0.5, color="0.5", linewidth=0.8)
    right.set(ylabel="area under the ROC curve")
    for axes in (left, right):
        style.mark_steps(axes, summary)
        axes.set(xscale="log", xlabel="training step")
        style.legend_above(axes, 3)
    return figure
