"""One style for every figure: two-column pages, print and colour-blind readers."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
}


def save(figure: Figure, path: Path, source: Path) -> None:
    """Write `figure`, with the run, command and commit that made its data below it and in the file's metadata."""
    made = record.read_json(source / "config.json")
    origin = f"run {source.name}; {made['command']}; commit {made['commit'] or 'unknown'}"
    figure.text(0.005, 0.005, origin, fontsize=4.5, color="0.4", va="bottom")
    key = "Description" if path.suffix == ".png" else "Subject"
    record.write_whole(path, lambda temporary: figure.savefig(temporary, metadata={key: origin}))


def shades(number: int) -> np.ndarray:
    """Ordered colours for levels of the tree, dark to light, all dark enough for white paper."""
    return mpl.colormaps["viridis"](np.linspace(0, 0.85, number))


def curve(axes: Axes, at: xr.Dataset, name: str, label: str | None, **line: Any) -> None:
    """One curve of a record against the training step, with a band of two standard errors."""
    mean, error = at[name], 2 * at[f"{name}_error"]
    axes.plot(at.step, mean, label=label, **line)
    axes.fill_between(at.step, mean - error, mean + error, color=line["color"], alpha=0.2, linewidth=0)
