"""The records that the figures are drawn from, and the commands that make them."""

import functools
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from hierdiff.errors import OptionError
from hierdiff.pictures import style
from hierdiff.runs import record
from hierdiff.runs.sweep import Point

SMALL, MIDDLE, LARGE = SIZES = ("small", "middle", "large")
ONSET, SWEEP, STOPPING, PROCESSES, IMAGES, SAMPLES = "onset", "sweep", "stopping", "processes", "images", "samples"
LABELS, GUIDANCE, REMEDIES, ATTRIBUTION = "labels", "guidance", "remedies", "attribution"
# What some commands are told beside the preset.
OPTIONS = {(STOPPING, "laptop"): ("--sets", "2"), (IMAGES, "paper"): ("--data-dir", "CelebA/img_align_celeba")}


@functools.cache
def read(path: Path) -> Any:
    """The content of a file, which is read once for all figures.

    Raises:
      OptionError: the file is damaged.
    """
    try:
        return record.read_json(path) if path.suffix == ".json" else record.read_results(path)
    except record.USELESS:
        need = (
            "a whole record; this one is damaged, or not yet wholly copied. If no copy of it is left, its command "
            "makes the run anew in another folder, and asks a question anew once the file is moved away"
        )
        raise OptionError("runs", str(path), need) from None


class Need(NamedTuple):
    """A record that a figure reads: what a question found in a run.

    The run is named by the size of its training sets or, where it is none of sequences, by the question that makes it.
    """

    question: str
    run: str = MIDDLE

    @property
    def trained(self) -> "Need":
        return Need(ONSET if self.run in SIZES else self.run, self.run)


def needs(*read: Need) -> Callable[[Callable[..., Figure]], Callable[..., Figure]]:
    """Says of a figure what it reads; the runs that questions are put to are needed too."""

    def say(figure: Callable[..., Figure]) -> Callable[..., Figure]:
        vars(figure)["needs"] = frozenset(read) | {need.trained for need in read}
        return figure

    return say


class Records(NamedTuple):
    """All records of a preset, in a folder; `registry` has what there is to know of each question by its name."""

    folder: Path
    preset: str
    registry: Mapping[str, Any]

    def points(self, question: str) -> list[Point]:
        """The runs that a question makes, in its folder."""
        trained, made = (self.registry[name].presets[self.preset] for name in (ONSET, question))
        return made.points(trained)

    def number(self, size: str) -> int:
        """Which run of the sweep over sizes the small or the large one is: the first or the last of one grammar."""
        points = self.points(SWEEP)
        numbers = [i for i, point in enumerate(points) if point.config.seed == points[0].config.seed]
        return numbers[0 if size == SMALL else -1]

    @property
    def sizes(self) -> dict[str, int]:
        points, middle = self.points(SWEEP), self.registry[ONSET].presets[self.preset].size
        return {size: middle if size == MIDDLE else points[self.number(size)].config.size for size in SIZES}

    def run(self, run: str) -> Path:
        """The folder of a run. That of the middle size is the default run, the others are of a sweep."""
        if run == MIDDLE:
            return self.folder / f"{self.preset}-0"
        if run in SIZES:
            return self.run(SWEEP) / self.points(SWEEP)[self.number(run)].name
        return self.folder / (f"{run}-{self.preset}" if self.apart(run) else f"{run}-{self.preset}-0")

    def of_runs(self, question: str) -> bool:
        """Whether a question makes several runs, in its folder."""
        return self.registry[question].of == "runs"

    def apart(self, question: str) -> bool:
        """Whether what a question finds belongs to no one run: it makes several, or goes on from nothing."""
        return self.of_runs(question) or self.registry[question].of == "nothing"

    def read(self, question: str, run: str = MIDDLE) -> Any:
        """What a question found in a run, means and their errors, or in several runs that it made."""
        return read(self.file(Need(question, run)))

    def summary(self, run: str = MIDDLE) -> dict[str, Any]:
        return read(self.run(run) / "summary.json")

    def read_at(self, run: str = MIDDLE) -> dict[str, float]:
        """The steps at which one run is read: the turning point and best, where they are located, and the end."""
        return {
            **{name: found["step"] for name, found, _ in style.landmarks(self.summary(run)) if name in style.MINIMA},
            "the end": float(self.summary(run)["steps"]),
        }

    def file(self, need: Need) -> Path:
        of_run = f"{need.question}.json" if self.apart(need.question) else "curves.nc"
        return self.run(need.run) / (of_run if need == need.trained else f"{need.question}.curves.nc")

    def there(self, need: Need) -> bool:
        """Whether a record is there: of a run, the summary is written last, and what a question adds to it last."""
        if not self.file(need).exists():
            return False
        if self.apart(need.question):
            return True
        return (self.run(need.run) / "summary.json").exists() and (
            need == need.trained or need.question in self.summary(need.run)
        )

    def in_order(self, needs: Collection[Need]) -> list[Need]:
        runs, questions = (*SIZES, *self.registry), list(self.registry)
        return sorted(needs, key=lambda need: (runs.index(need.run), questions.index(need.question)))

    def command(self, question: str, run: str, *options: object) -> tuple[str, ...]:
        """The name of a question, and what it is told."""
        known = ("--preset", self.preset, *OPTIONS.get((question, self.preset), ()))
        place = ("--run" if self.registry[question].of == "run" else "--out", self.run(run))
        return (question, *map(str, (*known, *options, *place)))

    def job(self, need: Need) -> tuple[tuple[str, ...], float]:
        """The command that makes a record, and the minutes it takes beside the five of the default run.

        What a run asks at its end is made by the run.
        """
        question, run = need.trained if need.question in self.registry[need.trained.question].then else need
        minutes, options = self.registry[question].minutes, ()
        if run in (SMALL, LARGE):
            if question in (ONSET, *self.registry[SWEEP].presets[self.preset].then):
                return self.job_of(SWEEP, self.number(run))
            size = self.sizes[run]
            if size < getattr(self.registry[question].presets.get(self.preset), "targets", 0):
                options = ("--targets", size)
        return self.command(question, run, *options), minutes

    def job_of(self, question: str, number: int) -> tuple[tuple[str, ...], float]:
        """The command that makes one of the runs that a question makes, with what it asks of each."""
        steps = [point.config.train.steps for point in self.points(question)]
        minutes = self.registry[question].minutes * steps[number] / sum(steps)
        return self.command(question, question, "--job", number), minutes
