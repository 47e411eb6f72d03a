"""Which sequences are memorized first."""

import xarray as xr
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import Need, Records, needs


@needs(Need("first"))
def first(records: Records) -> Figure:
    """Rank correlations of memorization with how typical a sequence is, through training.

    Ours; no figure of a paper. Left with its exact log-probability and with its distance to the nearest other member of
    its set, then, for each height, with how often its blocks stand in the set, and with the weights of its rules. Above
    0 those that have more of it are memorized more. Of sets that hold some sequences several times, a last panel shows
    the nats by which networks know them better than other networks do, by how often they are there.
    """
    curves, summary = records.read("first"), records.summary()
    several = "by_copies" in curves
    figure, panels = style.subplots(1, 3 + several, figsize=(7.0 + 2.3 * several, 2.6))
    for name, words, colour in (("probability", "log-probability", "C0"), ("distance", "nearest other member", "C1")):
        style.curve(panels[0], curves, name, words, color=colour, marker=".")
    for axes, name in zip(panels[1:3], ("frequency", "weights"), strict=True):
        style.curves(axes, of_heights(curves, name), name, "height", "height {}".format, marker=".")
    titles = ("of the sequence", "frequency of its blocks", "weights of its rules")
    for axes, title in zip(panels[:3], titles, strict=True):
        axes.axhline(0, color="0.5", linewidth=0.8)
        style.over_training(axes, summary, None, title=title)
        style.legend_above([axes], ncols=2)
    panels[0].set_ylabel("rank correlation of memorization")
    if several:
        style.curves(panels[3], curves, "by_copies", "copies", "{} times".format, marker=".")
        style.over_training(panels[3], summary, None, ylabel="memorization  [nats / sequence]")
        style.legend_above([panels[3]], ncols=2, above=1.0)
    return figure


def of_heights(curves: xr.Dataset, name: str) -> xr.Dataset:
    """Without the heights of which all sequences have alike."""
    return curves[[name, f"{name}_half"]].dropna("height", how="all", subset=[name])
