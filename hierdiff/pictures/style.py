"""One style for every figure: two-column pages, print and colour-blind readers."""

import contextlib
import functools
import io
import os
import textwrap
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogFormatter, LogFormatterSciNotation, NullFormatter

from hierdiff.runs import record

STYLE = [
    "petroff10",
    {
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
        # Names and commands have signs that mathematics has.
        "text.parse_math": False,
    },
]
# Of the sample split, the memorization slope and the test loss, in every figure.
SPLIT, SLOPE, LOSS = "C1", "C2", "C0"
# Of each landmark, its name in a summary and its colour.
LANDMARKS = {"turning point": ("onset", SPLIT), "memorization": ("memorization", SLOPE), "best": ("best", LOSS)}
# Those at which networks are looked at.
MINIMA = ("turning point", "best")


def save(draw: Callable[[], Figure], paths: Sequence[Path], origins: Sequence[str]) -> None:
    """Draw and write a figure, with the `origins` of what it shows below it and in the files' metadata."""
    with drawing():
        figure = draw()
        FigureCanvasAgg(figure)
        # Of long commands, all is in the metadata.
        wrapper = textwrap.TextWrapper(int(26 * figure.get_figwidth()), subsequent_indent="    ", max_lines=5)
        lines = [line for origin in origins for line in wrapper.wrap(origin)]
        below = (len(lines) + 0.5) * 5.5 / 72 / figure.get_figheight()
        figure.text(0.005, 0.005, "\n".join(lines), fontsize=4.5, color="0.4", va="bottom")
        lay_out(figure, below)
        for path in paths:
            record.write_whole(path, lambda temporary: _write(figure, temporary, "; ".join(origins)))


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """In this style, whatever the user's own is; letters that the font has not are drawn as boxes."""
    with matplotlib.style.context(STYLE, after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def lay_out(figure: Figure, below: float = 0.0) -> None:
    """Make plain numbers, and room for all that is drawn, above what is to stay free."""
    for axes in figure.axes:
        plain_numbers(axes)
    ConstrainedLayoutEngine(rect=(0, below, 1, 1 - below)).execute(figure)
    figure.set_layout_engine("none")


def as_svg(draw: Callable[[], Figure]) -> tuple[Figure, bytes]:
    """Draw a figure, and give it as SVG without a background."""
    with drawing(), mpl.rc_context({"figure.facecolor": "none", "axes.facecolor": "none", "svg.hashsalt": "hierdiff"}):
        figure, content = draw(), io.BytesIO()
        lay_out(figure)
        FigureCanvasSVG(figure).print_svg(content, metadata={"Date": None})
    return figure, content.getvalue()


def panels(rows: int = 1, columns: int = 1, **options: Any) -> Callable[[Callable[..., None]], Callable[..., Figure]]:
    """Makes a figure of a function that fills its panels, row by row its last arguments."""

    def figure_of(fill: Callable[..., None]) -> Callable[..., Figure]:
        @functools.wraps(fill)
        def draw(*given: Any) -> Figure:
            figure, axes = subplots(rows, columns, **options)
            fill(*given, *np.ravel(axes))
            return figure

        return draw

    return figure_of


def subplots(rows: int, columns: int, *, figsize: tuple[int | float, ...], **options: Any) -> tuple[Figure, Any]:
    """A figure and its panels, as pyplot has them, which would ask for the user's backend."""
    figure = Figure(figsize=(figsize[0], figsize[1]))
    return figure, figure.subplots(rows, columns, **options)


def _write(figure: Figure, path: Path, words: str) -> None:
    """Write one file; `savefig` would draw and lay out everything once more for each."""
    figure.set_dpi(mpl.rcParams["figure.dpi"])  # print_pdf leaves another.
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


def origin(path: Path, content: xr.Dataset | Mapping[str, Any]) -> str:
    """The record, from the folder in which this program was started, and the command and the commit that made it."""
    made = content.attrs if isinstance(content, xr.Dataset) else content
    whole, here = Path(os.path.abspath(path)), Path.cwd()  # noqa: PTH100 - a link keeps its name
    # Of one that lies elsewhere the run alone is named, and no folder of this machine.
    name = whole.relative_to(here) if whole.is_relative_to(here) else Path(*whole.parts[-2:])
    words = f"{name}: {made['command']}; commit {made['commit'] or 'unknown'}"
    # The name of a folder need not be text.
    return words.encode(errors="backslashreplace").decode()


def shades(number: int) -> np.ndarray:
    """Ordered colours for levels of the tree, dark to light, all dark enough for white paper."""
    return mpl.colormaps["viridis"](np.linspace(0, 0.85, number))


def curve(axes: Axes, at: xr.Dataset, name: str, label: str | None, *, along: str = "step", **line: Any) -> None:
    """One curve of a record with a band of its 95% intervals."""
    mean, half = at[name], at[f"{name}_half"]
    axes.plot(at[along], mean, label=label, **line)
    axes.fill_between(at[along], mean - half, mean + half, color=line["color"], alpha=0.2, linewidth=0)


def curves(
    axes: Axes,
    at: xr.Dataset,
    name: str,
    over: str,
    label: Callable[[Any], str],
    colours: Mapping[Any, Any] | None = None,
    *,
    dashed: str | None = None,
    **line: Any,
) -> None:
    """A curve for each value along the dimension `over`, in its own of `colours` or from dark to light.

    With each comes another of the variable `dashed`, if that is given.
    """
    shaded = zip(at[over].values.tolist(), shades(at.sizes[over]), strict=True)
    for value, colour in colours.items() if colours else shaded:
        curve(axes, at.sel({over: value}), name, label(value), color=colour, **line)
        if dashed:
            curve(axes, at.sel({over: value}), dashed, None, color=colour, linestyle="--")


def legend_above(panels: Sequence[Axes], ncols: int, above: float = 1.12) -> None:
    """One legend above the first of some panels, where the curves leave no room, in place of one in each."""
    for axes in panels:
        if legend := axes.get_legend():
            legend.remove()
    handles, labels = max((axes.get_legend_handles_labels() for axes in panels), key=lambda named: len(named[0]))
    if handles:
        panels[0].legend(
            handles,
            labels,
            loc="lower center",
            bbox_to_anchor=(0.5, above),
            ncols=ncols,
            columnspacing=1.0,
            handlelength=1.2,
        )


def ticks(axes: Axes, values: Sequence[int] | Sequence[float]) -> None:
    axes.set_xticks(values, [f"{x:,g}" for x in values])
    axes.xaxis.set_minor_formatter(NullFormatter())


def landmarks(summary: Mapping[str, Any]) -> list[tuple[str, dict[str, Any], str]]:
    """The names of the landmarks of a run that are located, with what is known of them, and their colours.

    Older records have no onset of memorization.
    """
    there = [(name, summary.get(key), colour) for name, (key, colour) in LANDMARKS.items()]
    return [(name, found, colour) for name, found, colour in there if found and found["step"] is not None]


def located(summary: Mapping[str, Any], name: str) -> bool:
    return summary[LANDMARKS[name][0]]["step"] is not None


def resolved(found: Mapping[str, Any]) -> bool:
    """Whether checkpoints are near enough to resolve a landmark; those of older records count as resolved."""
    return found.get("resolved", True)


def dot(axes: Axes, found: Mapping[str, Any], colour: Any) -> None:
    """The bottom of a minimum that is located and resolved."""
    if found["step"] is not None and resolved(found):
        axes.plot(found["step"], found["value"], "o", color=colour)


def ends(found: Mapping[str, Any], first: float, last: float) -> tuple[float, float]:
    """The interval of a landmark that is reached, where it is open up to the `first` or the `last` step."""
    return found["low"] or first, found["high"] or last


def mark(axes: Axes, summary: Mapping[str, Any], bands: Collection[str] = ()) -> None:
    """Lines at the landmarks of a run with their names, and `bands` for the intervals of some, behind drawn curves.

    One that the checkpoints do not resolve is a band alone. Of names that would overlap, the next stands higher.
    """
    first, last = axes.dataLim.intervalx
    room, place, before = (last / first) ** 0.07, 0, 0.0
    for name, found, colour in sorted(landmarks(summary), key=lambda each: each[1]["step"]):
        step = found["step"]
        if found["reached"] and (name in bands or not resolved(found)):
            axes.axvspan(*ends(found, first, last), color=colour, alpha=0.15, linewidth=0)
        if resolved(found):
            axes.axvline(step, color=colour, linewidth=0.8, linestyle=":")
        place, before = place + 1 if step < room * before else 0, step
        axes.annotate(
            name,
            (step, 0.01 + 0.33 * place),
            (-1.5, 0),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            color=colour,
            fontsize=6,
            rotation=90,
            ha="right",
            va="bottom",
            zorder=1.5,
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
        )


def over_training(axes: Axes, summary: Mapping[str, Any], legend: Any = "best", **properties: Any) -> None:
    """A logarithmic axis of training steps, with the landmarks of a run marked, and a legend."""
    mark(axes, summary)
    axes.set(xscale="log", xlabel="training step", **properties)
    if legend:
        axes.legend(loc=legend)
