"""One style for every figure: two-column pages, print and colour-blind readers."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hierdiff import record

STYLE = {
    "figure.dpi": 200,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.3,
    "lines.markersize": 3,
    "image.cmap": "cividis",
    "pdf.fonttype": 42,
}
# Of the sample split and of the test loss, in every figure.
SPLIT, LOSS = "C1", "C0"


def in_style() -> contextlib.AbstractContextManager[None]:
    """The style, while a figure is drawn and written."""
    return plt.style.context(["petroff10", STYLE])


def save(figure: Figure, paths: Sequence[Path], sources: Sequence[Path]) -> None:
    """Write `figure`, with the commands and commits that made the records `sources` below it and in the metadata."""
    lines = [_origin(source) for source in sources]
    below = (len(lines) + 0.5) * 5.5 / 72 / figure.get_figheight()
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, below, 1, 1 - below)))
    figure.text(0.005, 0.005, "\n".join(lines), fontsize=4.5, color="0.4", va="bottom")
    for path in paths:
        origin = "; ".join(lines)
        metadata = {"Description": origin} if path.suffix == ".png" else {"Subject": origin, "CreationDate": None}
        record.write_whole(path, lambda temporary, made=metadata: figure.savefig(temporary, metadata=made))
        # It is laid out once.
        figure.set_layout_engine("none")


def _origin(source: Path) -> str:
    made = record.read_json(source) if source.suffix == ".json" else record.read_results(source).attrs
    return f"{source.parent.name}/{source.name}: {made['command']}; commit {made['commit'] or 'unknown'}"


def shades(number: int) -> np.ndarray:
    """Ordered colours for levels of the tree, dark to light, all dark enough for white paper."""
    return mpl.colormaps["viridis"](np.linspace(0, 0.85, number))


def curve(axes: Axes, at: xr.Dataset, name: str, label: str | None, *, along: str = "step", **line: Any) -> None:
    """One curve of a record with a band of its 95% intervals."""
    mean, half = at[name], at[f"{name}_half"]
    axes.plot(at[along], mean, label=label, **line)
    axes.fill_between(at[along], mean - half, mean + half, color=line["color"], alpha=0.2, linewidth=0)


def mark_steps(axes: Axes, summary: dict[str, Any]) -> None:
    """Lines at the steps of onset and best, where they are reached."""
    for name, colour in (("onset", SPLIT), ("best", LOSS)):
        if summary[name]["reached"]:
            step = summary[name]["step"]
            axes.axvline(step, color=colour, linewidth=0.8, linestyle=":")
            place = {"xy": (step, 0.01), "xycoords": ("data", "axes fraction")}
            axes.annotate(name, **place, color=colour, fontsize=6, rotation=90, ha="right", va="bottom")
