"""Every figure, drawn from the records of a preset's runs; and these records, made if they are missing."""

import argparse
import functools
import importlib
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hierdiff import called
from hierdiff.errors import OptionError, handling, in_one_line
from hierdiff.pictures import style
from hierdiff.pictures.command import albums
from hierdiff.pictures.records import LARGE, MIDDLE, ONSET, SMALL, SWEEP, Need, Records, read
from hierdiff.runs import record, saying


def make(registry: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Draw the figures asked for, make their records first, or say which commands make all records."""
    records = Records(options.runs, options.preset, registry)
    out = options.out or options.runs / f"figures-{options.preset}"
    if options.list_jobs:
        print("\n".join(independent_jobs(records)))
        return
    modules = albums(registry)
    figures = {name: getattr(importlib.import_module(modules[name]), name) for name in options.figures or modules}
    if options.run_missing:
        run_missing(records, set().union(*(figure.needs for figure in figures.values())))
    record.require_writable("out", out)
    drawn = [draw(name, figure, records, out) for name, figure in figures.items()]
    if not all(drawn):
        raise SystemExit(1)


def draw(name: str, figure: Any, records: Records, out: Path) -> bool:
    """Draw one figure as PDF and PNG, or say what is wrong with the records that it needs and what makes them."""
    needs = records.in_order(figure.needs)
    try:
        missing = [need for need in needs if not records.there(need)]
        for need in missing:
            command, _ = records.job(need)
            print(f"{name}: {records.file(need)} is missing; this makes it: {shell(command)}")
        if not missing:
            origins = [style.origin(records.file(need), records.read(*need)) for need in needs]
            style.save(lambda: figure(records), [out / f"{name}.pdf", out / f"{name}.png"], origins)
            print(out / f"{name}.png")
    except OptionError as error:
        print(f"{name}: {error.got}: needs {error.need}")
        return False
    # One that cannot be drawn, or whose record cannot be read now, is no reason not to draw the others.
    except Exception as error:
        print(f"{name}: cannot be drawn: {in_one_line(error)}")
        return False
    return not missing


def shell(job: tuple[str, ...]) -> str:
    """The command of a job, for a shell."""
    question, *options = job
    return f"{called.form(question)} {called.quoted(options)}"


def run_missing(records: Records, needs: Collection[Need]) -> None:
    """Carry out the jobs whose records are missing, one after another; each goes on from where it was left.

    What they print goes to a log; the progress of all of them together is shown.

    Raises:
      SystemExit: a job has failed; with its exit status.
    """
    # One run may make several records.
    jobs = dict(records.job(need) for need in records.in_order(needs) if not records.there(need))
    record.require_writable("runs", records.folder)
    log = records.folder / f"figures-{records.preset}.log"
    done, start = 0.0, time.monotonic()
    # Until the first job has come to its end, nothing is known but how long the laptop preset's take.
    pace = 1.0 if records.preset == "laptop" else math.inf
    form = "{percentage:3.0f}%|{bar}| {elapsed} so far{postfix}"
    whole = sum(jobs.values())
    with saying.progress(whole, "minute", form) as show:
        for number, (command, minutes) in enumerate(jobs.items(), 1):
            report = functools.partial(left, show, whole, minutes, done, pace)
            tqdm.write(f"job {number} of {len(jobs)}, {report(0.0)}: {shell(command)}")
            sys.stdout.flush()
            try:
                carry_out(command, log, report)
            except SystemExit as stop:
                tqdm.write(
                    f"stopped: the job ended with status {stop.code}; {log} says why\n"
                    "the same command goes on from there",
                    file=sys.stderr,
                )
                raise
            done += minutes
            # Some take no time worth naming.
            pace = (time.monotonic() - start) / 60 / done if done else pace
    # What a job has added to a file was not there when the file was read.
    read.cache_clear()


def left(show: Callable[..., None], whole: float, most: float, done: float, pace: float, taken: float) -> str:
    """Show how much is left, and say it, while a job runs: `taken` are its minutes so far.

    It is to take `most` minutes of the `whole`, those before it took `done`, by estimates each minute of which takes
    `pace` minutes.
    """
    so_far = done + min(taken / pace, most)
    seconds = 60 * (whole - so_far) * pace
    show(so_far, seconds)
    return saying.time_left(seconds)


def carry_out(command: tuple[str, ...], log: Path, report: Callable[[float], object]) -> None:
    """Carry a job out; `report` is told the minutes that it has taken so far.

    A job is ended with the program: SIGTERM is passed on, and waited for.

    Raises:
      SystemExit: the job has failed, or SIGTERM has come; with the exit status, as a shell gives it.
    """
    question, *options = command
    start = time.monotonic()
    with (
        handling(lambda number, _: sys.exit(128 + number), signal.SIGTERM),
        log.open("a") as output,
        subprocess.Popen([*called.start(question), *options], stdout=output, stderr=output) as process,
    ):
        try:
            while process.poll() is None:
                report((time.monotonic() - start) / 60)
                time.sleep(1)
        finally:
            process.terminate()
    if process.returncode:
        raise SystemExit(process.returncode if process.returncode > 0 else 128 - process.returncode)


def independent_jobs(records: Records) -> list[str]:
    """Commands for a shell, each of which can run beside the others; `--run-missing` then gathers what they made."""
    known = records.registry.items()

    def chain(run: str) -> list[tuple[str, ...]]:
        """What makes a run, and the questions to it that it does not ask itself, if there are figures of any."""
        training = Need("", run).trained.question
        asked = [name for name, each in known if each.of == "run" and each.training == training]
        drawn = any(records.registry[each].pictures for each in (training, *asked))
        jobs = [records.job(Need(question, run))[0] for question in (training, *asked)]
        return [*dict.fromkeys(jobs)] if drawn else []

    def chains() -> Iterator[list[tuple[str, ...]]]:
        ends = {records.number(size): chain(size) for size in (SMALL, LARGE)}
        for name, entry in known:
            if entry.of == "training":
                yield chain(MIDDLE if name == ONSET else name)
            elif entry.of == "nothing" and entry.pictures:
                yield [records.job(Need(name, name))[0]]
            elif entry.of == "runs":
                for number in range(len(records.points(name))):
                    alone = [records.job_of(name, number)[0]]
                    yield ends.get(number, alone) if name == SWEEP else alone

    return [" && ".join(map(shell, each)) for each in chains() if each]
