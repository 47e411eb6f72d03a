"""The command line of every question: its options are read first, then what it needs is imported."""

import argparse
import functools
import importlib
import importlib.metadata
import pkgutil
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hierdiff import __version__, called
from hierdiff.errors import COUNTED, GOES_ON, Domain, in_one_line, require
from hierdiff.pictures.command import draw_all, draw_run, drawing
from hierdiff.questions import QUESTIONS, Entry, plugins
from hierdiff.questions.configs import AskedOfRun, Both
from hierdiff.runs import record
from hierdiff.runs.command_line import Parser, as_argument, parse_config


def command(name: str) -> Callable[..., None]:
    """The `main` of a question: what `python -m experiments.NAME` does, and `hierdiff NAME`."""
    return functools.partial(ask, name)


def main(argv: list[str] | None = None) -> None:
    """`hierdiff NAME`: any question, those of plugins too, and the figures."""
    argv = sys.argv[1:] if argv is None else argv
    parser = Parser(
        prog=called.form(),
        description="Asks a question of diffusion networks and their exact scores.",
        epilog=f"The options of a question are listed by {called.form('NAME')} --help.",
    )
    parser.add_argument("--version", action="version", version=f"hierdiff {__version__}", help="show the version")
    with parser.one_sentence():
        load_plugins(parser, argv)
    meaning = "print a script by which a shell completes names and options"
    parser.set_defaults(completion=None)
    parser.add_choice("--completion", ("bash", "zsh", "fish"), meaning, default=argparse.SUPPRESS)
    names = parser.add_subparsers(dest="name", metavar="NAME", title="questions, and figures of what is found")
    lines = {name: re.split(r"(?<=[.?!]) ", entry.asks)[0] for name, entry in QUESTIONS.items()}
    for name, line in {**lines, "figures": "Draws every figure, or the picture of a run anew."}.items():
        names.add_parser(name, help=line.replace("%", "%%"))
    options, rest = parser.parse_known_args(argv)
    if options.name == "figures":
        draw(rest)
    elif options.name:
        ask(options.name, rest)
    elif parser.parse_all(argv).completion:
        print(pkgutil.resolve_name("hierdiff.questions.completion:script")(parser, names.choices, options.completion))
    else:
        parser.print_help()


