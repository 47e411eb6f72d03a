"""Writes the numbers of README and site from the records in `docs/records`, and checks that no other stands there.

A number, a table or a sentence that a run has found stands between two comments, of which the first says what it is:

    the turning point is step <!-- = step("default", "onset") -->1,132 (788 to 1,465)<!-- / -->

`python docs/measured.py` writes all of them anew; `--check` fails where one differs, or where a decimal or a number of
thousands stands outside of such comments, of code and of links.
"""

import argparse
import functools
import re
from pathlib import Path
from typing import Any

import xarray as xr

from hierdiff.questions import QUESTIONS
from hierdiff.questions.command import read
from hierdiff.runs import record
from hierdiff.runs.command_line import Parser
from hierdiff.runs.options import flat, options_of
from hierdiff.statistics import words
from hierdiff.statistics.landmarks import Landmark

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "docs" / "records"
WRITTEN = re.compile(r"(<!-- = (.*?) -->)(.*?)(<!-- / -->)", re.DOTALL)
# Pages that are made anew from something else.
MADE = (ROOT / "docs" / "options.md", ROOT / "docs" / "notebooks")
# What may hold numbers that no run has found.
APART = re.compile(r"<!-- = .*?<!-- / -->|^```.*?^```|`[^`]*`|\]\([^)]*\)|<[^>]*>|\$[^$]*\$", re.DOTALL | re.MULTILINE)
FOUND = re.compile(r"(?<![\w.-])\d{1,3}(?:,\d{3})+|(?<![\w.-])\d+\.\d+(?![\w.]*\d)")
# In Markdown a comment that begins a line ends the paragraph before.
BREAKS = re.compile(r"^ *<!-- = [^\n]*?-->(?=[^\n])", re.MULTILINE)
ARXIV = re.compile(r"\b\d{4}\.\d{5}\b")


@functools.cache
def summary(name: str) -> dict[str, Any]:
    """What a run has found, a sweep, or, under its own name, a question that is put to several."""
    files = (RECORDS / name / f"{file}.json" for file in ("summary", "sweep", name))
    return record.read_json(next(file for file in files if file.exists()))


@functools.cache
def curves(name: str) -> xr.Dataset:
    return record.read_results(RECORDS / name / "curves.nc")


def landmark(name: str, key: str) -> Landmark:
    return Landmark(**record.numbers(at(summary(name), key)))


def at(nested: Any, path: str) -> Any:
    """What stands at a path of keys and places, such as `heights.2.onset`."""
    for key in path.split("."):
        nested = nested[int(key)] if isinstance(nested, list) else nested[key]
    return nested


def step(name: str, key: str) -> str:
    """A landmark with its 95% interval."""
    return words.interval(landmark(name, key))


def number(name: str, key: str, digits: int = 0) -> str:
    """A number as it is."""
    return f"{at(summary(name), key):,.{digits}f}"


def times(name: str) -> str:
    """How many times the turning point best is, with its 95% interval."""
    found = summary(name)["ratio"]
    ends = (f"{end:.1f}" if end else "open" for end in (found["low"], found["high"]))
    return f"{found['ratio']:.1f} ({' to '.join(ends)})"


def value(name: str, key: str, where: str, digits: int) -> str:
    """A value with its standard error, at the turning point (`onset`) or at `best`."""
    found = at(summary(name), key)
    return words.with_error(found[f"at_{where}"], found[f"at_{where}_error"], digits)


def growth(name: str, key: str, digits: int) -> str:
    """A growth with its 95% interval."""
    found = at(summary(name), key)
    return words.around(found["value"], found["half_width"], digits)


def exponent(name: str, of: str) -> str:
    """The exponent of a landmark in the first law of a sweep, with its 95% interval."""
    law = summary(name)["laws"][0]["numbers"]["landmarks"][of]["law"]
    return f"{law['exponent']:.2f} ({law['low']:.2f} to {law['high']:.2f})"


def curve(name: str, variable: str, digits: int, **where: Any) -> str:
    """A point of a curve with its standard error; a step is the nearest checkpoint."""
    found = curves(name)
    near = {key: x for key, x in where.items() if not isinstance(x, str)}
    here = found.sel({key: x for key, x in where.items() if isinstance(x, str)}).sel(near, method="nearest")
    return words.cell(here, variable, digits)


