"""What will not do: which value, what was given, and what would do instead."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any


class OptionError(ValueError):
    """A value that will not do: which, what was given, and what would do."""

    def __init__(self, name: str, got: object, need: str):
        super().__init__(f"{name}: got {got!r}, needs {need}")
        self.name, self.got, self.need = name, got, need


def in_one_line(error: BaseException) -> str:
    """What an exception says."""
    return " ".join(str(error).split()) or type(error).__name__


def require(good: bool, name: str, got: object, need: str) -> None:
    """Raise `OptionError` unless `good`."""
    if not good:
        raise OptionError(name, got, need)


def require_counts(config: Any, *names: str) -> None:
    """Raise `OptionError` unless these fields of a config are at least 1."""
    for name in names:
        require(getattr(config, name) >= 1, name, getattr(config, name), "an integer of at least 1")


def require_seed(name: str, seed: int) -> None:
    """Raise `OptionError` unless `seed` names a key."""
    require(0 <= seed < 2**32, name, seed, "an integer from 0 to 4,294,967,295")


def option(default: Any, meaning: str, moves: Callable[[Any], Mapping[str, Any]] | None = None) -> Any:
    """A dataclass field with its meaning (and unit), which becomes the help text of its option.

    `moves` gives the defaults of other options, by their names, that come with a value of this one.
    """
    return dataclasses.field(default=default, metadata={"help": meaning} | ({"moves": moves} if moves else {}))


def kind(default: type, kinds: dict[str, type], meaning: str) -> Any:
    """A dataclass field whose value is a config of one of several kinds; the option of its name says which."""
    return dataclasses.field(default_factory=default, metadata={"kinds": kinds, "help": meaning})
