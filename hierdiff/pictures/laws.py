"""Landmarks against the size of the training sets, or another option: laws, phases, windows of the heights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from hierdiff.errors import require
from hierdiff.pictures import style
from hierdiff.pictures.records import SWEEP, Need, Records, needs

# How the landmarks that every run reports are drawn, and what begins a phase.
MARKERS = {"turning point": "o", "memorization": "^", "best": "s"}
BORDERS = {"learned": "C5", "biased": style.SPLIT, "memorization": style.SLOPE}
PHASES = ("not learned", "generalizing", "biased", "memorizing")
# From light to dark, told apart without colours.
SHADES = ("0.97", "0.88", "0.76", "0.62")


@needs(Need(SWEEP, SWEEP))
@style.panels(figsize=(3.4, 3.2))
def laws(records: Records, axes: Axes) -> None:
    """Power laws of turning point, onset of memorization and best in the size of the training sets.

    Ours; no figure of the paper. A point is a run, with its 95% interval, those of one grammar side by side; an arrow
    says that a run ended before it, or began after it. The line is the law, with the 95% band of the grammars' mean.
    """
    numbers = swept(records)
    for (name, marker), shift in zip(MARKERS.items(), (0.94, 1.0, 1.06), strict=True):
        found, colour = numbers["landmarks"][name], style.LANDMARKS[name][1]
        readings(axes, found["readings"], shift, marker=marker, color=colour)
        line(axes, found["law"], f"{name}: {exponent(numbers, found['law'])}", colour, marker)
    over(axes, numbers, numbers["values"])
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))


@needs(Need(SWEEP, SWEEP))
@style.panels(figsize=(3.4, 2.9))
def phases(records: Records, axes: Axes) -> None:
    """Phases of training, by the size of the training sets and the training step.

    Ours; beside the diagram of arXiv 2505.16959. A border is the mean over grammars, with its 95% interval.
    """
    numbers = swept(records)
    within = steps_within(numbers)
    values = [row["value"] for row in numbers["phases"]]
    ends = np.array([[np.inf if end is None else end for end in row["ends"]] for row in numbers["phases"]], float)
    edges = np.column_stack([0 * ends[:, :1], ends, np.full(len(ends), np.inf)]).clip(*within)
    for phase, shade, low, high in zip(PHASES, SHADES, edges.T, edges.T[1:], strict=False):
        axes.fill_between(values, low, high, color=shade, linewidth=0)
        widest = int(np.argmax(np.log(high / low)))
        if high[widest] > 1.3 * low[widest]:
            place, ha = values[widest], ("left", "center", "right")[int(np.sign(widest - (len(values) - 1) / 2)) + 1]
            shown = {"ha": ha, "va": "center", "fontsize": 7}
            text = axes.text(place, np.sqrt(low[widest] * high[widest]), f" {phase} ", **shown)
            text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    levels = numbers["levels"]
    words = {
        "learned": f"common error below {levels['missed']:g} of what the tree says",
        "biased": f"own against other above {levels['own against other']:g} nats",
        "memorization": "memorization slope above its level",
    }
    for (name, colour), marker in zip(BORDERS.items(), "Do^", strict=True):
        means(axes, numbers["landmarks"][name]["means"], within, words[name], color=colour, marker=marker)
    over(axes, numbers, numbers["values"])
    axes.set_ylim(*within)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))


@needs(Need(SWEEP, SWEEP))
def windows(records: Records) -> Figure:
    """The window of each height: from where its blocks are valid to where they are copies.

    Ours; beside it the size of the training sets from which the rules of a height are learned, v m^(h + 1), by the
    argument of arXiv 2502.12089, up to a factor of order one. Means over grammars with their 95% intervals.
    """
    numbers = swept(records)
    within = steps_within(numbers)
    figure, panels = style.subplots(
        1, len(numbers["windows"]), figsize=(7.0, 2.8), sharex=True, sharey=True, squeeze=False
    )
    for axes, window in zip(panels[0], numbers["windows"], strict=True):
        opens, closes = (numbers["landmarks"][window[end]]["means"] for end in ("opens", "closes"))
        edges = [[edge(mean, within) for mean in each] for each in (opens, closes)]
        values, (low, high) = [mean["value"] for mean in opens], np.array(edges)
        axes.fill_between(values, low, np.maximum(low, high), color="0.88", linewidth=0)
        means(axes, opens, within, "half of the blocks valid", color="C0", marker="o")
        means(axes, closes, within, "copies of the own set", 1.06, color=style.SLOPE, marker="^")
        if size := window["sample_size"]:
            axes.axvline(size, color="0.3", linestyle="--", linewidth=0.8, label="sample size v m^(h+1)")
        # There is no room for more beside each other.
        over(axes, numbers, [min(numbers["values"]), max(numbers["values"])])
        unit = "  [sequences]" if numbers["of"] == "size" else ""
        axes.set(title=f"height {window['height']}", xlabel=f"{letter(numbers)}{unit}", ylim=within)
        axes.label_outer()
    if numbers["windows"]:
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def swept(records: Records) -> dict[str, Any]:
    """The laws over the first option of the sweep that has any.

    Raises:
      OptionError: it has none.
    """
    found = [each["numbers"] for each in records.read(SWEEP, SWEEP)["laws"]]
    there = [numbers for numbers in found if "landmarks" in numbers]
    require(
        bool(there), "runs", str(records.file(Need(SWEEP, SWEEP))), "a sweep over three numbers above zero, or more"
    )
    return there[0]


def steps_within(numbers: Mapping[str, Any]) -> tuple[float, float]:
    """From a little before the first of all steps that are known of a landmark to a little after the last."""
    steps = [reading["step"] for each in numbers["landmarks"].values() for reading in each["readings"]]
    return 0.8 * min(steps), 1.25 * max(steps)


def readings(axes: Axes, found: list[dict[str, Any]], shift: float, **drawn: Any) -> None:
    """The runs' landmarks: points with intervals, arrows where a run ended before or began after."""
    for each in found:
        x, step = shift * each["value"], each["step"]
        if each["state"] == "reached":
            axes.plot(x, step, linestyle="none", **drawn)
            if each["low"] and each["high"]:
                axes.vlines(x, each["low"], each["high"], color=drawn["color"], linewidth=0.8)
        else:
            later = each["state"] == "later"
            far = [[0.0], [0.35 * step]] if later else [[0.25 * step], [0.0]]
            axes.errorbar(x, step, far, lolims=later, uplims=not later, mfc="none", linewidth=0.8, **drawn)


