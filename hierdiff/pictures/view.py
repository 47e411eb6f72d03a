"""A view of curves that can be moved: a quantity is chosen, a place and a step; Bokeh, in the page, draws it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from bokeh.document import Document
from bokeh.embed import components
from bokeh.layouts import column
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    FactorRange,
    HoverTool,
    Label,
    Legend,
    LegendItem,
    LinearColorMapper,
    LogColorMapper,
    Node,
    NumeralTickFormatter,
    Select,
    Slider,
    Span,
)
from bokeh.palettes import Cividis256
from bokeh.plotting import figure
from bokeh.resources import Resources
from matplotlib.colors import to_hex

from hierdiff.pictures import style

DRAWS = Path(__file__).with_name("view.js")
# Curves in one panel, whose names have room below it.
MOST = 12
NAMES = {"noise": "noise level t/T", "turn": "turn t/T", "filtered": "k", "reverse_steps": "reverse steps"}
# What `view.js` fills, with its columns.
SOURCES = {
    "lines": ("xs", "ys", "colour"),
    "ribbons": ("xs", "ys", "colour"),
    "dots": ("x", "y", "label", "colour", "words"),
    "squares": ("x", "y", "value", "words"),
}


def of_parts(
    parts: Mapping[str, tuple[xr.Dataset, Mapping[str, Any], str]], room: int
) -> tuple[list[str], dict[str, str]]:
    """The scripts of all views, Bokeh before all, and the place of each view in the page, by the name of its part.

    Of each part the curves are given, the summary of the run, whose landmarks are marked, and the quantity that is
    shown first. All numbers take about `room` bytes: where there are too many checkpoints, some are left out.
    """
    document, views = Document(), {}
    for name, (curves, summary, first) in parts.items():
        steps, quantities = numbers(curves, room // len(parts))
        if quantities:
            views[name], show = view(name, steps, quantities, summary, first)
            document.add_root(views[name])
            document.js_on_event("document_ready", show)
    if not views:
        return [], {}
    script, places = components(views, wrap_script=False)
    # Its other components are not used, such as that for mathematics.
    bokeh = Resources(mode="inline", components=["bokeh", "bokeh-widgets"])
    return [*bokeh.js_raw, script], places


def numbers(curves: xr.Dataset, room: int) -> tuple[list[int], dict[str, Any]]:
    """The steps, and of each quantity over them, by its name, what `view.js` needs."""
    there = {
        str(name): x.transpose("step", *beside_the_step(x))
        for name, x in curves.data_vars.items()
        if "step" in x.dims and x.ndim <= 3 and f"{name}_half" in curves
    }
    there = {name: x for name, x in there.items() if x.ndim == 1 or x.shape[-1] <= MOST}
    if not there:
        return [], {}
    # Of each value the mean and the half-width, of about seven bytes.
    every = max(1, -(-14 * sum(x.size for x in there.values()) // room))
    kept = curves.isel(step=slice((curves.sizes["step"] - 1) % every, None, every))
    quantities = {name: quantity(x.sel(step=kept.step), kept[f"{name}_half"]) for name, x in there.items()}
    return kept.step.values.tolist(), quantities


def beside_the_step(x: xr.DataArray) -> list[str]:
    """The other dimensions: that of the slider, if there are two, and last that whose values each have a curve."""
    dims = [str(dim) for dim in x.dims if dim != "step"]
    return sorted(dims, key=lambda dim: x[dim].dtype.kind != "f")


def quantity(mean: xr.DataArray, half: xr.DataArray) -> dict[str, Any]:
    """Its values `[step, at, over]` in a row, the names of the places, and the scale of its axes.

    It is positive, so that the curves have a logarithmic axis, and it is wide where the map's colours have one.
    """
    *at, over = [None, None, *mean.dims[1:]][-2:] if mean.ndim != 2 else [None, mean.dims[1]]
    known = mean.values[np.isfinite(mean.values)]
    top = known.max(initial=0.0)
    return {
        "over": labels(mean, over) or [""],
        "over_name": words(over),
        "curves": named(mean, over) or [words(mean.name)],
        "at": labels(mean, at[0]) or [""],
        "at_name": words(at[0]),
        "mean": rounded(mean),
        "half": rounded(half.transpose(*mean.dims)),
        "positive": bool(known.size and known.min() > 0),
        "wide": bool(known.size and known.min() > -0.1 * top and top > 10 * np.median(known)),
        "colours": [to_hex(colour) for colour in style.shades(mean.sizes[over] if over else 1)],
    }


def labels(x: xr.DataArray, dim: Any) -> list[str]:
    """The values along a dimension; the height below that of the leaves is the prior."""
    values = x[dim].values.tolist() if dim else []
    return [
        "prior" if (dim, value) == ("height", -1) else f"{value:g}" if dim in NAMES else f"{value}" for value in values
    ]


def named(x: xr.DataArray, dim: Any) -> list[str]:
    """The same, numbers behind what they are of."""
    numeric = dim is not None and x[dim].dtype.kind in "iuf"
    return [f"{words(dim)} {label}" if numeric and label != "prior" else label for label in labels(x, dim)]


def words(name: Any) -> str:
    return NAMES.get(name, str(name or "").replace("_", " "))


def rounded(x: xr.DataArray) -> list[float | None]:
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in x.values.ravel().tolist()]


def view(
    part: str, steps: list[int], quantities: dict[str, Any], summary: Mapping[str, Any], first: str
) -> tuple[Any, CustomJS]:
    """Widgets above curves, and a slider above a map; and what draws both."""
    first = first if first in quantities else next(iter(quantities))
    landmarks, noise = style.landmarks(summary), f"{summary.get('onset_noise', 0):g}"
    shown = landmarks[-1][1]["step"] if landmarks else steps[-1]
    nearest = min(range(len(steps)), key=lambda i: abs(np.log(steps[i] / shown)))
    at = quantities[first]["at"]
    widgets = {
        "quantity": Select(title="quantity", value=first, options=[(name, words(name)) for name in quantities]),
        "place": slider(" ", at, at.index(noise) if noise in at else 0),
        "moment": slider("training step", [f"{step:,}" for step in steps], nearest),
    }
    sources = {name: ColumnDataSource({each: [] for each in columns}) for name, columns in SOURCES.items()}
    # Until it is filled, axes need to know from where to where they go, and what names curves how many there may be.
    ends, most = [steps[0], steps[-1]], max(len(each["over"]) for each in quantities.values())
    sources["dots"].data = {"x": ends, "y": [1, 2], "label": ["", ""], "colour": 2 * ["#0000"], "words": ["", ""]}
    for name in ("lines", "ribbons"):
        sources[name].data = {"xs": most * [[]], "ys": most * [[]], "colour": most * ["black"]}
    curves = {scale: curves_on(scale, sources, landmarks) for scale in ("log", "linear")}
    names = [name for panel in curves.values() for name in panel.legend[0].items]
    scales = {"wide": LogColorMapper, "even": LinearColorMapper}
    mappers = {name: of(palette=Cividis256, low=0.1, high=1.0) for name, of in scales.items()}
    chart, cell, bars = chart_of(sources["squares"], mappers)
    data = json.dumps({"steps": steps, "quantities": quantities}, separators=(",", ":"))
    args = {**widgets, **sources, **curves, **mappers, **bars, "chart": chart, "cell": cell}
    for name, model in args.items():
        model.name = f"{part} {name}"
    show = CustomJS(args={**args, "names": names, "data": data}, code=DRAWS.read_text())
    for widget in widgets.values():
        widget.sizing_mode = "stretch_width"
        widget.js_on_change("value", show)
    where = (widgets["quantity"], widgets["place"], *curves.values(), widgets["moment"], chart)
    return column(*where, sizing_mode="stretch_width"), show


def slider(title: str, labels: list[str], value: int) -> Slider:
    """One that moves from label to label."""
    shown = CustomJSTickFormatter(args={"labels": labels}, code="return labels[Math.round(tick)]")
    return Slider(title=title, start=0, end=max(1, len(labels) - 1), value=value, step=1, format=shown)


def plain_numbers() -> CustomJSTickFormatter:
    return CustomJSTickFormatter(code="return `${Number(tick.toPrecision(3))}`")


def panel(**options: Any) -> Any:
    """A plot on the paper of the page, over which a finger moves the page."""
    on_paper = dict.fromkeys(("background_fill_color", "border_fill_color", "outline_line_color"))
    tools = {"tools": "box_zoom,reset,save", "active_drag": None, "toolbar_location": "above"}
    made = figure(sizing_mode="stretch_width", **on_paper, **tools, **options)
    made.toolbar.logo = None
    made.grid.grid_line_color, made.grid.grid_line_alpha = "black", 0.1
    made.axis.axis_label_text_font_style = "normal"
    return made


def curves_on(scale: Any, sources: Mapping[str, Any], landmarks: list[tuple[str, dict[str, Any], str]]) -> Any:
    """A panel for curves, with their 95% intervals, and the landmarks of the run."""
    made = panel(height=380, x_axis_type="log", y_axis_type=scale, x_axis_label="training step")
    made.patches("xs", "ys", color="colour", alpha=0.2, line_color=None, source=sources["ribbons"])
    lines = made.multi_line("xs", "ys", color="colour", line_width=2, source=sources["lines"])
    dots = made.scatter("x", "y", color="colour", size=5, source=sources["dots"])
    number = range(len(sources["lines"].data["xs"]))
    names = [LegendItem(label="", renderers=[lines], index=i, visible=False) for i in number]
    legend = Legend(items=names, ncols=3, location="center", margin=0)
    legend.border_line_color = legend.background_fill_color = None
    made.add_layout(legend, "below")
    made.xaxis.formatter, made.yaxis.formatter = NumeralTickFormatter(format="0,0"), plain_numbers()
    made.add_tools(
        HoverTool(renderers=[dots], tooltips=[("curve", "@label"), ("step", "@x{0,0}"), ("value", "@words")])
    )
    for name, found, colour in landmarks:
        line, top = to_hex(colour), Node(target="frame", symbol="top", offset=4)
        made.add_layout(Span(location=found["step"], dimension="height", line_color=line, line_dash="dotted"))
        text: Any = {"text": name, "text_font_size": "11px", "text_color": "#444444", "text_align": "right"}
        made.add_layout(Label(x=found["step"], y=top, angle=np.pi / 2, **text))
    return made


def chart_of(squares: Any, mappers: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """A panel for a map, its cells, and the bars that explain the colours of both mappers."""
    made = panel(height=340, x_range=FactorRange(), y_range=FactorRange())
    cells = made.rect("x", "y", 1, 1, line_color=None, fill_color="black", source=squares)
    made.add_tools(HoverTool(renderers=[cells], tooltips=[("value", "@words")]))
    made.grid.visible = False
    bars = {
        f"{name}_bar": ColorBar(color_mapper=mapper, width=10, formatter=plain_numbers())
        for name, mapper in mappers.items()
    }
    for bar in bars.values():
        bar.background_fill_color = None
        made.add_layout(bar, "right")
    return made, cells.glyph, bars
