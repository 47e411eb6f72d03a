"""Rules that say when to stop, and training-set sizes."""

import numpy as np
from matplotlib.axes import Axes

from hierdiff.pictures import style
from hierdiff.pictures.records import MIDDLE, ONSET, SIZES, STOPPING, Need, Records, needs

COSTS = {
    "excess loss": "excess loss [nats / sequence]",
    "memorization slope": "memorization slope",
    "membership AUC": "membership AUC",
    "copies, height 2": "copies, own minus other",
}
RULES = {"smallest sample split": style.SPLIT, "smallest test loss": style.LOSS, "fixed epochs": "C2"}


@needs(Need(STOPPING, STOPPING))
@style.panels(1, len(COSTS), figsize=(7.0, 2.6))
def stopping(records: Records, *panels: Axes) -> None:
    """What it costs to stop late: rules that need no oracle, compared where each of them stops.

    Ours; no figure of the paper. Means over grammars with 95% intervals, for each training-set size.
    """
    table = records.read(STOPPING, STOPPING)["rows"]
    sizes = sorted({row["size"] for row in table})
    for axes, (cost, words) in zip(panels, COSTS.items(), strict=True):
        for i, (rule, colour) in enumerate(RULES.items()):
            rows = [row for row in table if row["rule"] == rule]
            means, halves = (np.array([row[cost][name] for row in rows], float) for name in ("mean", "half_width"))
            x = [sizes.index(row["size"]) + 0.2 * (i - 1) for row in rows]
            axes.errorbar(x, means, halves, fmt="o", color=colour, capsize=2, label=rule)
        axes.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
        axes.set(xlabel="P  [sequences]", ylabel=words, xlim=(-0.5, len(sizes) - 0.5))
    panels[0].figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(RULES))


@needs(*(Need(ONSET, size) for size in SIZES), Need(STOPPING, STOPPING))
@style.panels(figsize=(3.4, 2.8))
def growth(records: Records, axes: Axes) -> None:
    """Turning point and best against the training-set size: does the turning point grow like P?

    Ours; no figure of the paper. Points with 95% intervals, where these are known, are runs of one grammar, crosses
    those of the comparison of stopping rules, one for each grammar. The line has slope one.
    """
    summaries = {size: records.summary(name) for name, size in records.sizes.items()}
    for name, (rule, colour) in zip(style.MINIMA, RULES.items(), strict=False):
        key, _ = style.LANDMARKS[name]
        found = {size: summary[key] for size, summary in summaries.items() if style.located(summary, name)}
        steps = [each["step"] if style.resolved(each) else np.nan for each in found.values()]
        if found:
            axes.plot(list(found), steps, "o-", color=colour, label=f"{name}, 95%")
        for size, each in found.items():
            if each["reached"]:
                axes.vlines(size, *style.ends(each, 1.0, float(summaries[size]["steps"])), color=colour)
        those = [stop for stop in records.read(STOPPING, STOPPING)["stops"] if stop["rule"] == rule and stop["reached"]]
        x, y = ([stop[name] for stop in those] for name in ("size", "step"))
        axes.plot(x, y, "x", color=colour, label=f"{name}, other runs")
    if style.located(records.summary(), "turning point"):
        line = records.summary()["onset"]["step"] * np.array(list(summaries)) / records.sizes[MIDDLE]
        axes.plot(list(summaries), line, color="0.5", linestyle=":", linewidth=0.8, label="proportional to P")
    axes.set(xscale="log", yscale="log", xlabel="training-set size P  [sequences]", ylabel="training step")
    style.ticks(axes, list(summaries))
    axes.legend()
