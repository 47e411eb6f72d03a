"""The commands that draw: their options are read first, then what draws is imported.

The registry of questions is given to them: of each, the names of its figures, `pictures`, and their module, `album`.
"""

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from hierdiff import called
from hierdiff.errors import OptionError, in_one_line
from hierdiff.runs.command_line import Parser


def drawing(module: str) -> ModuleType:
    """A module of what draws, whatever the user's settings of matplotlib are: none of them is used.

    A backend that is none, in MPLBACKEND, and a matplotlibrc that is no text are no reason not to draw.
    """
    try:
        importlib.import_module("matplotlib")
    except ValueError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]
        with mock.patch.dict(os.environ, {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}):
            importlib.import_module("matplotlib")
    return importlib.import_module(f"hierdiff.pictures.{module}")


def albums(registry: Mapping[str, Any]) -> dict[str, str]:
    return {
        figure: entry.album or f"hierdiff.pictures.{name}"
        for name, entry in registry.items()
        for figure in entry.pictures
    }


def draw_all(registry: Mapping[str, Any], argv: list[str] | None = None) -> None:
    """Draw some figures, or all; the records that are missing are made first, if that is asked for."""
    description = "Draws every figure from the records of a preset's runs."
    epilog = f"The picture of one run is drawn anew by {called.form('figures onset')}."
    parser = Parser(prog=called.form("figures"), description=description, epilog=epilog)
    figures = add_options(parser, registry)
    options = parser.parse_all(argv)
    if unknown := [name for name in options.figures if name not in figures]:
        parser.error(f"FIGURE: got {unknown[0]}, needs one of {', '.join(figures)}")
    with parser.one_sentence():
        drawing("album").make(registry, options)


def add_options(parser: Parser, registry: Mapping[str, Any]) -> list[str]:
    """Give `parser` the options of what draws; gives the names of all figures."""
    figures = list(albums(registry))
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"which of {', '.join(figures)} (default: all)")
    parser.add_choice("--preset", sorted(registry["onset"].presets), "whose runs", default="laptop")
    parser.add_path("--runs", "folder of all runs", default=Path("runs"))
    parser.add_path("--out", "folder of the pictures (default: RUNS/figures-PRESET)")
    parser.add_argument("--run-missing", action="store_true", help="make the records that are missing, and then draw")
    parser.add_argument("--list-jobs", action="store_true", help="print the commands that make all records, and stop")
    return figures


def draw_run(argv: list[str] | None = None) -> None:
    """Draw the picture of a run anew."""
    parser = Parser(prog=called.form("figures onset"), description="Draws the picture of a run anew.")
    parser.add_path("run", f"{called.finished_run('onset')}")
    options = parser.parse_all(argv)
    with parser.one_sentence():
        try:
            drawing("run").draw_finished(options.run)
        except (OptionError, OSError):
            raise
        except Exception as error:
            raise SystemExit(f"stopped: the picture cannot be drawn: {in_one_line(error)}") from None
