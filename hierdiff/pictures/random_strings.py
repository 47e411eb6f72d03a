"""U-turns from random strings (arXiv 2603.03469, figure 11).

How much of a uniform random string, which the grammar does not produce, comes back: from the networks at three steps,
from the filtered posteriors BP_k, and from the memorizer, the posterior of the training set.
"""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import MIDDLE, ONSET, Need, Records

NEEDS = {Need(ONSET), Need("uturn")}


def draw(records: Records) -> Figure:
    """Left the networks, right what they are compared with."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 2.6), sharey=True)
    curves = records.curves(MIDDLE, "uturn")
    random = curves.sel(start="random")
    at = {name: random.sel(step=step, method="nearest") for name, step in records.read_at(MIDDLE).items()}
    colours = {"onset": style.SPLIT, "best": style.LOSS, "the end": "C2"}
    for name, each in at.items():
        label = f"networks, {name}, step {int(each.step):,}"
        style.curve(left, each, "overlap", label, along="turn", color=colours[name], marker=".")
    for k, shade in zip(curves.filtered.values, style.shades(curves.sizes["filtered"]), strict=True):
        label = f"k = {k}" + (" (exact)" if k == 0 else "")
        style.curve(right, curves.sel(filtered=k), "of_filtered", label, along="turn", color=shade, marker=".")
    style.curve(right, curves, "of_empirical", "memorizer", along="turn", color="C1", linestyle="--", marker=".")
    for axes in (left, right):
        axes.set(xlabel="turn t/T")
        axes.legend()
    left.set_ylabel("share of symbols that come back")
    return figure
