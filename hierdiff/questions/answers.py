"""The record of a question that belongs to no run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hierdiff.runs import record, saying
from hierdiff.runs.options import options_of


def leave(file: Path, config: Any, table: Sequence[str], sentence: str, /, **content: Any) -> None:
    """Write what was found, with its words and how it was made, and say it."""
    words = {"table": table, "sentence": sentence, "options": options_of(config)}
    record.write_json(file, {**content, **words, **record.provenance()})
    saying.answer([*table, "", sentence] if sentence else table, file)
