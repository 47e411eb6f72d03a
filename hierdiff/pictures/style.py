"""One style for every figure: two-column pages, print and colour-blind readers."""

import contextlib
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogFormatter, LogFormatterSciNotation, NullFormatter

from hierdiff.runs import record

STYLE = {
    "figure.dpi": 200,
    "figure.constrained_layout.use": True,
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
    "mathtext.default": "regular",
}
# Of the sample split and of the test loss, in every figure.
SPLIT, LOSS = "C1", "C0"


def in_style() -> contextlib.AbstractContextManager[None]:
    """The style, while a figure is drawn and written."""
    return plt.style.context(["petroff10", STYLE])


def save(figure: Figure, paths: Sequence[Path], origins: Sequence[str]) -> None:
    """Write `figure`, with the `origins` of what it shows below it and in the files' metadata."""
    characters = int(26 * figure.get_figwidth())
    lines = [line for origin in origins for line in textwrap.wrap(origin, characters, subsequent_indent="    ")]
    below = (len(lines) + 0.5) * 5.5 / 72 / figure.get_figheight()
    for axes in figure.axes:
        plain_numbers(axes)
    layout = cast(ConstrainedLayoutEngine, figure.get_layout_engine())
    layout.set(rect=(0, below, 1, 1 - below))
    figure.text(0.005, 0.005, "\n".join(lines), fontsize=4.5, color="0.4", va="bottom")
    layout.execute(figure)
    figure.set_layout_engine("none")
    for path in paths:
        record.write_whole(path, lambda temporary: _write(figure, temporary, "; ".join(origins)))


def _write(figure: Figure, path: Path, words: str) -> None:
    """Write one file; `savefig` would draw and lay out everything once more for each."""
    figure.set_dpi(STYLE["figure.dpi"])  # print_pdf leaves another.
    if path.suffix == ".png":
        FigureCanvasAgg(figure).print_png(path, metadata={"Description": words})
    else:
        FigureCanvasPdf(figure).print_pdf(path, metadata={"Subject": words, "CreationDate": None})


class PlainNumbers(LogFormatter):
    """Those numbers that matplotlib names at a logarithmic axis, as 0.2 and not as a product with a power of ten."""

    def __call__(self, x, pos=None):
        return f"{x:,.10g}" if super().__call__(x, pos) else ""


def plain_numbers(axes: Axes) -> None:
    """Plain numbers at the logarithmic axes whose ticks are matplotlib's own choice."""
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_formatter(), LogFormatterSciNotation):
            axis.set_major_formatter(PlainNumbers())
        if isinstance(axis.get_minor_formatter(), LogFormatterSciNotation):
            axis.set_minor_formatter(PlainNumbers())


def origin(path: Path, made: Mapping[str, Any]) -> str:
    """The run, the command and the commit that made a record; `made` are its attributes."""
    return f"{path.parent.name}/{path.name}: {made['command']}; commit {made['commit'] or 'unknown'}"


def shades(number: int) -> np.ndarray:
    """Ordered colours for levels of the tree, dark to light, all dark enough for white paper."""
    return mpl.colormaps["viridis"](np.linspace(0, 0.85, number))


def curve(axes: Axes, at: xr.Dataset, name: str, label: str | None, *, along: str = "step", **line: Any) -> None:
    """One curve of a record with a band of its 95% intervals."""
    mean, half = at[name], at[f"{name}_half"]
    axes.plot(at[along], mean, label=label, **line)
    axes.fill_between(at[along], mean - half, mean + half, color=line["color"], alpha=0.2, linewidth=0)


def legend_above(axes: Axes, ncols: int, *, above: float = 1.0, **entries: Any) -> None:
    """A legend above a panel, where the curves leave no room."""
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, above)}
    axes.legend(**place, ncols=ncols, columnspacing=1.0, handlelength=1.2, **entries)


def legends_above(rows: np.ndarray, ncols: int) -> None:
    """One legend for each column of panels, above its title, in place of one in every panel."""
    for column in rows.T:
        for axes in column:
            if axes.get_legend():
                axes.get_legend().remove()
        named = [axes for axes in column if axes.get_legend_handles_labels()[0]]
        if named:
            handles, labels = named[0].get_legend_handles_labels()
            legend_above(column[0], ncols, above=1.12, handles=handles, labels=labels)


def ticks(axes: Axes, values: Sequence[int] | Sequence[float]) -> None:
    """Name just these values on a logarithmic horizontal axis."""
    axes.set_xticks(values, [f"{x:,g}" for x in values])
    axes.xaxis.set_minor_formatter(NullFormatter())


def mark_steps(axes: Axes, summary: dict[str, Any]) -> None:
    """Lines at the steps of onset and best, where they are reached."""
    for name, colour in (("onset", SPLIT), ("best", LOSS)):
        if summary[name]["reached"]:
            step = summary[name]["step"]
            axes.axvline(step, color=colour, linewidth=0.8, linestyle=":")
            place = {"xy": (step, 0.01), "xycoords": ("data", "axes fraction")}
            axes.annotate(name, **place, color=colour, fontsize=6, rotation=90, ha="right", va="bottom")
