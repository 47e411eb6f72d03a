"""The report of a folder: what its records say, as one file of HTML that needs no other and no network.

It is made of text (the template `report.html`), of figures as SVG, and of a view of the curves that can be moved.
"""

import base64
import dataclasses
import functools
import importlib
import inspect
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import xarray as xr
from matplotlib.figure import Figure

from hierdiff.pictures import style, view
from hierdiff.pictures.alt import in_words
from hierdiff.pictures.command import albums
from hierdiff.pictures.records import LARGE, SMALL, Records, read
from hierdiff.pictures.run import picture
from hierdiff.runs import record
from hierdiff.runs.options import fields_of, flat, rebuild
from hierdiff.runs.world import World
from hierdiff.worlds.finished import world_of

NAME = "report.html"
# Bytes that all figures may take, and the numbers of all views: with Bokeh's 1.7 million, all is below 5 million.
FIGURES, NUMBERS = 2_000_000, 1_000_000
MADE = {
    "commit": "git commit",
    "device": "device",
    "python": "Python",
    "versions": "packages",
    "plugins": "plugins",
    "draws": "random numbers",
    "seconds_training": "seconds of training",
    "seconds_measuring": "seconds of measuring",
}


class Here(Records):
    """The records in one folder, whatever it is called; those of other set sizes are not there."""

    def run(self, run: str) -> Path:
        return self.folder / run if run in (SMALL, LARGE) else self.folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure: its title and its text, what it shows in words, and all of it as an address.

    Without an address, `alt` says why there is none.
    """

    title: str
    caption: str
    alt: str
    address: str = ""
    narrow: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """What the records say of a run, or of a question.

    `lines` is its table as it was printed, `more` what is said beside the verdict, `made` how it was made, and
    `options` are names, values and meanings. `curves` are for a view that shows the quantity `first` at first.
    """

    name: str
    asks: str
    verdict: str
    more: str = ""
    lines: list[str]
    pictures: list[Picture]
    curves: xr.Dataset | None
    first: str = ""
    summary: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    made: Mapping[str, Any]
    options: list[tuple[str, str, str]]

    @property
    def provenance(self) -> list[tuple[str, str]]:
        return [(words, text(self.made[name])) for name, words in MADE.items() if self.made.get(name)]


def write(folder: Path, registry: Mapping[str, Any]) -> list[Path]:
    """Write the report of a folder, and of each run in it; gives the files."""
    # The records have grown since they were read.
    read.cache_clear()
    written = []
    for place in [folder, *sorted(path.parent for path in folder.glob("*/summary.json"))]:
        if parts := [*parts_of_run(place, registry), *parts_of_others(place, registry)]:
            page = render(place.resolve().name, parts).encode(errors="backslashreplace")
            record.write_whole(place / NAME, lambda temporary, page=page: temporary.write_bytes(page))
            written.append(place / NAME)
    return written


def parts_of_run(folder: Path, registry: Mapping[str, Any]) -> Iterator[Part]:
    """The run in a folder, and the questions that it was asked; none if there is no finished one."""
    if not (folder / "summary.json").exists():
        return
    world, summary, made = world_of(folder), read(folder / "summary.json"), read(folder / "config.json")
    curves, training = read(folder / "curves.nc"), name_of_training(world, registry)
    whole = functools.update_wrapper(lambda: picture(world, curves, summary), picture)
    yield Part(
        name=training,
        asks=asked(training, registry),
        verdict=summary["verdict"],
        more=summary.get("agreement", ""),
        lines=summary.get("table", []),
        pictures=list(map(drawn, [whole, *figures_of(training, folder, registry)])),
        curves=curves,
        first=world.STORY.axis.minimum if world.STORY.axis else world.STORY.split,
        summary=summary,
        made=made | {name: round(x) for name, x in summary.items() if name.startswith("seconds_")},
        options=explained(made["options"], rebuild(world.CONFIG(), flat(made["options"]))),
    )
    for name, found in summary.items():
        if isinstance(found, dict) and "sentence" in found:
            curves = read(folder / f"{name}.curves.nc")
            yield Part(
                name=name,
                asks=asked(name, registry),
                verdict=found["sentence"],
                lines=found.get("table", []),
                pictures=list(map(drawn, figures_of(name, folder, registry))),
                curves=curves,
                summary=summary,
                made=curves.attrs,
                options=explained(json.loads(curves.attrs["options"]), *configs_of(name, registry)),
            )


def parts_of_others(folder: Path, registry: Mapping[str, Any]) -> Iterator[Part]:
    """What questions have left that belong to no run, or to several."""
    for name in registry:
        if (folder / f"{name}.json").exists():
            found, curves = read(folder / f"{name}.json"), folder / f"{name}.curves.nc"
            yield Part(
                name=name,
                asks=asked(name, registry),
                verdict=found.get("sentence", ""),
                # Older records of stopping rules have rows of numbers there.
                lines=[line for line in found.get("table", []) if isinstance(line, str)],
                pictures=list(map(drawn, figures_of(name, folder, registry))),
                curves=read(curves) if curves.exists() else None,
                made=found,
                options=explained(found.get("options", {}), *configs_of(name, registry)),
            )


def name_of_training(world: type[World], registry: Mapping[str, Any]) -> str:
    address = f"{world.__module__}:{world.__qualname__}"
    return next((name for name, entry in registry.items() if entry.world == address), world.COMMAND)


def asked(name: str, registry: Mapping[str, Any]) -> str:
    return registry[name].asks if name in registry else name


def configs_of(name: str, registry: Mapping[str, Any]) -> list[Any]:
    """Those that have the options of a question, and of the runs that it makes."""
    entries = [registry[each] for each in (name, getattr(registry.get(name), "training", "")) if each in registry]
    return [next(iter(entry.presets.values())) for entry in entries]


def explained(options: Mapping[str, Any], *configs: Any) -> list[tuple[str, str, str]]:
    """The name, the value and the meaning of each option, of which `configs` have the fields."""
    meanings = {field.name: field.metadata["help"] for config in configs for _, field in fields_of(config)}
    return [
        (f"--{name.replace('_', '-')}", text(value), meanings.get(name, "")) for name, value in flat(options).items()
    ]


def text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {x}" for name, x in value.items())
    if isinstance(value, list):
        return ", ".join(map(text, value))
    return ("no", "yes")[value] if isinstance(value, bool) else f"{value}"


def figures_of(name: str, folder: Path, registry: Mapping[str, Any]) -> Iterator[Callable[[], Figure]]:
    """The figures of a question for which this folder has all that they show."""
    records, modules = Here(folder, "", registry), albums(registry)
    for each in registry[name].pictures if name in registry else ():
        figure = getattr(importlib.import_module(modules[each]), each)
        if all(records.file(need).exists() for need in figure.needs):
            yield functools.update_wrapper(functools.partial(figure, records), figure)


def drawn(draw: Callable[[], Figure]) -> Picture:
    """A figure, and its words; or why it cannot be drawn, which is no reason to do without the others."""
    title, _, caption = (" ".join(each.split()) for each in (inspect.getdoc(draw) or "").partition("\n\n"))
    try:
        figure, image = style.as_svg(draw)
    except Exception as error:
        return Picture(title=title, caption=caption, alt=f"This figure cannot be drawn: {error}")
    return Picture(
        title=title,
        caption=caption,
        alt=f"{title} {in_words(figure)}",
        address=f"data:image/svg+xml;base64,{base64.b64encode(image).decode()}",
        narrow=bool(figure.get_figwidth() < 5),
    )


def fitting(parts: list[Part]) -> list[Part]:
    """Without the figures for which there is no room."""
    room, kept = FIGURES, []
    for part in parts:
        pictures = []
        for each in part.pictures:
            if len(each.address) > room:
                each = dataclasses.replace(each, address="", alt="This figure is too large for the report.")
            room -= len(each.address)
            pictures.append(each)
        kept.append(dataclasses.replace(part, pictures=pictures))
    return kept


class Block(NamedTuple):
    """Some printed lines: the rows of a table under its caption, names with what they are, or text.

    What only seems to be a table is text that is laid out.
    """

    caption: str = ""
    rows: Sequence[list[str]] = ()
    facts: Sequence[tuple[str, str]] = ()
    text: Sequence[str] = ()
    laid_out: str = ""


def blocks(lines: list[str]) -> Iterator[Block]:
    """What printed lines are; empty ones part them, and two spaces or more part the columns of a table."""
    for empty, group in itertools.groupby(lines, lambda line: not line.strip()):
        if not empty:
            yield from blocks_of([line.rstrip() for line in group])


def blocks_of(lines: list[str]) -> Iterator[Block]:
    cells = [re.split(" {2,}", line.strip()) for line in lines]
    wide = [i for i, row in enumerate(cells) if len(row) > 1]
    if not wide:
        facts = [(name, what) for name, between, what in (line.partition(": ") for line in lines) if between]
        yield Block(facts=facts) if 1 < len(lines) == len(facts) else Block(text=lines)
        return
    rows = cells[wide[0] : wide[-1] + 1]
    if len(rows) == 1 or len({len(row) for row in rows}) > 1:
        yield Block(laid_out="\n".join(lines))
        return
    yield Block(caption=" ".join(lines[: wide[0]]), rows=rows)
    if after := lines[wide[-1] + 1 :]:
        yield Block(text=after)


def render(folder: str, parts: list[Part]) -> str:
    """The page."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["blocks"] = blocks
    with style.drawing():
        curves = {part.name: (part.curves, part.summary, part.first) for part in parts if part.curves is not None}
        scripts, views = view.of_parts(curves, NUMBERS)
    page = environment.from_string(Path(__file__).with_name("report.html").read_text())
    return page.render(folder=folder, parts=fitting(parts), scripts=scripts, views=views)
