"""Which training sequences make what a network shows."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from hierdiff.pictures import style
from hierdiff.pictures.records import ATTRIBUTION, Need, Records, needs

KINDS = {"loss of a sequence": "losses of sequences", "data-dependent part": "data-dependent part"}
TURNING = "turning point"
# Pairs are looked at there, at the end, and at so many times fewer steps than there.
BEFORE = 4


@needs(Need(ATTRIBUTION, ATTRIBUTION))
@style.panels(2, 2, figsize=(7.0, 4.8))
def attribution(records: Records, *panels: Axes) -> None:
    """Methods of data attribution, judged by retrained networks, and what makes a training sequence count.

    Ours; no figure of the paper. Linear datamodelling scores through training with 95% intervals: of the losses of
    held-out sequences, with the largest and the smallest share left out, and of the data-dependent part. Last, by how
    much a training sequence lowers the loss of a target, above the mean, over the height of the largest block that
    both have at the same place: by the metagradient (curves) and by retrained networks (points), long before the
    turning point, there, and at the end.
    """
    found = records.read(ATTRIBUTION, ATTRIBUTION)
    shares = sorted({row["share"] for row in found["scores"]})
    losses, parts = KINDS
    for axes, share, kind in zip(panels, (shares[-1], shares[0], shares[-1]), (losses, losses, parts), strict=False):
        rows = [row for row in found["scores"] if (row["share"], row["kind"]) == (share, kind)]
        for i, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
            bars(axes, "step", (row for row in rows if row["method"] == method), 1.96, color=f"C{i}", label=method)
        axes.axhline(0, color="0.5", linewidth=0.8)
        if TURNING in found["read_at"]:
            axes.axvline(found["read_at"][TURNING], color=style.SPLIT, linewidth=0.8, linestyle=":")
        axes.set(xscale="log", xlabel="training step", ylabel="datamodelling score")
        axes.set_title(f"{KINDS[kind]}, {share:.0%} left out")
    panels[0].figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    by_block(panels[3], found)


def bars(
    axes: Axes, along: str, rows: Iterable[dict[str, Any]], errors: float, scale: float = 1.0, **line: Any
) -> None:
    """Values of some rows, with so many standard errors to each side."""
    x, y, error = np.array([[row[along], row["value"], row["error"]] for row in rows], float).T
    axes.errorbar(x, scale * y, scale * errors * error, **{"fmt": ".-", "linewidth": 1.0, "elinewidth": 0.5, **line})


def by_block(axes: Axes, found: dict[str, Any]) -> None:
    """What lowers a loss, over the largest block that is shared."""
    steps, read_at = np.unique([row["step"] for row in found["shared"]]), found["read_at"]
    middle = read_at.get(TURNING, read_at["end"])
    before = steps[np.argmin(np.abs(np.log(steps * BEFORE / middle)))]
    for step, colour in {before: "0.6", middle: style.SPLIT, read_at["end"]: style.LOSS}.items():
        for method, form in (("metagradient", "-"), ("retrained", ".")):
            rows = [row for row in found["shared"] if (row["step"], row["method"]) == (step, method)]
            label = f"step {step:,}" if form == "-" else None
            bars(axes, "height", rows, 1.96, 1e3, color=colour, fmt=form, label=label)
    heights = sorted({row["height"] for row in found["shared"]})
    axes.set_xticks(heights, ["none" if height < 0 else str(height) for height in heights])
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set(xlabel="height of the largest shared block", ylabel="lowers the loss by  [0.001 nats]")
    axes.legend()
