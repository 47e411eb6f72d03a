"""Rules that say when to stop."""

import numpy as np
from matplotlib.axes import Axes

from hierdiff.pictures import style
from hierdiff.pictures.records import STOPPING, Need, Records, needs

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
