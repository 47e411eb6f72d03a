"""The commands that draw: their options are read first, then what draws is imported."""

import importlib
from pathlib import Path

from hierdiff.runs.command_line import Parser

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
PRESETS = ("laptop", "paper", "smoke")


def draw_all(argv: list[str] | None = None) -> None:
    """`python -m figures`."""
    parser = Parser(prog="python -m figures", description="Draws every figure from the records of a preset's runs.")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"which of {', '.join(FIGURES)} (default: all)")
    parser.add_argument("--preset", choices=PRESETS, default="laptop", help="whose runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--out", type=Path, help="folder of the pictures (default: RUNS/figures-PRESET)")
    parser.add_argument("--run-missing", action="store_true", help="make the records that are missing, and then draw")
    parser.add_argument("--list-jobs", action="store_true", help="print the commands that make all records, and stop")
    options = parser.parse_all(argv)
    unknown = [name for name in options.figures if name not in FIGURES]
    if unknown:
        parser.error(f"FIGURE: got {unknown[0]}, needs one of {', '.join(FIGURES)}")
    with parser.one_sentence():
        importlib.import_module("hierdiff.pictures.album").make(options)


def draw_run(argv: list[str] | None = None) -> None:
    """`python -m figures.onset`."""
    parser = Parser(prog="python -m figures.onset", description="Draws the picture of a run anew.")
    parser.add_argument("run", type=Path, help="folder of a finished run of experiments.onset")
    options = parser.parse_all(argv)
    with parser.one_sentence():
        importlib.import_module("hierdiff.pictures.onset").draw_finished(options.run)