def verdict(name: str, question: str = "") -> str:
    """What a run or a question says, as a quotation."""
    found = summary(name)[question] if question else summary(name)
    return f"\n> {found.get('verdict') or found['sentence']}\n"


def table(name: str, question: str = "", since: str = "") -> str:
    """The table of a run or of a question, or what of it follows the line that begins so."""
    lines = (summary(name)[question] if question else summary(name))["table"]
    return fenced(lines[next(i for i, line in enumerate(lines) if line.startswith(since)) :])


def fenced(lines: list[str]) -> str:
    return "\n".join(["", "```text", *(line.rstrip() for line in lines), "```", ""])


def command(name: str) -> str:
    """The command that makes a record, the commit that it was made by, and the device that it was made on.

    Options whose defaults have changed since are added to the command that made it.
    """
    file = RECORDS / name / "config.json"
    made = record.read_json(file) if file.exists() else summary(name)
    now = " ".join([made["command"], *moved(made["command"], made["options"])])
    return f"`{now}` (commit `{made['commit'][:7]}`, on {made['device']})"


def moved(command: str, options: dict[str, Any]) -> list[str]:
    """What a command must be told today so that it means the options that it meant once."""
    name, *told = re.sub(r"^python -m experiments\.", "", command).split()
    config, _ = read(name, QUESTIONS[name], Parser(prog=name), told)
    today, then = flat(options_of(config)), flat(options)
    return [
        f"--{option.replace('_', '-')} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for option, value in then.items()
        if option in today and value != today[option]
    ]


def cells(kind: str, sets: tuple[int, ...], resolved: bool) -> list[dict[str, Any]]:
    """Rows of the calibration; `resolved`: only those whose checkpoints resolve a minimum."""
    rows = [row for row in summary("calibration")[kind] if row["sets"] in sets]
    return [row for row in rows if not resolved or row["checkpoints"] > 8]


def covers(kind: str, name: str = "", *, sets: tuple[int, ...], resolved: bool = False) -> str:
    """From which share to which the intervals hold the truth."""
    held = [x["cover"] for row in cells(kind, sets, resolved) for key, x in row["cover"].items() if name in ("", key)]
    held = [x for x in held if x < 1]
    return f"{100 * min(held):.1f} to {100 * max(held):.1f}%"


def cover_error(kind: str, *, sets: tuple[int, ...]) -> str:
    return f"{100 * max(x['error'] for row in cells(kind, sets, False) for x in row['cover'].values()):.1f}%"


def alarms() -> str:
    return f"{100 * max(x for row in summary('calibration')['synthetic'] for x in row['alarms'].values()):.1f}%"


def claims(name: str, *, sets: int, checkpoints: int) -> str:
    [row] = [x for x in cells("synthetic", (sets,), False) if x["checkpoints"] == checkpoints]
    return f"{100 * row['cover'][name]['claimed']:.0f}%"


def written(page: str) -> str:
    """A page with all that its comments ask for."""
    of_runs = step, number, times, value, growth, exponent, curve, verdict, table, command
    names = {f.__name__: f for f in (*of_runs, covers, cover_error, alarms, claims)}
    return WRITTEN.sub(lambda found: found[1] + eval(found[2], names) + found[4], page)


def strangers(page: str) -> list[str]:
    """Numbers of a page that look as if they had been measured, and come from no record."""
    return FOUND.findall(ARXIV.sub("", APART.sub("", page)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail where something would change")
    check, bad = parser.parse_args().check, []
    pages = sorted(path for path in (ROOT / "docs").rglob("*.md") if not {path, path.parent} & {*MADE})
    for path in [ROOT / "README.md", *pages]:
        page = path.read_text()
        new, name = written(page), path.relative_to(ROOT)
        bad += [f"{name}: {x} comes from no record" for x in strangers(page)]
        bad += [f"{name}: a line must not begin with {x.strip()}" for x in BREAKS.findall(page)]
        if new != page and check:
            bad.append(f"{name} differs from the records: python docs/measured.py writes it anew")
        elif new != page:
            path.write_text(new)
    if bad:
        raise SystemExit("\n".join(bad))


if __name__ == "__main__":
    main()
