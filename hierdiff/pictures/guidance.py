"""Guidance at every weight, beside what it makes of the exact model."""

import numpy as np
from matplotlib.axes import Axes

from hierdiff.pictures import style
from hierdiff.pictures.records import GUIDANCE, LABELS, Need, Records, needs

PARTS = {"data_dependent": ("depends on the data", style.SPLIT), "common": ("common to all", style.LOSS)}
SAMPLES = {
    "more_copies": "copies of height 2,\nown minus other",
    "nearer": "nearer to the\nown set [symbols]",
    "beyond_agreement": "agreement with\nlabel, beyond\nexact guidance",
    "beyond_diversity": "diversity\n[symbols], beyond\nexact guidance",
}


@needs(Need(GUIDANCE, LABELS))
@style.panels(1, 3, figsize=(7.0, 2.8))
def guidance(records: Records, steps: Axes, parts: Axes, growth: Axes) -> None:
    """Does guidance move the turning point, and what does it amplify?

    Ours; no figure of the paper. The error of guided networks against the exact posteriors guided alike. Left: the
    steps at which the part that depends on the data and the whole are smallest, by weight. In the middle both parts at
    the last step, on the right how many times those at weight 0 they are. Bars and bands are 95% intervals.
    """
    curves, found = records.read(GUIDANCE, LABELS), records.summary(LABELS)[GUIDANCE]["weights"]
    weights, first, end = [row["weight"] for row in found], float(curves.step[0]), float(curves.step[-1])
    for key, words, colour, shift in (
        ("onset", "turning point", style.SPLIT, -0.04),
        ("best", "best", style.LOSS, 0.04),
    ):
        rows = [(row["weight"], row[key]) for row in found if row[key]["step"] is not None]
        if rows:
            steps.plot([w + shift for w, _ in rows], [each["step"] for _, each in rows], "o", color=colour, label=words)
        for weight, each in rows:
            if each["reached"]:
                steps.vlines(weight + shift, *style.ends(each, first, end), color=colour)
    steps.set(xlabel="weight of guidance", ylabel="training step", yscale="log")
    last = curves.isel(step=-1, noise=0)
    for name, (words, colour) in PARTS.items():
        for axes, curve in ((parts, f"total_{name}"), (growth, f"times_{name}")):
            style.curve(axes, last, curve, words, along="weight", color=colour, marker="o")
    parts.set(xlabel="weight of guidance", ylabel="squared units / sequence", yscale="log")
    growth.set(xlabel="weight of guidance", ylabel="times that at weight 0", yscale="log")
    for axes in (steps, parts, growth):
        axes.set_xticks(weights)
        if axes.lines:
            axes.legend()


@needs(Need(GUIDANCE, LABELS))
@style.panels(1, len(SAMPLES), figsize=(7.0, 3.4), sharey=True)
def guided_samples(records: Records, *panels: Axes) -> None:
    """What guided samples give away, and what they lose.

    Ours; no figure of the paper. Samples of the last snapshot, guided at each weight all the way or in a part of it; of
    the exact model, guided alike, copies and distances are zero on average. Bars are 95% intervals.
    """
    last = records.read(GUIDANCE, LABELS).isel(step=-1)
    names = [str(way) for way in last.way.values]
    for axes, (name, words) in zip(panels, SAMPLES.items(), strict=True):
        at = last.sel(block=min(2, int(last.block[-1])))
        axes.errorbar(at[name], np.arange(len(names)), xerr=at[f"{name}_half"], fmt="o", color="C0", capsize=2)
        axes.axvline(0, color="0.5", linewidth=0.8)
        axes.set(xlabel=words)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
