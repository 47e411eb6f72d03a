"""What it costs to stop late: rules that need no oracle, compared where each of them stops.

Ours; no figure of the paper. Means over grammars with 95% intervals, for each training-set size.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from hierdiff.pictures.records import STOPPING, Need, Records

NEEDS = {Need(STOPPING)}
COSTS = {
    "excess loss": "excess loss [nats / sequence]",
    "memorization slope": "memorization slope",
    "membership AUC": "membership AUC",
    "copies, height 2": "copies, own minus other",
}
RULES = {"smallest sample split": "C1", "smallest test loss": "C0", "fixed epochs": "C2"}


def draw(records: Records) -> Figure:
    """A panel for each cost."""
    figure, panels = plt.subplots(1, len(COSTS), figsize=(7.0, 2.6))
    table = [row for row in records.stopping()["table"] if row["rule"] in RULES]
    sizes = sorted({row["size"] for row in table})
    for axes, (cost, words) in zip(panels, COSTS.items(), strict=True):
        for i, (rule, colour) in enumerate(RULES.items()):
            rows = [row for row in table if row["rule"] == rule]
            means = np.array([row[cost]["mean"] for row in rows], float)
            halves = np.array([row[cost]["half_width"] for row in rows], float)
            x = [sizes.index(row["size"]) + 0.2 * (i - 1) for row in rows]
            axes.errorbar(x, means, halves, fmt="o", color=colour, capsize=2, label=rule)
        axes.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
        axes.set(xlabel="P  [sequences]", ylabel=words, xlim=(-0.5, len(sizes) - 0.5))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure
