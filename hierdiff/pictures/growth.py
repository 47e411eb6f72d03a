"""Onset and best against the training-set size: does the onset grow like P?

Ours; no figure of the paper. Points with 95% intervals are runs of one grammar, crosses those of the comparison of
stopping rules, one for each grammar. The line has slope one.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import MIDDLE, ONSET, SIZES, STOPPING, Need, Records

NEEDS = {*(Need(ONSET, size) for size in SIZES), Need(STOPPING)}
RULES = {"onset": (style.SPLIT, "smallest sample split"), "best": (style.LOSS, "smallest test loss")}


def draw(records: Records) -> Figure:
    """One panel, log against log."""
    figure, axes = plt.subplots(figsize=(3.4, 2.8))
    summaries = {records.scale.sizes[size]: records.summary(size) for size in SIZES}
    stops = records.stopping()["stops"]
    for name, (colour, rule) in RULES.items():
        reached = {size: summary[name] for size, summary in summaries.items() if summary[name]["reached"]}
        steps = np.array([each["step"] for each in reached.values()])
        ends = np.array(
            [[each["low"] or 1, each["high"] or summaries[size]["steps"]] for size, each in reached.items()]
        )
        if len(steps):
            bars = np.abs(ends.T - steps)
            axes.errorbar(list(reached), steps, bars, fmt="o-", color=colour, capsize=2, label=f"{name}, 95%")
        those = [stop for stop in stops if stop["rule"] == rule and stop["reached"]]
        axes.plot(
            [stop["size"] for stop in those],
            [stop["step"] for stop in those],
            "x",
            color=colour,
            label=f"{name}, other runs",
        )
    middle = summaries[records.scale.sizes[MIDDLE]]["onset"]
    if middle["reached"]:
        sizes = np.array(list(summaries))
        line = middle["step"] * sizes / records.scale.sizes[MIDDLE]
        axes.plot(sizes, line, color="0.5", linestyle=":", linewidth=0.8, label="proportional to P")
    axes.set(xscale="log", yscale="log", xlabel="training-set size P  [sequences]", ylabel="training step")
    style.ticks(axes, list(summaries))
    axes.legend()
    return figure
