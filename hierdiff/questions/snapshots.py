"""What the questions share that go on from a finished run: what they are, and what they add to its record."""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import xarray as xr
from tqdm import tqdm

from hierdiff.questions import onset
from hierdiff.questions.configs import Both
from hierdiff.runs import record
from hierdiff.runs.checkpoint import only_writer
from hierdiff.statistics.landmarks import Landmark
from hierdiff.statistics.replicates import Statistics
from hierdiff.statistics.words import interval
from hierdiff.worlds.finished import Run, open_run


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the summary of a run gains by a question: a sentence, and under their names the numbers in it."""

    sentence: str
    numbers: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Question:
    """A question to the snapshots of a run.

    `measure(run, config, done)` gives the measurements and calls `done` after each snapshot; `statistics(run, results)`
    their means with replicates; `summarise` what the run's summary gains; `table` a row for each snapshot.
    """

    name: str
    measure: Callable[[Run, Any, Callable[[], object]], xr.Dataset]
    statistics: Callable[[Run, xr.Dataset], Statistics]
    summarise: Callable[[Statistics], Answer]
    table: Callable[[Statistics], str]

    def answer(self, config: Any, options: argparse.Namespace) -> None:
        """Ask it of the run that `options` name, or else of one that is trained first, and print what is found."""
        folder = options.run
        if isinstance(config, Both):
            onset.train(config.onset, options.out)
            config, folder = config.own, options.out
        found, words = extend(self, open_run(folder), config)
        print(f"\n{self.table(found)}\n\n{words}\n")
        print(folder / f"{self.name}.curves.nc")


def extend(question: Question, run: Run, config: Any) -> tuple[Statistics, str]:
    """Ask a question and add what is found to the record of the run; returns it, and what the summary says of it.

    What was measured with the same options before is not measured again.
    """
    file = run.folder / f"{question.name}.results.nc"
    with only_writer(run.folder, "run"):
        record.tidy(run.folder)
        if not record.made_with(file, config):
            with tqdm(total=len(run.steps), unit="snapshot", disable=None, dynamic_ncols=True) as bar:
                measured = question.measure(run, config, bar.update)
            record.write_results(file, measured.assign_attrs(record.origin(config)))
        results = record.read_results(file)
        seen = results.attrs.get("coincidences", 0)
        if seen:
            print(f"{seen} of the sequences that should be new turn up in a training set by chance")
        found = question.statistics(run, results)
        curves = found.curves().assign_attrs(results.attrs)
        record.write_results(run.folder / f"{question.name}.curves.nc", curves)
        answer, summary = question.summarise(found), record.read_json(run.folder / "summary.json")
        summary[question.name] = record.as_json({**answer.numbers, "sentence": answer.sentence})
        summary["agreement"] = agreed = agreement(summary)
        record.write_json(run.folder / "summary.json", summary)
    return found, f"{answer.sentence}\n{agreed}"


def agreement(summary: dict[str, Any]) -> str:
    """Onsets by other measures, where they have been measured, beside the onset by the sample split: do they agree?

    The summary is that of a folder, in JSON, to which each question has added its part.
    """

    def minimum(found: dict[str, Any]) -> str:
        return interval(record.from_json(Landmark, found))

    found, since = [f"sample split {minimum(summary['onset'])}"], {}
    if "neighbours" in summary:
        of_samples = summary["neighbours"]
        found.append(f"difference of paired samples {minimum(of_samples['paired'])}")
        since = {"samples nearer to the own set": of_samples["nearer_since"]}
        since |= {f"copies of blocks of height {row['height']}": row["step"] for row in of_samples["copies_since"][1:]}
    if "membership" in summary:
        since["membership"] = summary["membership"]["since"]
    shown = "; ".join(f"{name} {'none' if step is None else f'{step:,.0f}'}" for name, step in since.items())
    found.append(f"test loss {minimum(summary['best'])}")
    return f"Minima, by measure: {'; '.join(found)}." + (f" Significant since step: {shown}." if since else "")
