"""The command line of every question: its options are read first, then what it needs is imported."""

import argparse
import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hierdiff.learning.devices import set_up_devices
from hierdiff.questions import OF_A_RUN, TRAINING
from hierdiff.questions.configs import PRESETS, Both
from hierdiff.runs.command_line import RESUME, Parser, parse_config


def command(name: str, doc: str | None) -> Callable[[list[str] | None], None]:
    """The `main` of `python -m experiments.NAME`; `doc` says what it does."""
    return functools.partial(ask, name, doc)


def ask(name: str, doc: str | None, argv: list[str] | None = None) -> None:
    """Read the options of a question, and have it answered."""
    parser = Parser(prog=f"python -m experiments.{name}", description=(doc or "").split("\n\n")[0])
    config, options = _reader(name)(name, parser, argv)
    with parser.one_sentence():
        set_up_devices(distributed=getattr(options, "distributed", False))
        importlib.import_module(f"hierdiff.questions.{name}").answer(config, options)


def _reader(name: str) -> Callable[[str, Parser, list[str] | None], tuple[Any, argparse.Namespace]]:
    if name in TRAINING:
        return _read_training
    if name in OF_A_RUN:
        return _read_of_a_run
    return {"stopping": _read_stopping, "benchmark": _read_benchmark}.get(name, _read)


def _read(name, parser, argv):
    return parse_config(parser, PRESETS[name], "laptop", argv)


def _read_training(name, parser, argv):
    kind = "" if name == "onset" else f"{name}-"
    parser.add_argument("--out", type=Path, help=f"folder of the run (default: runs/{kind}PRESET-SEED)")
    meaning = "go on with a run that was left (auto: if there is one; never: start anew, and discard it)"
    parser.add_argument("--resume", choices=RESUME, default="auto", help=meaning)
    meaning = "join the processes of this Slurm job, TPU slice or Kubernetes JobSet, which share the folder of the run"
    parser.add_argument("--distributed", action="store_true", help=meaning)
    parser.add_argument("--plan", action="store_true", help="say what the run will cost, and do not carry it out")
    config, options = _read(name, parser, argv)
    options.out = options.out or Path("runs") / f"{kind}{options.preset}-{config.seed}"
    return config, options


def _read_of_a_run(name, parser, argv):
    """About the run that `--run` names, or else one that is trained first."""
    parser.add_argument("--run", type=Path, help="folder of a finished run of experiments.onset (default: train first)")
    first = Parser(add_help=False)
    first.add_argument("--run", type=Path)
    if first.parse_known_args(argv)[0].run:
        return _read(name, parser, argv)
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/PRESET-SEED)")
    both, options = parse_config(parser, _with_training(name), "laptop", argv)
    options.out = options.out or Path("runs") / f"{options.preset}-{both.onset.seed}"
    return both, options


def _read_stopping(name, parser, argv):
    parser.add_argument("--out", type=Path, help="folder of all the runs (default: runs/stopping-PRESET)")
    config, options = parse_config(parser, _with_training(name), "laptop", argv)
    options.out = options.out or Path("runs") / f"stopping-{options.preset}"
    return config, options


def _with_training(name):
    return {preset: Both(onset=PRESETS["onset"][preset], own=own) for preset, own in PRESETS[name].items()}


def _read_benchmark(_, parser, argv):
    presets = PRESETS["onset"]
    parser.add_argument("--preset", choices=sorted(presets), default="laptop", help="whose network is trained")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_all(argv)
    return presets[options.preset], options