def draw(argv: list[str] | None = None) -> None:
    """`hierdiff figures`: those of a preset's runs or, with `onset`, the picture of one run."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["onset"]:
        draw_run(argv[1:])
    else:
        draw_all(QUESTIONS, argv)


def load_plugins(parser: Parser, argv: list[str] | None) -> None:
    """Register what installed packages bring, their entry points `hierdiff`, and the modules that `--plugin` names."""
    meaning = "module with processes, networks, optimizers or questions of your own"
    parser.set_defaults(plugin=[])
    parser.add_argument("--plugin", action="append", default=argparse.SUPPRESS, metavar="MODULE", help=meaning)
    installed = [point.value for point in importlib.metadata.entry_points(group="hierdiff")]
    for name in installed + parser.parse_known_args(argv)[0].plugin:
        plugins.load(name)


def ask(name: str, argv: list[str] | None = None) -> None:
    """Read the options of a question, and answer it."""
    parser, options = Parser(prog=called.form(name)), argparse.Namespace()
    with parser.one_sentence(lambda: kept(options)):
        load_plugins(parser, argv)
        entry = QUESTIONS[name]
        config, options = read(name, entry, parser, argv)
        if getattr(options, "list_jobs", False):
            print("\n".join(jobs(name, config, argv)))
            return
        require_folders(entry, config, options)
        # What is imported from here on takes long.
        pkgutil.resolve_name("hierdiff.learning.devices:set_up_devices")(distributed=options.distributed)
        pkgutil.resolve_name("hierdiff.runs.saying:be_quiet")(options.quiet)
        if entry.of == "run" and options.out:
            how = {"resume": "auto", "plan": False, "report": options.report}
            answer(entry.training, config.training, out=options.out, **how)
            config, options.run = config.own, options.out
        answer(name, config, **vars(options))
        if entry.of == "training" and config.train.snapshots and not options.plan:
            for following in entry.then:
                answer(following, getattr(config, following), run=options.out, report=options.report)


def read(name: str, entry: Entry, parser: Parser, argv: list[str] | None) -> tuple[Any, argparse.Namespace]:
    """The config and the other options of a question, `out` among them, the folder that it makes, if it makes one.

    Raises:
      ValueError: an option will not do.
    """
    parser.description, presets = entry.asks, entry.presets
    parser.set_defaults(distributed=False, out=None)
    folder = add_folders(name, entry, parser, argv)
    if folder and entry.of in ("run", "runs"):
        trainings = QUESTIONS[entry.training].presets
        presets = {preset: Both(training=trainings[preset], own=own) for preset, own in presets.items()}
    config, options = parse_config(parser, presets, "laptop", argv)
    if entry.of == "runs":
        for point in config.own.points(config.training):
            for question in entry.asked(config.own, point.config, options.preset).values():
                Both(training=point.config, own=question)
    if folder and options.out is None:
        training = getattr(config, "training", config)
        noise = "" if getattr(training, "process", "gaussian") == "gaussian" else f"{training.process}-"
        seed = getattr(training, "seed", 0)
        options.out = Path("runs", folder.format(preset=options.preset, seed=seed, noise=noise))
    return config, options


def jobs(name: str, config: Both, argv: list[str] | None) -> list[str]:
    """A command for each of the runs that a question makes."""
    words = [word for word in (sys.argv[1:] if argv is None else argv) if word != "--list-jobs"]
    numbers = range(len(config.own.points(config.training)))
    return [f"{called.form(name)} {called.quoted([*words, '--job', str(number)])}" for number in numbers]


def require_folders(entry: Entry, config: Any, options: argparse.Namespace) -> None:
    """Raise `OptionError` where the folders of a question will not do, as far as that can be seen in no time.

    Those are the folders of the runs that it makes, and that of the run that it is put to, which must fit the question.
    """
    if entry.of == "run" and not options.out:
        training = type(QUESTIONS[entry.training].presets["laptop"])()
        need = f"the {called.finished_run(entry.training)}"
        require(options.run is not None, "run", "nothing", need)
        found = record.read_finished(options.run, training, entry.training)
        if isinstance(config, AskedOfRun):
            config.require_run(found)
    elif entry.of in ("run", "training") and not getattr(options, "plan", False):
        record.require_own(options.out, getattr(config, "training", config))
    elif entry.of == "runs":
        points = config.own.points(config.training)
        need = f"the number of a run, from 0 to {len(points) - 1}"
        require(options.job is None or options.job in range(len(points)), "job", options.job, need)
        for point in points:
            record.require_own(options.out / point.name, point.config)


def answer(name: str, config: Any, *, report: str = "on", **options: Any) -> None:
    """Have a question answered, and a report made of the records in its folder."""
    entry = QUESTIONS[name]
    pkgutil.resolve_name(entry.module).answer(config, argparse.Namespace(entry=entry, **options))
    folder = options.get("run") or options["out"]
    # Several runs are reported once they are gathered.
    there = entry.of != "runs" or (folder / f"{name}.json").exists()
    if report == "on" and not options.get("plan") and there:
        write_report(folder)


def write_report(folder: Path) -> None:
    """Write the report of what is in `folder`; where that fails, the records are as good."""
    saying = importlib.import_module("hierdiff.runs.saying")
    if saying.in_first_process():
        try:
            saying.remark(*drawing("report").write(folder, QUESTIONS))
        # What somebody's installation of what draws may raise is not known.
        except Exception as error:
            print(f"the report cannot be written: {in_one_line(error)}; the results are whole", file=sys.stderr)


def kept(options: argparse.Namespace) -> str:
    """What there is of a question that was stopped."""
    folder = getattr(options, "run", None) or getattr(options, "out", None)
    # Arrays, or results.
    if not folder or not any(folder.rglob("*.n[pc]*")):
        return "nothing was saved, and the same command starts anew"
    saves = record.steps_in(folder / "state")
    what = f"the state of step {saves[-1]} is saved" if saves else "what was finished is saved"
    return f"{what} in {folder}, and {GOES_ON}"


def add_folders(name: str, entry: Entry, parser: Parser, argv: list[str] | None) -> str:
    """Let a question be told about its folder; gives the default name of the one that it makes, empty if none."""
    parser.add_choice("--report", ("on", "off"), "write report.html into the folder", default="on")
    parser.add_argument("--quiet", action="store_true", help="print the tables and errors alone")
    if entry.of != "nothing":
        meaning = (
            "join the processes of this Slurm job, TPU slice or Kubernetes JobSet, which share the folder of the run"
        )
        parser.add_argument("--distributed", action="store_true", help=meaning)
    if entry.of == "run":
        alone = name in QUESTIONS[entry.training].then
        without = "" if alone else " (default: train first)"
        parser.add_path("--run", f"{called.finished_run(entry.training)}{without}")
        if alone or parser.parse_known_args(argv)[0].run:
            return ""
    trained = entry.training if entry.of == "run" else name
    seed = "-{seed}" if entry.of in ("training", "run") else ""
    folder = "{noise}" + ("" if trained == "onset" else f"{trained}-") + "{preset}" + seed
    shown = folder.format(noise="", preset="PRESET", seed="SEED")
    parser.add_path("--out", f"folder of the run (default: runs/{shown})")
    if entry.of == "runs":
        parser.set_defaults(job=None)
        number = as_argument(Domain(type=int, least=0, most=COUNTED))
        meaning = "make one of the runs, counted from 0, and no more; without it all are made, or gathered"
        parser.add_argument("--job", default=argparse.SUPPRESS, help=meaning, **number)
        parser.add_argument("--list-jobs", action="store_true", help="print the command of each run, and stop")
    if entry.of == "training":
        meaning = "go on with a run that was left (auto: if there is one; never: start anew, and discard it)"
        parser.add_choice("--resume", ("auto", "never", "must"), meaning, default="auto")
    if entry.of == "training" or entry.plans:
        parser.add_argument("--plan", action="store_true", help="say what the run will cost, and do not carry it out")
    return folder
