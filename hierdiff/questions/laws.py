"""How do the landmarks of training grow with an option of the runs: the laws over sizes, from the records of a sweep."""

from pathlib import Path
from typing import Any, NamedTuple


class Swept(NamedTuple):
    """A run of a sweep: the values of the options that are swept, its seed, and its folder."""

    values: dict[str, Any]
    seed: int
    folder: Path


class Found(NamedTuple):
    """What the runs say: lines of a table, a sentence, and, for JSON, the numbers that the figures draw."""

    lines: list[str]
    sentence: str
    numbers: dict[str, Any]


def found(runs: list[Swept], of: str = "size") -> Found:
    """The laws of the landmarks over the values of one option, the training-set size by default."""
    raise NotImplementedError
