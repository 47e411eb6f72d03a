"""Every figure, drawn from the records of a preset's runs; and these records, made if they are missing."""

import argparse
import contextlib
import importlib
import math
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
from tqdm import tqdm

from hierdiff.errors import OptionError
from hierdiff.pictures import style
from hierdiff.pictures.command import FIGURES
from hierdiff.pictures.records import (
    IMAGES,
    ONSET,
    QUESTIONS,
    SIZES,
    STOPPING_SEEDS,
    Job,
    Need,
    Records,
    in_order,
    read_json,
    read_results,
)
from hierdiff.runs import record


def make(options: argparse.Namespace) -> None:
    """Draw the figures asked for, make their records first, or say which commands make all records."""
    modules = [importlib.import_module(f"hierdiff.pictures.{name}") for name in options.figures or FIGURES]
    records, out = Records(options.runs, options.preset), options.out or options.runs / f"figures-{options.preset}"
    if options.list_jobs:
        print("\n".join(independent_jobs(records)))
        return
    if options.run_missing:
        run_missing(records, modules)
    record.require_writable("out", out)
    drawn = [draw_or_say(module, records, out) for module in modules]
    if not all(drawn):
        raise SystemExit(1)


def draw_or_say(module: ModuleType, records: Records, out: Path) -> bool:
    """Draw one figure, or say what is wrong with the records that it needs."""
    name = module.__name__.rpartition(".")[2]
    try:
        return draw(name, module, records, out)
    except OptionError as error:
        print(f"{name}: {error.got}: needs {error.need}")
        return False


def draw(name: str, module: ModuleType, records: Records, out: Path) -> bool:
    """Draw one figure as PDF and PNG, or say which commands make what it needs."""
    missing = [need for need in in_order(module.NEEDS) if not records.there(need)]
    for need in missing:
        command = shlex.join(records.job(need).command)
        print(f"{name}: {records.file(need)} is missing; this makes it: python -m {command}")
    if missing:
        return False
    with style.in_style():
        figure = module.draw(records)
        paths = [out / f"{name}{suffix}" for suffix in (".pdf", ".png")]
        style.save(figure, paths, [records.origin(need) for need in in_order(module.NEEDS)])
        plt.close(figure)
    print(out / f"{name}.png")
    return True


def run_missing(records: Records, modules: list[ModuleType]) -> None:
    """Carry out the jobs whose records are missing, one after another; each goes on from where it was left.

    What they print goes to a log; the progress of all of them together is shown.

    Raises:
      SystemExit: a job has failed; with its exit status.
    """
    needs = in_order(set().union(*(module.NEEDS for module in modules)))
    # The run on images makes two records.
    jobs = list(dict.fromkeys(records.job(need) for need in needs if not records.there(need)))
    record.require_writable("runs", records.folder)
    log = records.folder / f"figures-{records.preset}.log"
    whole, done, start = sum(job.minutes for job in jobs), 0.0, time.monotonic()
    form = "{percentage:3.0f}%|{bar}| {elapsed} so far{postfix}"
    with tqdm(total=whole, bar_format=form, disable=None, dynamic_ncols=True) as bar:
        for number, job in enumerate(jobs, 1):
            # Until the first job has come to its end, nothing is known but how long the laptop preset's take.
            first = 1.0 if records.preset == "laptop" else math.nan
            pace = (time.monotonic() - start) / 60 / done if done else first

            def left(taken: float, job: Job = job, done: float = done, pace: float = pace) -> str:
                """Show how much is left, once this job has taken so many minutes, and say it."""
                known = math.isfinite(pace)
                bar.n = done + (min(taken / pace, job.minutes) if known else 0.0)
                minutes = (whole - bar.n) * pace
                bar.set_postfix_str(f"about {minutes:.0f} minutes left" if known else "time left not known yet")
                return str(bar.postfix)

            bar.write(f"job {number} of {len(jobs)}, {left(0.0)}: {shlex.join(job.command)}")
            sys.stdout.flush()
            status = carry_out(job, log, left)
            if status:
                bar.write(f"stopped: the job ended with status {status}; {log} says why", file=sys.stderr)
                bar.write("the same command goes on from there", file=sys.stderr)
                raise SystemExit(status)
            done += job.minutes
    # What a job has added to a file was not there when the file was read.
    read_json.cache_clear()
    read_results.cache_clear()


def carry_out(job: Job, log: Path, report: Callable[[float], object]) -> int:
    """The exit status of a job, as a shell gives it; `report` is told the minutes that it has taken so far.

    A job is ended with the program: SIGTERM is passed on, and waited for.
    """
    start = time.monotonic()
    with log.open("a") as output:
        process, came = subprocess.Popen([sys.executable, "-m", *job.command], stdout=output, stderr=output), False

        def stop(*_: object) -> None:
            nonlocal came
            came = True
            process.terminate()

        before = signal.signal(signal.SIGTERM, stop)
        try:
            while process.poll() is None:
                report((time.monotonic() - start) / 60)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
        finally:
            process.terminate()
            process.wait()
            signal.signal(signal.SIGTERM, before)
    if came:
        return 128 + signal.SIGTERM
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def independent_jobs(records: Records) -> list[str]:
    """Commands for a shell, each of which can run beside the others; `--run-missing` then gathers what they made."""
    chains = [[records.job(Need(question, size)) for question in (ONSET, *QUESTIONS)] for size in SIZES]
    chains += [
        [records.stopping_job((seed,), (size,))] for size in records.scale.stopping_sizes for seed in STOPPING_SEEDS
    ]
    chains.append([records.job(Need(ONSET, IMAGES))])
    return [" && ".join(f"python -m {shlex.join(job.command)}" for job in chain) for chain in chains]
