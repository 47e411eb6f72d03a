"""What the scripts share that go on from a finished run: their command line, and what they add to its record."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr
from tqdm import tqdm

from experiments import onset
from hierdiff import record
from hierdiff.devices import set_up_devices
from hierdiff.laboratory import OnsetConfig
from hierdiff.measures.probe import require_size
from hierdiff.options import Parser, parse_config, require
from hierdiff.replicates import Statistics
from hierdiff.resume import only_writer
from hierdiff.run import Run, open_run
from hierdiff.summary import agreement


class Question(NamedTuple):
    """A question to the snapshots of a run.

    `measure(run, config, done)` gives the measurements and calls `done` after each snapshot; `statistics(run, results)`
    their means with replicates; `summarise` what the run's summary gains, with a sentence; `table` a row for each
    snapshot.
    """

    name: str
    presets: Mapping[str, Any]
    measure: Callable[[Run, Any, Callable[[], object]], xr.Dataset]
    statistics: Callable[[Run, xr.Dataset], Statistics]
    summarise: Callable[[Statistics], dict[str, Any]]
    table: Callable[[Statistics], str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Both:
    """The configs of an onset run and of the question that goes on from it."""

    onset: OnsetConfig
    own: Any

    def __post_init__(self):
        require(self.onset.train.snapshots > 0, "snapshots", self.onset.train.snapshots, "an integer of at least 1")
        for name in {"targets", "starts"} & set(vars(self.own)):
            require_size(name, getattr(self.own, name), self.onset.size)


def answer(question: Question, doc: str | None, argv: list[str] | None) -> None:
    """The command line of a question: about the run that `--run` names, or else one that is trained first."""
    parser = Parser(prog=f"python -m experiments.{question.name}", description=(doc or "").split("\n\n")[0])
    parser.add_argument("--run", type=Path, help="folder of a finished run of experiments.onset (default: train first)")
    first = Parser(add_help=False)
    first.add_argument("--run", type=Path)
    set_up_devices()
    folder = first.parse_known_args(argv)[0].run
    with parser.one_sentence():
        if folder:
            config, _ = parse_config(parser, question.presets, "laptop", argv)
        else:
            parser.add_argument("--out", type=Path, help="folder of the run (default: runs/PRESET-SEED)")
            presets = {name: Both(onset=onset.PRESETS[name], own=own) for name, own in question.presets.items()}
            both, options = parse_config(parser, presets, "laptop", argv)
            config, folder = both.own, options.out or Path("runs") / f"{options.preset}-{both.onset.seed}"
            onset.train(both.onset, folder)
        found, summary = extend(question, open_run(folder), config)
        print(f"\n{question.table(found)}\n\n{summary[question.name]['sentence']}\n{summary['agreement']}\n")
        print(folder / f"{question.name}.curves.nc")


def extend(question: Question, run: Run, config: Any) -> tuple[Statistics, dict[str, Any]]:
    """Ask a question and add what is found to the record of the run; returns it, and the run's whole summary.

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
        summary = record.read_json(run.folder / "summary.json") | {question.name: question.summarise(found)}
        summary["agreement"] = agreement(summary)
        record.write_json(run.folder / "summary.json", summary)
    return found, summary
