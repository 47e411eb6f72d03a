"""Writes the pages of the site that follow from something else: options from the configs, notebooks as they run.

`python docs/generated.py`, and then `mkdocs build --strict`. Git ignores these pages.
"""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hierdiff.errors import domains
from hierdiff.questions import QUESTIONS, Entry
from hierdiff.runs.options import fields_of, kind_of

DOCS = Path(__file__).parent
OPTIONS = """# Options

What each command may be told: `python -m experiments.NAME` in a checkout, `hierdiff NAME` where hierdiff is installed.
`--help` says the same of a command and its `--preset`. A default that a preset changes has the preset's name beside it.
"""
SHARED = {
    "training": "`--out`, `--resume` and `--plan` say where the run is, whether to go on with it, and that it be planned alone.",
    "run": "`--run` names a finished run of `{training}`; without it one is made first, and takes all options of",
}


def options_page() -> str:
    return "\n".join([OPTIONS, *(line for name, entry in QUESTIONS.items() for line in section(name, entry))])
