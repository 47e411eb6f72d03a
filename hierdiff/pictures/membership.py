"""Memorization, and the attack on members."""

from matplotlib.axes import Axes

from hierdiff.pictures import style
from hierdiff.pictures.records import ONSET, Need, Records, needs


@needs(Need("membership"))
@style.panels(1, 2, figsize=(7.0, 2.6))
def memorization(records: Records, left: Axes, right: Axes) -> None:
    """Memorization through training: the slope towards the memorizer, and the attack on members.

    Ours; no figure of the paper. Left the slope at each noise level, right the area under the attacker's ROC curve. A
    slope of 0 is that of networks which ignore the sample they saw, 1 that of networks which reproduce the posterior of
    their training set; an area of 0.5 is that of an attack which sees nothing. Calibrated: by the exact Bayes loss.
    """
    attack = records.read("membership")
    style.curves(left, records.read(ONSET), "slope", "noise", "t/T = {:g}".format)
    left.set_yscale("symlog", linthresh=1e-3)
    left.set_ylim(bottom=-2e-3)
    # Of networks that are told labels there is a third attack.
    colours = dict(zip(attack.attack.values, ("C1", "C0", "C2"), strict=False))
    style.curves(right, attack, "area", "attack", str, colours, marker=".")
    right.axhline(0.5, color="0.5", linewidth=0.8)
    for axes, label in ((left, "memorization slope"), (right, "area under the ROC curve")):
        style.over_training(axes, records.summary(), None, ylabel=label)
        style.legend_above([axes], ncols=3, above=1.0)
