"""What a run's summary says: landmarks, the curves read there, and rows along an axis of the world.

It is written once; what differs between worlds is a `Story`: the names of its curves and what they are called. The
words are in `words`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hierdiff.statistics.landmarks import (
    Landmark,
    Ratio,
    crossing,
    first_significant,
    last_significant_minimum,
    minimum,
    ratio,
    turning_point,
)
from hierdiff.statistics.replicates import Statistics

# The curves of any world that landmarks and the price of stopping late are read from.
OWN, SLOPE = "own_against_other", "slope"


class Column(NamedTuple):
    """A curve that is read at the onset and at best, its heading, and the digits that are shown.

    Without a heading it is in the summary alone, where `name` is what it is called, if not as the curve. With `minimum`
    it is said too where the curve is smallest. `blank` is why it may have no value.
    """

    curve: str
    heading: str
    digits: int = 3
    name: str = ""
    minimum: bool = False
    blank: str = ""

    @property
    def key(self) -> str:
        """What it is called in the summary."""
        return self.name or self.curve


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of a summary, `name`, one for each value along an axis.

    Each tells where the `minimum` of a curve lies: its onset, after the transient, or the plain minimum. Onsets that
    are `indicative` are shown where both ends of their interval lie inside the run. `of_data` is the part of the curve
    that is free of the seed, known where several networks are trained on each data set. `place` says where a value
    lies, in words, but for the levels that have a name, in `places`.
    """

    name: str
    axis: str
    heading: str
    minimum: str
    onset: bool = True
    indicative: bool = False
    of_data: str = ""
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
    data set. Losses on members have the `unit`, and so many `digits`. `axis` is the table along the world's own axis,
    if it has one, whose `minimum` is the part that leans to the own sample: `part` in words.
    """

    samples: str
    split: str
    split_words: str
    data_split: str
    loss: str
    unit: str
    digits: int = 3
    values: tuple[Column, ...]
    tables: tuple[Table, ...]
    axis: Table | None = None
    part: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looked:
    """What a run looked at: so many members of each set, networks, and the noise levels t/T of the landmarks.

    The onset of memorization is where the slope at `slope_noise` passes `slope_level`.
    """

    onset_noise: float
    slope_noise: float
    slope_level: float
    members: int
    networks: int


@dataclasses.dataclass(frozen=True)
class Values:
    """A curve at the onset and at best, with standard errors that do not count the uncertainty of the step."""

    at_onset: float
    at_onset_error: float
    at_best: float
    at_best_error: float


@dataclasses.dataclass(frozen=True)
class Growth:
    """By how much a curve grows from the onset to best, with its standard error and half of its 95% interval."""

    value: float
    error: float
    half_width: float

    @property
    def significant(self) -> bool:
        return self.value > self.half_width


# Fields of a summary whose content stands beside the others in its record.
NESTED = ("looked", "values", "minima", "rows", "about")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What was found in a run: its landmarks, the curves read at the onset and at best, and the rows of each table.

    `onset` is the turning point, `memorization` the onset of memorization, `own_since` the step from which own against
    other is told from zero for good, nan where it is not, and `price` its growth from the turning point to best. Curves
    are read at the steps `read_at`: the onset, and best or, where that is not reached, the last. A row holds its value
    along the axis, the landmark of its minimum (`onset` with `ratio` and `growth`, or `minimum`) and the table's
    columns under their names; `minima` are those of the columns that ask for one, and `about` is what else the record
    says. `epoch` is in steps, and `last_significant_minimum` that of the split, nan where there is none.
    """

    onset: Landmark
    memorization: Landmark
    best: Landmark
    ratio: Ratio
    own_since: float
    price: Growth | None
    looked: Looked
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

    def content(self) -> dict[str, Any]:
        """As `summary.json` has it, but for the words."""
        parts = {name: x for name, x in vars(self).items() if x is not None and name not in NESTED}
        minima = {f"{name}_minimum": found for name, found in self.minima.items()}
        return {**parts, **vars(self.looked), **self.values, **minima, **self.rows, **self.about}


def summarise(story: Story, found: Statistics, *, looked: Looked, epoch: float, about: dict[str, Any]) -> Summary:
    """The landmarks of a run (steps) with their intervals, and the values there with their errors; `epoch` in steps."""
    mean, resample = found.mean, found.resampling
    split, steps = found.curve(story.split, noise=looked.onset_noise), int(mean.step[-1])
    onset, best = turning_point(split, resample), minimum(found.curve(story.loss), resample)
    read_at = {"onset": onset.step, "best": best.step if best.located else float(steps)}

    def at(name: str, place: dict[str, Any]) -> dict[str, Any]:
        return {dim: value for dim, value in ({"noise": looked.onset_noise} | place).items() if dim in mean[name].dims}

    def read(name: str, place: dict[str, Any]) -> Values | float:
        if "step" not in mean[name].dims:
            return float(mean[name].sel(at(name, place)))
        both = [found.curve(name, **at(name, place)).at(step) for step in read_at.values()]
        return Values(*(float(x) for each in both for x in (each.mean[0], resample.error(each.replicates)[0])))

    def of_columns(columns: tuple[Column, ...], place: dict[str, Any]) -> dict[str, Any]:
        return {column.key: read(column.curve, place) for column in columns if column.curve in mean}

    def growth(name: str, place: dict[str, Any]) -> Growth:
        early, late = (found.curve(name, **at(name, place)).at(step) for step in read_at.values())
        value, replicates = late.mean - early.mean, late.replicates - early.replicates
        return Growth(*(float(x[0]) for x in (value, resample.error(replicates), resample.half_width(replicates))))

    def row(table: Table, value: Any) -> dict[str, Any]:
        place = {table.axis: value}

        def turns(name: str) -> Landmark:
            return turning_point(found.curve(name, **at(name, place)), resample)

        if table.onset:
            there = turns(table.minimum)
            landmark = {"onset": there, "ratio": ratio(there, best, resample), "growth": growth(table.minimum, place)}
        else:
            landmark = {"minimum": minimum(found.curve(table.minimum, **at(table.minimum, place)), resample)}
        of_data = {"data_onset": turns(table.of_data)} if table.of_data in mean else {}
        return place | landmark | of_data | of_columns(table.columns, place)

    return Summary(
        onset=onset,
        memorization=crossing(found.curve(SLOPE, noise=looked.slope_noise), resample, looked.slope_level),
        best=best,
        ratio=ratio(onset, best, resample),
        own_since=first_significant(found.curve(OWN, noise=looked.onset_noise), resample)
        if OWN in mean
        else float("nan"),
        price=growth(OWN, {}) if OWN in mean else None,
        looked=looked,
        read_at=read_at,
        steps=steps,
        sets=resample.sets,
        epoch=epoch,
        last_significant_minimum=last_significant_minimum(split, resample, read_at["best"]),
        data_onset=turning_point(found.curve(story.data_split, noise=looked.onset_noise), resample)
        if story.data_split in mean
        else None,
        values=of_columns(story.values, {}),
        minima={
            column.key: minimum(found.curve(column.curve), resample)
            for column in story.values
            if column.minimum and column.curve in mean
        },
        rows={each.name: [row(each, value) for value in mean[each.axis].values.tolist()] for each in story.tables},
        about=about,
    )
