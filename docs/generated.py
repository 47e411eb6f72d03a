"""Writes the pages of the site that follow from something else: the options, and the notebooks as they run.

`uv run --extra docs python docs/generated.py`, before `mkdocs build --strict`. Git ignores these pages.
"""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hierdiff.errors import Domain, domains
from hierdiff.questions import QUESTIONS, Entry
from hierdiff.questions.command import add_folders
from hierdiff.runs.command_line import Parser
from hierdiff.runs.options import fields_of, kind_of, rebuild

DOCS = Path(__file__).parent
OPTIONS = """# Options

What each command may be told: `python -m experiments.NAME` in a checkout, `hierdiff NAME` where hierdiff is installed;
`--help` says the same. `--preset` chooses a set of defaults: `smoke`, `laptop` or `paper`. Those in the tables are of
`laptop`, which is chosen where nothing is said; the others' follow where they differ."""


def main() -> None:
    (DOCS / "options.md").write_text("\n".join(options_page()) + "\n")
    notebooks = sorted((DOCS / "notebooks").glob("*.ipynb"))
    subprocess.run([sys.executable, "-m", "nbconvert", "--execute", "--to", "markdown", *notebooks], check=True)
    for path in (notebook.with_suffix(".md") for notebook in notebooks):
        page = re.sub(r"!\[\w+\]", "![What the code above draws]", path.read_text())
        path.write_text(f"{page}\n[This page as a notebook]({path.stem}.ipynb)\n")


def options_page() -> Iterator[str]:
    """The lines of the page: of each question what it asks, its options about folders, and a table of each config."""
    yield OPTIONS
    for name, entry in QUESTIONS.items():
        yield from ("", f"## {name}", "", entry.asks)
        parser = Parser()
        if add_folders(name, entry, parser, []) and entry.of != "training":
            yield from (
                "",
                f"Where it trains first, it takes the options of [{entry.training}](#{entry.training}) too.",
            )
        if parser._actions:
            yield from ("", "| Folders | Meaning |", "|---|---|")
            yield from (f"| `{action.option_strings[0]}` | {plain(action.help)} |" for action in parser._actions)
        for title, rows in tables(entry).items():
            yield from ("", f"| {title} | Meaning | Values | Default |", "|---|---|---|---|", *rows)


def tables(entry: Entry) -> dict[str, list[str]]:
    """Of each config of a question, by its title, a row for each option."""
    found: dict[type, dict[dataclasses.Field, dict[str, str]]] = {}
    for preset, config in entry.presets.items():
        for each in of_every_kind(config):
            for owner, field in fields_of(each):
                defaults = found.setdefault(type(owner), {}).setdefault(field, {})
                defaults.setdefault(preset, shown(field, getattr(owner, field.name)))
    return {
        (config.__doc__ or "").splitlines()[0].rstrip("."): [row(config, *option) for option in fields.items()]
        for config, fields in found.items()
    }


def of_every_kind(config: Any) -> Iterator[Any]:
    """A config, and what becomes of it where the option of a nested one asks for another kind."""
    yield config
    for _, field in fields_of(config):
        yield from (rebuild(config, {field.name: kind}) for kind in field.metadata.get("kinds", ()))


def shown(field: dataclasses.Field, value: Any) -> str:
    """A value as it is typed."""
    if "kinds" in field.metadata:
        return f"`{kind_of(field, value)}`"
    if isinstance(value, bool):
        return "yes" if value else "no"
    typed = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{typed}`" if typed else "empty"


def row(config: type, field: dataclasses.Field, defaults: dict[str, str]) -> str:
    usual = defaults["laptop"]
    others = (f"{preset} {value}" for preset, value in defaults.items() if value != usual)
    values = domains(config).get(field.name) or Domain(type=str, among=field.metadata["kinds"])
    name = f"`--{field.name.replace('_', '-')}`"
    return f"| {name} | {plain(field.metadata['help'])} | {plain(values)} | {', '.join([usual, *others])} |"


def plain(text: Any) -> str:
    """Text that Markdown leaves as it is."""
    return re.sub(r"([\\*_|<`])", r"\\\1", str(text))


if __name__ == "__main__":
    main()
