"""The records that the figures are drawn from, and the commands that make them."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from hierdiff.errors import OptionError
from hierdiff.pictures import style
from hierdiff.runs import record
from hierdiff.statistics.groups import GROUPS

SMALL, MIDDLE, LARGE = SIZES = ("small", "middle", "large")
ONSET, STOPPING = "onset", "stopping"
# The run on images, where others are named by their size, and what it asks of its samples.
IMAGES, SAMPLES = "images", "samples"
# The questions that are put to a finished run, with the minutes each takes beside the ten of the default run.
QUESTIONS = {"noise": 2.0, "neighbours": 4.0, "membership": 2.0, "losses": 1.0, "uturn": 4.0}
IMAGES_MINUTES = 17.0


class Scale(NamedTuple):
    """The sizes of a preset: those of the training sets, with the steps that make the same number of epochs of each.

    `targets` are the training sequences that some questions are put to in that preset; then come the sizes and options
    of the comparison of stopping rules, and the options of the run on images.
    """

    sizes: dict[str, int]
    steps: dict[str, int]
    targets: dict[str, int]
    stopping_sizes: tuple[int, ...]
    stopping_options: tuple[str, ...]
    image_options: tuple[str, ...]


PRESETS = {
    "smoke": Scale(
        {SMALL: 150, MIDDLE: 200, LARGE: 300},
        {SMALL: 450, MIDDLE: 600, LARGE: 900},
        {"membership": 200, "losses": 200},
        (200,),
        (),
        (),
    ),
    "laptop": Scale(
        {SMALL: 300, MIDDLE: 1000, LARGE: 3000},
        {SMALL: 3000, MIDDLE: 10_000, LARGE: 30_000},
        {"membership": 1000, "losses": 500},
        (300, 1000),
        ("--sets", "2"),
        (),
    ),
    "paper": Scale(
        {SMALL: 5000, MIDDLE: 12_000, LARGE: 70_000},
        {SMALL: 292_969, MIDDLE: 703_125, LARGE: 4_101_563},
        {"membership": 10_000, "losses": 4000},
        (5000, 12_000),
        (),
        ("--data-dir", "CelebA/img_align_celeba"),
    ),
}
STOPPING_SEEDS = (0, 1, 2)


def whole(read: Callable[[Path], Any]):
    """`read`, which reads each file once for all figures, and says which one is damaged."""

    def read_whole(path: Path) -> Any:
        try:
            return read(path)
        except record.UNREADABLE:
            need = (
                "a whole record; this one is damaged. A run is made anew with its command and --resume never, what a "
                "question or the comparison of stopping rules has left once the file is taken away"
            )
            raise OptionError("runs", str(path), need) from None

    return functools.cache(read_whole)


read_results, read_json = whole(record.read_results), whole(record.read_json)


class Need(NamedTuple):
    """A record that a figure reads: the question, and the size of the training sets that it was put to."""

    question: str
    size: str = MIDDLE


class Job(NamedTuple):
    """What makes a record (after `python -m`), and the minutes it takes beside the ten of the default run."""

    command: tuple[str, ...]
    minutes: float


class Records(NamedTuple):
    """All records of a preset, in a folder."""

    folder: Path
    preset: str

    def run(self, size: str) -> Path:
        """The folder of a run. That of the middle size is the default run."""
        if size == IMAGES:
            return self.folder / f"images-{self.preset}-0"
        name = 0 if size == MIDDLE else f"size-{self.scale.sizes[size]}"
        return self.folder / f"{self.preset}-{name}"

    @property
    def scale(self) -> Scale:
        return PRESETS[self.preset]

    def curves(self, size: str, question: str = ONSET) -> xr.Dataset:
        """The means and their errors of one question to one run."""
        return read_results(self.file(Need(question, size)))

    def summary(self, size: str) -> dict[str, Any]:
        """The summary of one run."""
        return read_json(self.run(size) / "summary.json")

    def read_at(self, size: str) -> dict[str, float]:
        """The steps at which one run is read: the onset and best, where they are reached, and the end."""
        summary = self.summary(size)
        steps = {name: summary[name]["step"] for name in ("onset", "best") if summary[name]["reached"]}
        return {**steps, "the end": float(summary["steps"])}

    def samples(self) -> xr.Dataset:
        """The images that were generated in the run on images."""
        return read_results(self.run(IMAGES) / "samples.results.nc")

    def stopping(self) -> dict[str, Any]:
        """The comparison of stopping rules."""
        return read_json(self.file(Need(STOPPING)))

    def file(self, need: Need) -> Path:
        """Where a record lies."""
        if need.question == STOPPING:
            return self.folder / f"stopping-{self.preset}" / "stopping.json"
        return self.run(need.size) / ("curves.nc" if need.question == ONSET else f"{need.question}.curves.nc")

    def origin(self, need: Need) -> str:
        """What made a record."""
        path = self.file(need)
        return style.origin(path, read_json(path) if need.question == STOPPING else read_results(path).attrs)

    def there(self, need: Need) -> bool:
        """Whether a record is there, the comparison of stopping rules with all of its runs.

        Of a run, the summary is written last, and what a question adds to it comes last there.
        """
        if not self.file(need).exists():
            return False
        if need.question == STOPPING:
            made = {(stop["seed"], stop["size"]) for stop in self.stopping()["stops"]}
            return made >= {(seed, size) for seed in STOPPING_SEEDS for size in self.scale.stopping_sizes}
        written = (self.run(need.size) / "summary.json").exists()
        return written and (need.question not in QUESTIONS or need.question in self.summary(need.size))

    def job(self, need: Need) -> Job:
        """The command that makes a record."""
        question, size = need
        scale, preset = self.scale, ("--preset", self.preset)
        if question == STOPPING:
            return self.stopping_job(STOPPING_SEEDS, scale.stopping_sizes)
        place = str(self.run(size))
        if size == IMAGES:
            return Job(("experiments.images", *preset, *scale.image_options, "--out", place), IMAGES_MINUTES)
        if question == ONSET:
            other = () if size == MIDDLE else ("--size", str(scale.sizes[size]), "--steps", str(scale.steps[size]))
            command = ("experiments.onset", *preset, *other, "--out", place)
            minutes = 2 + 8 * scale.steps[size] / scale.steps[MIDDLE]
            return Job(command, minutes)
        targets = scale.sizes[size] // GROUPS * GROUPS
        few = ("--targets", str(targets)) if targets < scale.targets.get(question, 0) else ()
        command = (f"experiments.{question}", *preset, *few, "--run", place)
        return Job(command, QUESTIONS[question])

    def stopping_job(self, seeds: tuple[int, ...], sizes: tuple[int, ...]) -> Job:
        """The comparison of stopping rules for some grammars and sizes, each of which is a run of its own."""
        numbers = ("--seeds", *map(str, seeds), "--sizes", *map(str, sizes))
        command = ("experiments.stopping", "--preset", self.preset, *self.scale.stopping_options, *numbers)
        place = str(self.file(Need(STOPPING)).parent)
        minutes = len(seeds) * sum(3 + 5 * size / self.scale.stopping_sizes[-1] for size in sizes)
        return Job((*command, "--out", place), minutes)


def in_order(needs: set[Need]) -> list[Need]:
    """Records in the order in which they are made, with the runs that the questions are put to."""
    runs = {Need(ONSET, need.size) for need in needs if need.question != STOPPING}
    every = [Need(question, size) for size in SIZES for question in (ONSET, *QUESTIONS)]
    every += [Need(STOPPING), Need(ONSET, IMAGES), Need(SAMPLES, IMAGES)]
    return [need for need in every if need in needs | runs]
