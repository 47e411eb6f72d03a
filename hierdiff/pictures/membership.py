"""Memorization, and the attacks on members."""

import xarray as xr
from matplotlib.axes import Axes

from hierdiff.pictures import style
from hierdiff.pictures.records import ONSET, Need, Records, needs

# Of networks that are told labels there is a third attack on the loss.
LOSS = {"calibrated": "C1", "uncalibrated": "C0", "conditional": "C2"}
# Of attacks with references, those with the most.
PUBLISHED = {"reference": "C3", "LiRA": "C4", "SimA": "C5", "SecMI": "C6", "SAMA": "C7"}
AT_ANOTHER_LEVEL = {"SimA-0.3-reference": "C8", "SimA-0.3-exact": "C9"}


def most(attack: xr.Dataset, name: str) -> list[str]:
    """The attack of this name, or the one with the most references; none if it is not there."""
    ends = {each: each.removeprefix(name).removeprefix("-") for each in attack.attack.values.tolist()}
    there = [each for each, end in ends.items() if each.startswith(name) and (end.isdigit() or not end)]
    return sorted(there, key=lambda each: int(ends[each] or 0))[-1:]


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
    there = {name: colour for name, colour in LOSS.items() if name in attack.attack}
    style.curves(right, attack, "area", "attack", str, there, marker=".")
    right.axhline(0.5, color="0.5", linewidth=0.8)
    for axes, label in ((left, "memorization slope"), (right, "area under the ROC curve")):
        style.over_training(axes, records.summary(), None, ylabel=label)
        style.legend_above([axes], ncols=3, above=1.0)


@needs(Need("membership"))
@style.panels(1, 3, figsize=(7.0, 2.8))
def attacks(records: Records, left: Axes, *rates: Axes) -> None:
    """What attackers find who know more and less, through training.

    Ours; no figure of the paper. Left the area under the ROC curve, right of it the share of members found where one in
    a hundred, and one in a thousand, of others is taken for one. With one network: the bare loss (uncalibrated), SimA
    and SecMI; with networks on other data sets as references: reference, LiRA and SAMA; with the exact denoiser:
    calibrated, and what ends in exact. Grey lines: an attack that sees nothing.
    """
    attack = records.read("membership")
    there = attack.attack.values.tolist()
    colours = {name: colour for start, colour in {**LOSS, **PUBLISHED}.items() for name in most(attack, start)}
    colours |= {name: x for start, x in AT_ANOTHER_LEVEL.items() for name in there if name.startswith(start)}
    style.curves(left, attack, "area", "attack", str, colours, marker=".")
    left.axhline(0.5, color="0.5", linewidth=0.8)
    style.over_training(left, records.summary(), None, ylabel="area under the ROC curve")
    # Older records have one rate.
    if "false_positives" in attack.dims:
        for axes, share in zip(rates, attack.false_positives.values, strict=True):
            here = attack.sel(false_positives=share)
            # Of too few others there is none.
            if not here.true_positives.notnull().any():
                axes.set_visible(False)
                continue
            style.curves(axes, here, "true_positives", "attack", str, colours, marker=".")
            axes.axhline(share, color="0.5", linewidth=0.8)
            axes.set(yscale="log", ylim=(share / 3, None))
            style.over_training(axes, records.summary(), None, ylabel=f"true positives at {100 * share:g}% false ones")
    left.legend(loc="upper left", fontsize=5.5)
