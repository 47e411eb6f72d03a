"""The command line of every question: its options are read first, then what it needs is imported."""

import argparse
import functools
import importlib.metadata
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from hierdiff.learning.devices import set_up_devices
from hierdiff.questions import QUESTIONS, Entry, plugins
from hierdiff.questions.configs import Both
from hierdiff.runs import saying
from hierdiff.runs.command_line import Parser, parse_config


def command(name: str) -> Callable[..., None]:
    """The `main` of `python -m experiments.NAME`."""
    return functools.partial(ask, name, prog=f"python -m experiments.{name}")


def main() -> None:
    """`hierdiff NAME`: any question, those of plugins too."""
    parser = Parser(prog="hierdiff", description="Asks a question of diffusion networks and their exact scores.")
    with parser.one_sentence():
        load_plugins(parser, sys.argv[2:])
    parser.add_argument("question", choices=QUESTIONS, metavar="NAME", help=f"one of {', '.join(QUESTIONS)}")
    name = parser.parse_all(sys.argv[1:2]).question
    ask(name, sys.argv[2:], prog=f"hierdiff {name}")


def load_plugins(parser: Parser, argv: list[str] | None) -> None:
    """Register what installed packages bring, their entry points `hierdiff`, and the modules that `--plugin` names."""
    meaning = "module with processes, networks, optimizers or questions of your own"
    parser.add_argument("--plugin", action="append", default=[], metavar="MODULE", help=meaning)
    installed = [point.value for point in importlib.metadata.entry_points(group="hierdiff")]
    for name in installed + parser.parse_known_args(argv)[0].plugin:
        plugins.load(name)


def ask(name: str, argv: list[str] | None = None, *, prog: str) -> None:
    parser = Parser(prog=prog)
    with parser.one_sentence():
        load_plugins(parser, argv)
        entry = QUESTIONS[name]
        parser.description, presets = entry.asks, entry.presets
        folder = add_folders(name, entry, parser, argv)
        if folder and entry.of in ("run", "runs"):
            trainings = QUESTIONS[entry.training].presets
            presets = {preset: Both(training=trainings[preset], own=own) for preset, own in presets.items()}
        config, options = parse_config(parser, presets, "laptop", argv)
        training = getattr(config, "training", config)
        if folder:
            noise = "" if getattr(training, "process", "gaussian") == "gaussian" else f"{training.process}-"
            named = folder.format(preset=options.preset, seed=getattr(training, "seed", 0), noise=noise)
            options.out = options.out or Path("runs", named)
        set_up_devices(distributed=getattr(options, "distributed", False))
        saying.be_quiet(options.quiet)
        if entry.of == "run" and folder:
            how = {"resume": "auto", "plan": False, "report": options.report}
            answer(entry.training, config.training, out=options.out, **how)
            config, options.run = config.own, options.out
        answer(name, config, **vars(options))
        if entry.of == "training" and training.train.snapshots and not options.plan:
            for following in entry.then:
                answer(following, getattr(training, following), run=options.out, report=options.report)


def answer(name: str, config: Any, *, report: str = "on", **options: Any) -> None:
    """Have a question answered, and the records in its folder made into a report."""
    entry = QUESTIONS[name]
    pkgutil.resolve_name(entry.module).answer(config, argparse.Namespace(entry=entry, **options))
    if report == "on" and not options.get("plan") and jax.process_index() == 0:
        write_report(options.get("run") or options["out"])


def write_report(folder: Path) -> None:
    """Write the report of what is in `folder`; where that fails, the records are as good."""
    try:
        saying.remark(*pkgutil.resolve_name("hierdiff.pictures.report").write(folder, QUESTIONS))
    # What somebody's installation of what draws may raise is not known.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"the report cannot be written ({reason}); the results are whole", file=sys.stderr)


def add_folders(name: str, entry: Entry, parser: Parser, argv: list[str] | None) -> str:
    """Let a question be told about its folder; gives the default name of the one that it makes, empty if none."""
    parser.add_argument("--report", choices=("on", "off"), default="on", help="write report.html into the folder")
    parser.add_argument("--quiet", action="store_true", help="print the tables and errors alone")
    if entry.of != "nothing":
        meaning = (
            "join the processes of this Slurm job, TPU slice or Kubernetes JobSet, which share the folder of the run"
        )
        parser.add_argument("--distributed", action="store_true", help=meaning)
    if entry.of == "run":
        alone = name in QUESTIONS[entry.training].then
        without = "" if alone else " (default: train first)"
        parser.add_argument(
            "--run", type=Path, help=f"folder of a finished run of experiments.{entry.training}{without}"
        )
        if alone or parser.parse_known_args(argv)[0].run:
            return ""
    trained = entry.training if entry.of == "run" else name
    seed = "-{seed}" if entry.of in ("training", "run") else ""
    folder = "{noise}" + ("" if trained == "onset" else f"{trained}-") + "{preset}" + seed
    shown = folder.format(noise="", preset="PRESET", seed="SEED")
    parser.add_argument("--out", type=Path, help=f"folder of the run (default: runs/{shown})")
    if entry.of == "training":
        meaning = "go on with a run that was left (auto: if there is one; never: start anew, and discard it)"
        parser.add_argument("--resume", choices=("auto", "never", "must"), default="auto", help=meaning)
        parser.add_argument("--plan", action="store_true", help="say what the run will cost, and do not carry it out")
    return folder