def line(axes: Axes, law: Mapping[str, Any], label: str, colour: Any, marker: str) -> None:
    """A law with its band, if it is estimated; its name in the legend."""
    value, step, low, high = np.array(law["line"], float).reshape(-1, 4).T
    axes.plot(value, step, color=colour, label=label, marker=marker, markevery=[])
    if len(value):
        axes.fill_between(value, low, high, color=colour, alpha=0.15, linewidth=0)


def exponent(numbers: Mapping[str, Any], law: Mapping[str, Any]) -> str:
    if law["why"]:
        return "no law is estimated"
    low, high = ("open" if law[end] is None else f"{law[end]:.2f}" for end in ("low", "high"))
    return f"{letter(numbers)}^{law['exponent']:.2f} ({low} to {high})"


def means(
    axes: Axes,
    found: list[dict[str, Any]],
    within: tuple[float, float],
    label: str,
    shift: float = 1.0,
    **drawn: Any,
) -> None:
    """Means over grammars with their intervals; an end that is open reaches to the end of what is shown."""
    there = [mean for mean in found if mean["step"] is not None]
    axes.plot([shift * mean["value"] for mean in there], [mean["step"] for mean in there], label=label, **drawn)
    for mean in there:
        if mean["reached"]:
            axes.vlines(shift * mean["value"], *style.ends(mean, *within), color=drawn["color"], linewidth=0.8)


def edge(mean: Mapping[str, Any], within: tuple[float, float]) -> float:
    if mean["step"] is not None:
        return float(mean["step"])
    return within[0] if mean["from_start"] else within[1]


def letter(numbers: Mapping[str, Any]) -> str:
    return "P" if numbers["of"] == "size" else numbers["of"]


def over(axes: Axes, numbers: Mapping[str, Any], values: list[float]) -> None:
    """Logarithmic axes of the option that is swept, with some of its values, and of training steps."""
    what = "training-set size P  [sequences]" if numbers["of"] == "size" else numbers["of"]
    axes.set(xscale="log", yscale="log", xlabel=what, ylabel="training step")
    style.ticks(axes, values)
