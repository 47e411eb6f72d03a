"""Questions that are put to a finished run: a piece of work for each snapshot, and what the run's record gains."""

import argparse
import contextlib
import dataclasses
import itertools
import pkgutil
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from hierdiff.learning.devices import failing_together, of_first_process
from hierdiff.questions import QUESTIONS
from hierdiff.runs import record, saying
from hierdiff.runs.checkpoint import only_writer
from hierdiff.statistics.landmarks import Landmark
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import NOT_ESTIMATED, interval
from hierdiff.worlds.finished import Run, open_run, snapshots


class Answer(NamedTuple):
    """What the summary of a run gains by a question: a sentence, and under their names the numbers in it."""

    sentence: str
    numbers: dict[str, Any]


class Work(NamedTuple):
    """`measure` of the weights of a snapshot gives named arrays; `label` makes one record of those of all."""

    measure: Callable[[Any], dict[str, np.ndarray]]
    label: Callable[[list[dict[str, np.ndarray]]], xr.Dataset]


@dataclasses.dataclass(frozen=True)
class Question:
    """A question to the snapshots of a run.

    `work(run, config)` says what is measured; `summarise` what the run's summary gains; `table` the lines of a table of
    the curves, a row for each snapshot; `derive` adds to means, and to those of replicates, what is made of them;
    `means(run, results)` makes them.
    """

    name: str
    work: Callable[[Run, Any], Work]
    summarise: Callable[[Statistics], Answer]
    table: Callable[[xr.Dataset], list[str]]
    derive: Callable[[xr.Dataset], xr.Dataset] = lambda x: x
    means: Callable[[Run, xr.Dataset], Statistics] = lambda run, results: replicate(results.data_vars, run.sets_of)

    def statistics(self, run: Run, results: xr.Dataset) -> Statistics:
        return self.means(run, results).derive(self.derive)

    def answer(self, config: Any, options: argparse.Namespace) -> None:
        """Ask it of the run that `options` name, and print what is found."""
        world = pkgutil.resolve_name(QUESTIONS[options.entry.training].world)
        _, lines = extend(self, open_run(options.run, world), config)
        saying.answer(lines, options.run / f"{self.name}.curves.nc")


def extend(question: Question, run: Run, config: Any) -> tuple[Statistics, list[str]]:
    """Ask a question and add what is found to the record of the run; returns it, and the lines that say it.

    What was measured with the same options before is not measured again.
    """
    file, made = run.folder / f"{question.name}.results.nc", False
    with contextlib.ExitStack() as stack:
        with failing_together():
            if jax.process_index() == 0:
                stack.enter_context(only_writer(run.folder, "run"))
                record.tidy(run.folder)
                made = record.made_with(file, config)
        if not of_first_process(made):
            results = measure(question, run, config)
            with failing_together():
                record.write_results(file, results.assign_attrs(record.origin(config)))
        with failing_together():
            results = record.read_results(file)
            found = question.statistics(run, results)
            curves = found.curves().assign_attrs(results.attrs)
            record.write_results(run.folder / f"{question.name}.curves.nc", curves)
            answer, summary = question.summarise(found), record.read_json(run.folder / "summary.json")
            said = {"table": question.table(curves), "sentence": answer.sentence}
            summary[question.name] = record.as_json({**answer.numbers, **said})
            summary["agreement"] = agreed = agreement(summary, run.world.STORY.split_words)
            record.write_json(run.folder / "summary.json", summary)
            shutil.rmtree(run.folder / f"{question.name}.pieces", ignore_errors=True)
    if results.attrs.get("coincidences"):
        saying.remark(f"{results.coincidences} of the sequences that should be new turn up in a training set by chance")
    return found, [*said["table"], "", answer.sentence, agreed]


def measure(question: Question, run: Run, config: Any) -> xr.Dataset:
    """Measure each snapshot; each is kept in the folder of the run until all are there, and not measured again."""
    there, work = 0, question.work(run, config)
    with failing_together():
        files = record.pieces(run.folder, question.name, run.steps, config)
        there = len(list(itertools.takewhile(record.is_whole, files)))
    there = of_first_process(there)
    left = zip(files[there:], snapshots(run, run.steps[there:]), strict=True)
    with saying.progress(len(files), "snapshot") as show:
        show(there)
        for done, (file, weights) in enumerate(left, there + 1):
            found = work.measure(weights)
            with failing_together():
                record.write_arrays(file, found)
            show(done)
    return work.label([record.read_arrays(file) for file in files])


def agreement(summary: dict[str, Any], split: str) -> str:
    """The turning point and best beside the minima of other measures, where these have been measured: do they agree?

    The summary is that of a folder, in JSON, to which each question has added its part.
    """

    def minimum(found: dict[str, Any]) -> str:
        return interval(Landmark(**record.numbers(found)))

    found, since = [f"{split.removeprefix('the ')} {minimum(summary['onset'])}"], {}
    for name, of_pairs in (("neighbours", "paired"), ("samples", "apart")):
        if name in summary:
            found.append(f"difference of paired samples {minimum(summary[name][of_pairs])}")
            since["samples nearer to the own set"] = summary[name]["nearer_since"]
            tall = summary[name].get("copies_since", [])[1:]
            since |= {f"copies of blocks of height {row['height']}": row["step"] for row in tall}
    if "membership" in summary:
        since["membership"] = summary["membership"]["since"]
    none = NOT_ESTIMATED if summary["sets"] == 2 else "none"
    shown = "; ".join(f"{name} {none if step is None else f'{step:,.0f}'}" for name, step in since.items())
    found.append(f"test loss {minimum(summary['best'])}")
    return f"Minima, by measure: {'; '.join(found)}." + (f" Significant since step: {shown}." if since else "")
