"""What a figure shows, in words: for readers who do not see it."""

from collections.abc import Iterator
from typing import SupportsFloat

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from hierdiff.pictures.style import LANDMARKS


def in_words(figure: Figure) -> str:
    """Panel by panel what is drawn over what, where each curve begins and ends, and its extremes."""
    panels = [words for axes in figure.axes if (words := panel(axes))]
    numbered = [f"Panel {i} of {len(panels)}: {words}" for i, words in enumerate(panels, 1)]
    return " ".join(f"{words}." for words in (numbered if len(panels) > 1 else panels))


def panel(axes: Axes) -> str:
    """Nothing of one that holds no curve and no map."""
    said = [*curves(axes), *maps(axes)]
    over = f"over {axes.get_xlabel()}" if axes.get_xlabel() else ""
    what = " ".join(filter(None, (axes.get_title() or axes.get_ylabel(), over)))
    named = [text for text in axes.texts if isinstance(text, Annotation) and text.get_text() in LANDMARKS]
    marked = [f"{text.get_text()} {number(text.xy[0])}" for text in named]
    marks = [f"marked: {', '.join(marked)}"] if said and marked else []
    return " ".join(f"{what}: {'; '.join(said + marks)}".replace("$", "").split()) if said else ""


def curves(axes: Axes) -> Iterator[str]:
    bars = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    named = {id(each.lines[0]): each.get_label() for each in bars}
    before = axes.get_ylabel()
    for line in axes.get_lines():
        label = str(named.get(id(line), line.get_label()))
        x, y = (np.asarray(values, float) for values in (line.get_xdata(), line.get_ydata()))
        known = np.isfinite(x) & np.isfinite(y)
        # What has no name and few points is a line at a landmark or at zero.
        if known.any() and (not label.startswith("_") or known.sum() > 2) and not across(line):
            # One without a name belongs to the one before it.
            before = before if label.startswith("_") else label
            dashed = " (dashed)" if label.startswith("_") and line.get_linestyle() == "--" else ""
            yield f"{before}{dashed} {course(x[known], y[known])}"


def across(line: Line2D) -> bool:
    """Whether it is a line across the panel, whose name says where it lies."""
    return line.get_transform() != line.axes.transData if line.axes else False


def course(x: np.ndarray, y: np.ndarray) -> str:
    if len(x) == 1:
        return f"{number(y[0])} at {number(x[0])}"
    ends = f"from {number(y[0])} at {number(x[0])} to {number(y[-1])} at {number(x[-1])}"
    extremes = (("smallest", int(y.argmin())), ("largest", int(y.argmax())))
    return ", ".join(
        [ends, *(f"{name} {number(y[i])} at {number(x[i])}" for name, i in extremes if 0 < i < len(x) - 1)]
    )


def maps(axes: Axes) -> Iterator[str]:
    for image in axes.get_images():
        values, ticks = (
            np.ma.masked_invalid(np.ma.asarray(image.get_array())),
            (axes.get_yticklabels(), axes.get_xticklabels()),
        )
        if values.shape != tuple(map(len, ticks)):
            yield "pictures"
        elif values.count():
            least, most = (np.unravel_index(x, values.shape) for x in (values.argmin(), values.argmax()))
            rows, columns = ([label.get_text() for label in labels] for labels in ticks)
            yield ", ".join(
                f"{name} {number(values[at])} at height {rows[at[0]]} and t/T {columns[at[1]]}"
                for name, at in (("smallest", least), ("largest", most))
            )


def number(x: SupportsFloat) -> str:
    x = float(x)
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"
