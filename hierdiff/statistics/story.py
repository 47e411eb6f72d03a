"""What a run's summary says: landmarks, the curves read there, rows along an axis of the world, and all of it in words.

It is written once; what differs between worlds is a `Story`: the names of its curves and what they are called.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hierdiff.statistics.landmarks import Landmark, Ratio, estimate, last_significant_minimum, ratio
from hierdiff.statistics.minima import locate_minimum, locate_onset
from hierdiff.statistics.replicates import Curve, Statistics
from hierdiff.statistics.words import interval, with_error


class Column(NamedTuple):
    """A curve that is read at the onset and at best, its heading, and the digits that are shown.

    Without a heading it is in the summary alone, where `name` is what it is called, if not as the curve. Of a share it
    is shown only where the column `of` is told from zero. With `minimum` it is said too where the curve is smallest.
    """

    curve: str
    heading: str
    digits: int = 3
    name: str = ""
    of: str = ""
    minimum: bool = False

    @property
    def key(self) -> str:
        """What it is called in the summary."""
        return self.name or self.curve


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of a summary, `name`, one for each value along an axis.

    Each tells where the `minimum` of a curve lies: its onset, after the transient, or the plain minimum. `place` says
    where a value lies, in words, but for the levels that have a name, in `places`.
    """

    name: str
    axis: str
    heading: str
    minimum: str
    onset: bool = True
    columns: tuple[Column, ...]
    top_down: bool = False
    place: str = ""
    places: Mapping[int, str] = dataclasses.field(default_factory=dict)

    def where(self, row: dict[str, Any]) -> str:
        value = row[self.axis]
        return f"the {self.places[value]} level" if value in self.places else self.place.format(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Story:
    """The curves of a world, by their names in its record, and what they are called.

    The minima of `split` (after its transient, at one noise level) and of `loss` define onset and best; of `split`, a
    function of the noise level, `data_split` is what the data make, known where several networks are trained on each
    data set. `axis` is the table along the world's own axis, if it has one, whose `minimum` is the part that leans to
    the own sample: `part` in words.
    """

    samples: str
    split: str
    split_words: str
    data_split: str
    loss: str
    values: tuple[Column, ...]
    tables: tuple[Table, ...]
    axis: Table | None = None
    part: str = ""


@dataclasses.dataclass(frozen=True)
class Values:
    """A curve at the onset and at best, with standard errors that do not count the uncertainty of the step."""

    at_onset: float
    at_onset_error: float
    at_best: float
    at_best_error: float


@dataclasses.dataclass(frozen=True)
class Growth:
    """By how much a curve grows from the onset to best, with its standard error."""

    value: float
    error: float
    significant: bool


# Fields of a summary whose content stands beside the others in its record.
NESTED = ("values", "minima", "rows", "about")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What was found in a run: its minima, the curves read at the onset and at best, and the rows of each table.

    Curves are read at the steps `read_at`: the onset, and best or, where that is not reached, the last. A row holds its
    value along the axis, the landmark of its minimum (`onset` with `ratio` and `growth`, or `minimum`) and the table's
    columns under their names; `minima` are those of the columns that ask for one, and `about` is what else the record
    says. `epoch` is in steps, and `last_significant_minimum` that of the split, nan where there is none.
    """

    onset: Landmark
    ratio: Ratio
    best: Landmark
    onset_noise: float
    read_at: dict[str, float]
    steps: int
    sets: int
    epoch: float
    last_significant_minimum: float
    data_onset: Landmark | None
    values: dict[str, Any]
    minima: dict[str, Landmark]
    rows: dict[str, list[dict[str, Any]]]
    about: dict[str, Any]

    @property
    def two_minima(self) -> bool:
        """Whether the split turns up, before the best step, from another minimum than that in the onset's interval."""
        last, onset = self.last_significant_minimum, self.onset
        return bool(np.isfinite(last)) and not (onset.reached and onset.low <= last <= onset.high)

    def content(self, story: Story) -> dict[str, Any]:
        """As `summary.json` has it, with the table and the verdict."""
        parts = {name: x for name, x in vars(self).items() if x is not None and name not in NESTED}
        words = {"table": table(story, self).splitlines(), "verdict": verdict(story, self)}
        minima = {f"{name}_minimum": found for name, found in self.minima.items()}
        return {**parts, **self.values, **minima, **self.rows, **self.about, **words}


def summarise(story: Story, found: Statistics, *, onset_noise: float, epoch: float, about: dict[str, Any]) -> Summary:
    """The minima of a run (steps) with their intervals, and the values there with their errors; `epoch` is in steps."""
    mean, resample = found.mean, found.resampling
    split, steps = found.curve(story.split, noise=onset_noise), int(mean.step[-1])
    onset = estimate(split, resample, locate_onset)
    best = estimate(found.curve(story.loss), resample, locate_minimum)
    read_at = {"onset": onset.step, "best": best.step if best.reached else float(steps)}

    def at(name: str, place: dict[str, Any]) -> dict[str, Any]:
        return {dim: value for dim, value in ({"noise": onset_noise} | place).items() if dim in mean[name].dims}

    def read(name: str, place: dict[str, Any]) -> Values | float:
        if "step" not in mean[name].dims:
            return float(mean[name].sel(at(name, place)))
        both = [found.curve(name, **at(name, place)).at(step) for step in read_at.values()]
        return Values(*(float(x) for each in both for x in (each.mean[0], resample.error(each.replicates)[0])))

    def of_columns(columns: tuple[Column, ...], place: dict[str, Any]) -> dict[str, Any]:
        return {column.key: read(column.curve, place) for column in columns if column.curve in mean}

    def growth(curve: Curve) -> Growth:
        early, late = (curve.at(step) for step in read_at.values())
        value, replicates = late.mean - early.mean, late.replicates - early.replicates
        told = onset.reached and bool(resample.significant(value, replicates)[0])
        return Growth(float(value[0]), float(resample.error(replicates)[0]), told)

    def row(table: Table, value: Any) -> dict[str, Any]:
        place = {table.axis: value}
        curve = found.curve(table.minimum, **at(table.minimum, place))
        there = estimate(curve, resample, locate_onset if table.onset else locate_minimum)
        landmark = {"minimum": there}
        if table.onset:
            landmark = {"onset": there, "ratio": ratio(there, best, resample), "growth": growth(curve)}
        return place | landmark | of_columns(table.columns, place)

    return Summary(
        onset=onset,
        ratio=ratio(onset, best, resample),
        best=best,
        onset_noise=onset_noise,
        read_at=read_at,
        steps=steps,
        sets=resample.sets,
        epoch=epoch,
        last_significant_minimum=last_significant_minimum(split, resample, read_at["best"]),
        data_onset=estimate(found.curve(story.data_split, noise=onset_noise), resample, locate_onset)
        if story.data_split in mean
        else None,
        values=of_columns(story.values, {}),
        minima={
            column.key: estimate(found.curve(column.curve), resample, locate_minimum)
            for column in story.values
            if column.minimum and column.curve in mean
        },
        rows={each.name: [row(each, value) for value in mean[each.axis].values.tolist()] for each in story.tables},
        about=about,
    )


def table(story: Story, summary: Summary) -> str:
    """A row for each value along each axis, and the curves that have none."""
    at_best = "best" if summary.best.reached else f"the last step, {summary.steps:,} (best is not reached)"
    lines = [
        f"held-out {story.samples} at t/T = {summary.onset_noise}; 'a > b': at onset > at {at_best}; standard errors "
        "in brackets, in units of the last digit"
    ]
    for each in story.tables:
        rows = summary.rows[each.name]
        columns = [(each, each.key, max(21, len(each.heading))) for each in each.columns if each.heading]
        columns = [(column, name, width) for column, name, width in columns if name in rows[0]]
        minimum = f"{'its onset, step (95%)':>26}  P(< best)" if each.onset else f"{'smallest at step (95%)':>26}"
        headings = [f"{column.heading:>{width}}" for column, _, width in columns]
        lines += ["", " ".join([f"{each.heading:>7}", *headings, minimum])]
        for row in reversed(rows) if each.top_down else rows:
            cells = [
                f"{_cell(row[name] if _told(row, column.of) else None, column.digits):>{width}}"
                for column, name, width in columns
            ]
            found = row["onset" if each.onset else "minimum"]
            before = f"  {row['ratio'].before:.2f}" if each.onset and found.reached else ""
            value = each.places.get(row[each.axis], row[each.axis])
            lines.append(" ".join([f"{value:>7}", *cells, f"{interval(found):>26}{before}"]))
    lines.append("")
    for column in story.values:
        if column.key in summary.values:
            least = summary.minima.get(column.key)
            where = f", smallest at step {interval(least)}" if least else ""
            lines.append(f"{column.heading}: {_cell(summary.values[column.key], column.digits)}{where}")
    if summary.data_onset:
        lines.append(f"what the data make of {story.split_words} turns up at step {interval(summary.data_onset)}")
    if summary.two_minima:
        last = summary.last_significant_minimum
        lines.append(f"the last significant minimum of {story.split_words} before best is another: step {last:,.0f}")
    return "\n".join(lines)


def _told(row: dict[str, Any], of: str) -> bool:
    """Whether what a share is of is told from zero."""
    return not of or row[of].at_best > 2 * row[of].at_best_error


def _cell(x: Values | float | None, digits: int) -> str:
    """A number, or `a > b`, each with its standard error in units of its last digit."""
    if not isinstance(x, Values):
        return "-" if x is None else f"{x:.{digits}f}"
    shown = ((x.at_onset, x.at_onset_error), (x.at_best, x.at_best_error))
    return " > ".join(with_error(x, error, digits) for x, error in shown)


def verdict(story: Story, summary: Summary) -> str:
    """One sentence: step, place and noise level of the onset, and when the test loss would have stopped."""
    onset, noise, axis = summary.onset, summary.onset_noise, story.axis
    if onset.reached:
        parts = [
            f"At t/T = {noise} the networks start to lean towards their own samples at step {interval(onset)}, "
            f"{onset.step / summary.epoch:,.0f} epochs, where {story.split_words} is smallest"
        ]
    elif onset.from_start:
        parts = [f"At t/T = {noise} the networks part from the first checkpoint on"]
    else:
        parts = [
            f"No onset within {summary.steps:,} steps: at t/T = {noise} {story.split_words} does not rise "
            "significantly from its smallest value after the transient"
        ]
    if summary.two_minima:
        parts.append(f"it turns up from another minimum too, at step {summary.last_significant_minimum:,.0f}")
    if axis and (summary.two_minima or not onset.reached):
        rows = [row for row in summary.rows[axis.name] if row["onset"].reached]
        places = [f"{row['onset'].step:,.0f} ({axis.where(row)})" for row in rows]
        if places:
            parts.append(f"by {axis.axis}, {story.part} turns up at step {', '.join(places)}")
    parts.append(_stopping(summary))
    if axis and onset.reached:
        parts.append(
            f"from the onset to {'then' if summary.best.reached else 'the end'}, {_grown(story, axis, summary)}"
        )
    if summary.sets == 2:
        parts.append("with two data sets, none of this counts the choice of the data")
    return f"{'; '.join(parts)}."


def _stopping(found: Summary) -> str:
    onset, best, later = found.onset, found.best, found.ratio
    if not best.reached:
        return f"the test loss has no clear minimum within {found.steps:,} steps"
    if not onset.reached:
        return f"the test loss is smallest at step {interval(best)}"
    low, high = (f"{end:.1f}" if 0 < end < np.inf else "open" for end in (later.low, later.high))
    when = "would have stopped" if best.step > onset.step else "is smallest before that,"
    return (
        f"the test loss {when} at step {interval(best)}, {later.ratio:.1f} ({low} to {high}) times the onset, "
        f"with P(onset < best) = {later.before:.2f}"
    )


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
