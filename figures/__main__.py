"""Every figure, drawn from the records of a preset's runs.

python -m figures                                   draw all
python -m figures spectrum                          draw one
python -m figures --run-missing --preset laptop     make what is missing first, then draw
python -m figures --list-jobs --preset paper        one command for each line, to run side by side
"""

import importlib
import shlex
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt

from figures import style
from figures.records import IMAGES, ONSET, PRESETS, QUESTIONS, SIZES, STOPPING_SEEDS, Need, Records, in_order
from hierdiff import record
from hierdiff.options import Parser

FIGURES = (
    "training",
    "set_sizes",
    "noise",
    "samples",
    "losses",
    "uturns",
    "other_sizes",
    "random_strings",
    "spectrum",
    "heights_and_noise",
    "memorization",
    "growth",
    "stopping",
    "image_training",
    "image_samples",
    "image_noise",
    "image_scales",
)


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = Parser(prog="python -m figures", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"which of {', '.join(FIGURES)} (default: all)")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="laptop", help="whose runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--out", type=Path, help="folder of the pictures (default: RUNS/figures-PRESET)")
    parser.add_argument("--run-missing", action="store_true", help="make the records that are missing, and then draw")
    parser.add_argument("--list-jobs", action="store_true", help="print the commands that make all records, and stop")
    options = parser.parse_all(argv)
    unknown = [name for name in options.figures if name not in FIGURES]
    if unknown:
        parser.error(f"FIGURE: got {unknown[0]}, needs one of {', '.join(FIGURES)}")
    modules = [importlib.import_module(f"figures.{name}") for name in options.figures or FIGURES]
    records, out = Records(options.runs, options.preset), options.out or options.runs / f"figures-{options.preset}"
    with parser.one_sentence():
        if options.list_jobs:
            print("\n".join(independent_jobs(records)))
            return
        if options.run_missing:
            run_missing(records, modules)
        record.require_writable("out", out)
        drawn = [draw(module, records, out) for module in modules]
    if not all(drawn):
        raise SystemExit(1)


def draw(module: ModuleType, records: Records, out: Path) -> bool:
    """Draw one figure as PDF and PNG, or say which commands make what it needs."""
    name = module.__name__.rpartition(".")[2]
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

    Raises:
      SystemExit: a job has failed; with its exit status.
    """
    needs = in_order(set().union(*(module.NEEDS for module in modules)))
    # The run on images makes two records.
    jobs = list(dict.fromkeys(records.job(need) for need in needs if not records.there(need)))
    record.require_writable("runs", records.folder)
    log = records.folder / f"figures-{records.preset}.log"
    left, done, start = sum(job.minutes for job in jobs), 0.0, time.monotonic()
    for number, job in enumerate(jobs, 1):
        # Before the first job has come to its end, a machine with two cores is what is known.
        pace = (time.monotonic() - start) / 60 / done if done else 1.0
        print(
            f"job {number} of {len(jobs)}, about {left * pace:.0f} minutes left: {shlex.join(job.command)}", flush=True
        )
        with log.open("a") as output:
            status = subprocess.run([sys.executable, "-m", *job.command], stdout=output, check=False).returncode
        if status:
            print(f"stopped: the job ended with status {status}; the same command goes on from there", file=sys.stderr)
            raise SystemExit(status)
        left, done = left - job.minutes, done + job.minutes


def independent_jobs(records: Records) -> list[str]:
    """Commands for a shell, each of which can run beside the others; `--run-missing` then gathers what they made."""
    chains = [[records.job(Need(question, size)) for question in (ONSET, *QUESTIONS)] for size in SIZES]
    chains += [
        [records.stopping_job((seed,), (size,))] for size in records.scale.stopping_sizes for seed in STOPPING_SEEDS
    ]
    chains.append([records.job(Need(ONSET, IMAGES))])
    return [" && ".join(f"python -m {shlex.join(job.command)}" for job in chain) for chain in chains]


if __name__ == "__main__":
    main(sys.argv[1:])
