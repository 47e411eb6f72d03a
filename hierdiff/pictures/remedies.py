"""Remedies against memorization."""

import itertools

import numpy as np
from matplotlib.axes import Axes

from hierdiff.pictures import style
from hierdiff.pictures.records import REMEDIES, Need, Records, needs

EXCESS = "excess loss"
GIVEN = {
    "membership AUC": "membership AUC",
    "memorization slope": "memorization slope",
    "copies, height 2": "copies, own minus other",
}
MARKERS = "o^sDvP"


@needs(Need(REMEDIES, REMEDIES))
@style.panels(2, len(GIVEN), figsize=(7.0, 6.0), height_ratios=(1.2, 1))
def remedies(records: Records, *panels: Axes) -> None:
    """What is given away against exact excess loss, along the training with each remedy: the lower left is best.

    Ours; no figure of the paper. Means over grammars, of remedies that come so far; markers, where stopping rules stop
    the plain run. Below, how much less (or more) each remedy gives away than the plain run where their excess loss
    first falls to the same level, if it does, with 95% intervals of the differences, paired by grammar.
    """
    found = records.read(REMEDIES, REMEDIES)
    above, below = panels[: len(GIVEN)], panels[len(GIVEN) :]
    beside = [row for row in found["rows"] if row["differences"] and row["reached"] > 1]
    names = list(dict.fromkeys(row["remedy"] for row in beside))
    levels = sorted({row["excess"] for row in found["rows"]}, reverse=True)
    looks = [
        ("k", "-", 1.8),
        *((colour, line, 1.0) for line, colour in itertools.product(("-", "--"), [f"C{i}" for i in range(8)])),
    ]
    lowest = min(min(curve[EXCESS]) for curve in found["curves"])
    seen = [curve for curve in found["curves"] if min(curve[EXCESS]) < 1.5 * levels[0]]
    for curve, (colour, line, width) in zip(seen, itertools.cycle(looks), strict=False):
        for axes, cost in zip(above, GIVEN, strict=True):
            x, y = (np.array(curve[key], float) for key in (EXCESS, cost))
            axes.plot(x, y, color=colour, ls=line, lw=width, label=curve["remedy"])
    for row, marker in zip(found["stops"], itertools.cycle(MARKERS), strict=False):
        for axes, cost in zip(above, GIVEN, strict=True):
            x, y = (np.array([row[key]["mean"]], float) for key in (EXCESS, cost))
            axes.plot(x, y, marker, mfc="w", mec="k", ms=4, label=row["rule"], zorder=4)
    for (number, level), (axes, cost) in itertools.product(enumerate(levels), zip(below, GIVEN, strict=True)):
        rows = [row for row in beside if row["excess"] == level]
        means, halves = (
            np.array([row["differences"][cost][key] for row in rows], float) for key in ("mean", "half_width")
        )
        places = [names.index(row["remedy"]) + 0.2 * (number - 1) for row in rows]
        axes.errorbar(means, places, xerr=halves, fmt="o", color=f"C{number}", label=f"at {level:g} nats", capsize=1.5)
    for (axes, under), words in zip(zip(above, below, strict=True), GIVEN.values(), strict=True):
        axes.set(xlabel="excess loss  [nats]", ylabel=words, xlim=(0.8 * lowest, 1.5 * levels[0]))
        under.axvline(0, color="0.7", lw=0.8, zorder=0)
        under.set(xlabel=f"{words.split(',')[0]}, minus plain", yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
        under.set_yticklabels(names if under is below[0] else [])
    figure = above[0].figure
    figure.legend(*above[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.legend(*below[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
