"""How do the landmarks move with an option? The run at every combination of some values of its options, and the laws.

Each run has a folder of its own, and what is there is not made again. Several workers may carry out the same sweep at
the same time: each run is made by one, skipped by the others, and gone on with by another if its worker dies.
"""

import argparse
import contextlib
import itertools
import math
import pkgutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from hierdiff.learning.devices import of_first_process
from hierdiff.questions import QUESTIONS, laws, training
from hierdiff.questions.answers import leave
from hierdiff.questions.configs import Both
from hierdiff.questions.laws import Swept
from hierdiff.questions.snapshots import extend
from hierdiff.runs import record, saying
from hierdiff.runs.checkpoint import HeldError
from hierdiff.runs.sweep import Point, typed
from hierdiff.statistics.landmarks import Landmark
from hierdiff.statistics.words import aligned, interval, with_error
from hierdiff.worlds.finished import open_run

# How the progress looks in a terminal, and the share of the work by which its pace is known.
BAR, KNOWN = "{percentage:3.0f}%|{bar}| {elapsed} so far{postfix}", 0.02
TRAINING = QUESTIONS["onset"]


def answer(config: Both, options: argparse.Namespace) -> None:
    """Make the runs, and say what they have in common; a table, and `sweep.json` in the folder of all runs."""
    if points := make(config, options):
        rows = [row(point, record.read_json(options.out / point.name / "summary.json")) for point in points]
        runs = [Swept(point.values, point.config.seed, options.out / point.name) for point in points]
        found = [{"of": of, "at": at, **each._asdict()} for of, at, each in laws_of(config, runs)]
        lines = aligned(map(cells, rows))
        for each in found:
            where = ", ".join(f"{name} {text}" for name, text in typed(each["at"]).items())
            lines += ["", *([f"at {where}:"] if where else []), *each["lines"]]
        words = " ".join(each["sentence"] for each in found)
        leave(options.out / "sweep.json", config, lines, words, points=rows, laws=found)


class Job(NamedTuple):
    """What is to be done for a point: a run in its folder, and questions to it; and the minutes that each takes."""

    point: Point
    folder: Path
    asked: dict[str, Any]
    minutes: list[float]

    def done(self) -> bool:
        """Whether the run has come to its end, and all is answered as it would be now."""
        if not record.finished(self.folder, "out"):
            return False
        summary = record.read_json(self.folder / "summary.json")
        return all(
            name in summary and record.made_with(self.folder / f"{name}.curves.nc", question)
            for name, question in self.asked.items()
        )

    def do(self, show: Callable[[float], None]) -> None:
        """Do what is left of it; `show` is told the minutes of what is done.

        Raises:
          HeldError: another worker is doing it.
        """
        world, ends = pkgutil.resolve_name(TRAINING.world), [*itertools.accumulate(self.minutes)]

        def part(number: int) -> contextlib.AbstractContextManager[None]:
            return saying.part(lambda share: show(ends[number] - (1 - share) * self.minutes[number]))

        with part(0):
            if not of_first_process(record.finished(self.folder, "out")):
                training.train(self.point.config, world.set_up(self.point.config), self.folder)
        for number, (name, question) in enumerate(self.asked.items(), 1):
            with part(number):
                extend(pkgutil.resolve_name(QUESTIONS[name].module), open_run(self.folder, world), question)


def make(config: Both, options: argparse.Namespace) -> list[Point]:
    """Make the runs of a question, or the one that `options.job` names, and put questions to each.

    Returns all, once they are there; none while others are making some, or where one was asked for.

    Raises:
      FloatingPointError: the losses of some are not finite; all others are there.
      HeldError: the one that was asked for is being made by another worker.
    """
    points = config.own.points(config.training)
    jobs = [job_of(point, config, options) for point in (points if options.job is None else [points[options.job]])]
    left, failed, took = [job for job in jobs if not of_first_process(job.done())], [], True
    whole, begun, start = minutes_of(jobs), minutes_of(left), time.monotonic()

    def show(more: float = 0.0) -> None:
        ahead = minutes_of(left) - more
        made = begun - ahead
        seconds = ahead * (time.monotonic() - start) / made if made > KNOWN * begun else math.inf
        number = min(len(jobs) - len(left) + 1, len(jobs))
        shown(100 * (1 - ahead / whole), seconds, run=f"{number} of {len(jobs)}")

    with saying.progress(100, "percent", BAR) as shown:
        show()
        # Round and round: one that another worker had may be free now.
        while took:
            took = False
            for job in list(left):
                try:
                    if not of_first_process(job.done()):
                        job.do(show)
                except HeldError:
                    # It is this one or none; of several processes that are one worker, the others do not know.
                    if options.job is not None or jax.process_count() > 1:
                        raise
                    continue
                except FloatingPointError as error:
                    failed.append(f"{job.point.name}: {error}")
                left.remove(job)
                took = True
                show()
    if failed:
        raise FloatingPointError("; ".join(failed))
    if left:
        names = ", ".join(job.point.name for job in left)
        saying.remark(f"other workers are making {names}; the same command gathers all runs once they are there")
    return points if options.job is None and not left else []


def minutes_of(jobs: list[Job]) -> float:
    return math.fsum(minutes for job in jobs for minutes in job.minutes)


def job_of(point: Point, config: Both, options: argparse.Namespace) -> Job:
    def work(run: Any) -> int:
        return run.train.steps * run.train.batch * len(run.set_of)

    asked = options.entry.asked(config.own, point.config, options.preset)
    minutes = TRAINING.minutes * work(point.config) / work(TRAINING.presets[options.preset])
    return Job(point, options.out / point.name, asked, [minutes, *(QUESTIONS[name].minutes for name in asked)])


def row(point: Point, summary: dict[str, Any]) -> dict[str, Any]:
    """What the record says of a run: its landmarks, and the excess loss at the turning point and at best."""
    names = ("onset", "memorization", "best", "ratio", "excess")
    return {
        "values": point.values,
        "seed": point.config.seed,
        "folder": point.name,
        **{name: summary[name] for name in names},
    }


def cells(row: dict[str, Any]) -> dict[str, str]:
    steps = {"turning point": "onset", "memorization": "memorization", "best": "best"}
    ratio, excess = row["ratio"]["ratio"], record.numbers(row["excess"])
    return {
        **typed(row["values"]),
        "seed": str(row["seed"]),
        **{name: interval(Landmark(**record.numbers(row[key]))) for name, key in steps.items()},
        "times": "-" if ratio is None else f"{ratio:.1f}",
        "excess loss at best": with_error(excess["at_best"], excess["at_best_error"], 3),
    }


def laws_of(config: Both, runs: list[Swept]) -> Iterator[tuple[str, dict[str, Any], laws.Found]]:
    """The laws over each option that has three values or more, numbers, for each combination of the others' values."""
    axes = config.own.axes(config.training)
    for number, places in enumerate(axes):
        # Of options that go together, the first.
        for of in [name for name in places[0] if is_scale([place[name] for place in places])][:1]:
            for others in itertools.product(*axes[:number], *axes[number + 1 :]):
                at = {name: value for place in others for name, value in place.items()}
                yield of, at, laws.found([run for run in runs if at.items() <= run.values.items()], of)


def is_scale(values: list[Any]) -> bool:
    """Whether these are three numbers or more, each once: what goes with one is then the same in all its runs."""
    return len({*values}) == len(values) >= 3 and all(isinstance(value, int | float) for value in values)
