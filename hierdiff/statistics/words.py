"""What was found, in words: steps with their intervals, values with their errors, the table of a run, its verdict."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from hierdiff.statistics.landmarks import Landmark, Ratio
from hierdiff.statistics.story import OWN, Story, Summary, Table, Values

NOT_ESTIMATED = "not estimated"


def interval(found: Landmark) -> str:
    """A step and its 95% interval in words; an end beyond the run is open."""
    if not found.located:
        return "from the start" if found.from_start else "not reached"
    if not found.reached:
        return f"{found.step:,.0f} ({NOT_ESTIMATED})"
    low, high = (f"{end:,.0f}" if 0 < end < np.inf else "open" for end in (found.low, found.high))
    return f"{found.step:,.0f} ({low} to {high})" if found.resolved else f"between {low} and {high}"


def since(what: str, step: float, sets: int) -> str:
    """From which step on something is told from zero, in words; of two data sets that is not estimated."""
    if sets == 2:
        return f"from which step on {what} is {NOT_ESTIMATED} with two data sets"
    return f"{what} from step {step:,.0f} on" if np.isfinite(step) else f"{what} at no step for good"


def with_error(x: float, error: float, digits: int) -> str:
    """A value with its standard error in units of the last digit, where that is known; '-' where there is no value."""
    if np.isnan(x):
        return "-"
    return f"{x:.{digits}f}" + ("" if np.isnan(error) else f"({10**digits * error:.0f})")


def around(x: float, half_width: float, digits: int) -> str:
    """A value with its 95% interval, where that is estimated."""
    ends = NOT_ESTIMATED if np.isnan(half_width) else f"{x - half_width:.{digits}f} to {x + half_width:.{digits}f}"
    return f"{x:.{digits}f} ({ends})"


def cell(curves: xr.Dataset, name: str, digits: int) -> str:
    """One value of a record with its standard error."""
    return with_error(float(curves[name]), float(curves[f"{name}_error"]), digits)


def column(name: str, digits: int, **where: Any) -> Callable[[xr.Dataset], str]:
    """A column of `lines_over`: one value with its standard error, at the coordinates `where`."""
    return lambda curves: cell(curves.sel(where), name, digits)


def with_interval(curves: xr.Dataset, name: str, digits: int) -> str:
    """One value of a record with its 95% interval."""
    return around(float(curves[name]), float(curves[f"{name}_half"]), digits)


def lines_over(dim: str, curves: xr.Dataset, columns: dict[str, Callable[[xr.Dataset], str]]) -> list[str]:
    """A line of headings, and one for each value along `dim`: in each column, what it makes of the record there."""
    return aligned(
        {dim: value if isinstance(value, str) else f"{value:,}"}
        | {name: column(curves.sel({dim: value})) for name, column in columns.items()}
        for value in curves[dim].values
    )


def aligned(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """A line of headings, and one for each row: two spaces or more part the columns, and nothing else."""
    rows = list(rows)
    cells = [[*rows[0]], *([str(x) for x in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{x:>{width}}" for x, width in zip(row, widths, strict=True)) for row in cells]


def table(story: Story, summary: Summary) -> str:
    """A row for each value along each axis, the curves that have none, and the landmarks."""
    at_best = "best" if summary.best.located else f"the last step, {summary.steps:,} (best is not reached)"
    errors = "of the test samples alone, " if summary.sets == 2 else ""
    lines = [
        f"held-out {story.samples} at t/T = {summary.looked.onset_noise}; 'a > b': at the turning point > at "
        f"{at_best}; standard errors {errors}in brackets, in units of the last digit"
    ]
    for each in story.tables:
        lines += ["", *_rows(each, summary.rows[each.name])]
    lines.append("")
    for each in story.values:
        if each.key in summary.values:
            least = summary.minima.get(each.key)
            where = f", smallest at step {interval(least)}" if least else ""
            lines.append(f"{each.heading}: {_cell(summary.values[each.key], each.digits)}{where}")
    steps = {
        f"turning point of {story.split_words}": summary.onset,
        f"turning point of what the data make of {story.split_words}": summary.data_onset,
        f"onset of memorization, slope {summary.looked.slope_level:g} at t/T = {summary.looked.slope_noise:g}": (
            summary.memorization
        ),
        "best": summary.best,
    }
    lines += ["", *(f"{name}: step {interval(found)}" for name, found in steps.items() if found)]
    if summary.two_minima:
        last = summary.last_significant_minimum
        lines.append(f"the last significant minimum of {story.split_words} before best is another: step {last:,.0f}")
    return "\n".join(lines)


def _rows(table: Table, rows: list[dict[str, Any]]) -> list[str]:
    columns: dict[str, Callable[[dict[str, Any]], object]] = {
        table.heading: lambda row: table.places.get(row[table.axis], row[table.axis])
    }
    columns |= {
        each.heading: (lambda row, each=each: _cell(row[each.key], each.digits))
        for each in table.columns
        if each.heading and each.key in rows[0]
    }
    if table.onset:
        heading = "indicative onset" if table.indicative else "turning point"
        columns[f"{heading}, step (95%)"] = lambda row: _step(table, row["onset"])
        columns["before best"] = lambda row: _confidence(table, row)
        if "data_onset" in rows[0]:
            columns["of the data, step (95%)"] = lambda row: _step(table, row["data_onset"])
    else:
        columns["smallest at step (95%)"] = lambda row: interval(row["minimum"])
    in_order = reversed(rows) if table.top_down else rows
    lines = aligned({name: of(row) for name, of in columns.items()} for row in in_order)
    for each in table.columns:
        if each.blank and each.key in rows[0] and any(np.isnan(row[each.key].at_best) for row in rows):
            lines.append(f"{each.heading}: - where {each.blank}")
    return lines


def _step(table: Table, found: Landmark) -> str:
    return interval(found) if not table.indicative or _shown(found) else "-"


def _shown(found: Landmark) -> bool:
    """Whether an indicative onset is shown: both ends of its interval lie inside the run."""
    return found.reached and found.low > 0 and found.high < np.inf


def _confidence(table: Table, row: dict[str, Any]) -> str:
    """One-sided, that an onset comes before best."""
    later: Ratio = row["ratio"]
    hidden = np.isnan(later.confidence) or (table.indicative and not _shown(row["onset"]))
    return "-" if hidden else f"{later.confidence:.2f}"


def _cell(x: Values | float | None, digits: int) -> str:
    """A number, or `a > b`, each with its standard error in units of its last digit."""
    if not isinstance(x, Values):
        return "-" if x is None else f"{x:.{digits}f}"
    both = [with_error(*each, digits) for each in ((x.at_onset, x.at_onset_error), (x.at_best, x.at_best_error))]
    return "-" if both == ["-", "-"] else " > ".join(both)


def verdict(story: Story, summary: Summary) -> str:
    """One sentence: the turning point, the onset of memorization, best, and the price of stopping late."""
    onset, noise, axis = summary.onset, summary.looked.onset_noise, story.axis
    parts = [f"At t/T = {noise} {_turning(story, summary)}"]
    if summary.two_minima:
        parts.append(f"it turns up from another minimum too, at step {summary.last_significant_minimum:,.0f}")
    if axis and (summary.two_minima or not onset.reached):
        rows = [row for row in summary.rows[axis.name] if _shown(row["onset"])]
        places = [f"{row['onset'].step:,.0f} ({axis.where(row)})" for row in rows]
        if places:
            parts.append(f"by {axis.axis}, {story.part} turns up, indicatively, at step {', '.join(places)}")
    parts += [_memorization(summary), _stopping(summary)]
    if summary.price:
        parts.append(_price(story, summary))
    if axis and onset.reached:
        parts.append(
            f"from the turning point to {'best' if summary.best.reached else 'the end'}, {_grown(story, axis, summary)}"
        )
    if summary.sets == 2:
        parts.append("two data sets tell nothing of how the choice of the data moves any of this; four would do")
    return f"{'; '.join(parts)}."


def _turning(story: Story, summary: Summary) -> str:
    onset = summary.onset
    if not onset.located:
        if onset.from_start:
            return "networks on different data part from the first checkpoint on"
        rises = "is nowhere smallest" if summary.sets == 2 else "does not rise significantly from its smallest value"
        return (
            f"there is no turning point within {summary.steps:,} steps: {story.split_words} {rises} after the transient"
        )
    if not onset.resolved:
        where = f"the turning point lies {interval(onset)} of the training steps, which no checkpoint tells apart"
    else:
        epochs = f", {onset.step / summary.epoch:,.0f} epochs" if np.isfinite(summary.epoch) else ""
        where = f"the turning point is step {interval(onset)}{epochs}"
    return f"{where}: up to it training makes networks on different data more alike, from it on less"


def _memorization(summary: Summary) -> str:
    found, looked = summary.memorization, summary.looked
    slope = f"the memorization slope at t/T = {looked.slope_noise:g}"
    if found.located:
        return f"{slope} passes {looked.slope_level:g} at step {interval(found)}"
    if found.from_start:
        return f"{slope} is above {looked.slope_level:g} from the first checkpoint on"
    return f"{slope} is not told to pass {looked.slope_level:g} within {summary.steps:,} steps"


def _stopping(summary: Summary) -> str:
    onset, best, later = summary.onset, summary.best, summary.ratio
    if not best.located:
        return f"the test loss has no clear minimum within {summary.steps:,} steps"
    if not onset.located:
        return f"the test loss is smallest at step {interval(best)}"
    when = "would have stopped" if best.step > onset.step else "is smallest before that,"
    times = f"{later.ratio:.1f} times the turning point"
    if not np.isnan(later.low):
        ends = " to ".join(f"{end:.1f}" if 0 < end < np.inf else "open" for end in (later.low, later.high))
        times = f"{later.ratio:.1f} ({ends}) times the turning point"
    sure = f", later with confidence {later.confidence:.2f} (one-sided)" if not np.isnan(later.confidence) else ""
    return f"the test loss {when} at step {interval(best)}, {times}{sure}"


def _price(story: Story, summary: Summary) -> str:
    """Own against other at the turning point, what it gains until best, and since when it is told from zero."""
    looked, own, price = summary.looked, summary.values[OWN], summary.price
    until = "best" if summary.best.located else "the end"
    level = f"own against other is {own.at_best:.{story.digits}f} {story.unit} at {until}"
    if summary.onset.located and price is not None:
        level = (
            f"own against other, {own.at_onset:.{story.digits}f} {story.unit} at the turning point, grows by "
            f"{around(price.value, price.half_width, story.digits)} until {until}, the price of stopping late"
        )
    counts = f"with {looked.members} members of each set and {looked.networks} networks looked at"
    if summary.sets == 2:
        return level
    if np.isnan(summary.own_since):
        return f"{level}; {counts} it is not told from zero for good"
    return f"{level}; {counts} it is told from zero from step {summary.own_since:,.0f} on, with more from earlier on"


def _grown(story: Story, axis: Table, summary: Summary) -> str:
    """Where the part that leans grows most between the onset and best, and where its share is largest."""
    told = [row for row in summary.rows[axis.name] if row["growth"].significant]
    grows = f"{story.part} grows significantly at no {axis.axis}"
    if told:
        most = max(told, key=lambda row: row["growth"].value)
        part = most[next(column.key for column in axis.columns if column.curve == axis.minimum)]
        grows = f"{story.part} grows most at {axis.where(most)} ({part.at_onset:.3f} to {part.at_best:.3f})"
    shares = [row for row in summary.rows["noise"] if "share" in row and np.isfinite(row["share"].at_best)]
    if not shares:
        return grows
    widest = max(shares, key=lambda row: row["share"].at_best)
    share = f"its share of the error is largest at t/T = {widest['noise']:g} ({widest['share'].at_best:.0%})"
    return f"{grows}{', and' if told else ';'} {share}"
