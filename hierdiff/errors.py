"""What will not do: which value, what was given, and what would do instead; and options, each with what will do."""

import contextlib
import dataclasses
import functools
import itertools
import math
import numbers
import signal
import threading
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

# What is counted, is counted in 32 bits.
COUNTED = 2**31 - 1
# What is said of what is saved.
GOES_ON = "the same command goes on from there"


class OptionError(ValueError):
    """A value that will not do: which, what was given, and what would do.

    Examples:
      >>> hd.Masking(vocab=1)
      Traceback (most recent call last):
      hierdiff.errors.OptionError: vocab: got 1, needs an integer of at least 2
    """

    def __init__(self, name: str, got: object, need: str):
        super().__init__(f"{name}: got {got!r}, needs {need}")
        self.name, self.got, self.need = name, got, need


class Interrupted(KeyboardInterrupt):
    """A signal ends the work: its number and, if that is known, what is saved by then."""

    def __init__(self, number: int, saved: str = ""):
        super().__init__(f"signal {number}; {saved}")
        self.number, self.saved = number, saved


@contextlib.contextmanager
def handling(handler: Callable[[int, Any], Any], *numbers: int) -> Iterator[None]:
    """Have `handler` told of these signals. Outside the main thread, to which they come, nothing is changed."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def in_one_line(error: BaseException) -> str:
    """What an exception says."""
    return " ".join(str(error).split()) or type(error).__name__


def require(good: bool, name: str, got: object, need: str) -> None:
    """Raise `OptionError` unless `good`."""
    if not good:
        raise OptionError(name, got, need)


def expanded(name: str, path: str) -> str:
    """`path` with the folder of a user, where it begins with a tilde; `name` is the option that gives it.

    Raises:
      ValueError: there is no such user.
    """
    if not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        raise OptionError(name, path, "the name of a user after ~, or ./~ for a name that has one") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Domain:
    """The values that an option may have: of which type, and between which ends, or which names.

    `also` are numbers beside them. Of an option with `several` values all of this is said of each; they are distinct.
    One that is `by_level` has one value, or a tuple of one for each level.
    """

    type: type
    several: bool = False
    by_level: bool = False
    least: int | float = -math.inf
    most: int | float = math.inf
    above: int | float = -math.inf
    below: int | float = math.inf
    also: tuple[int | float, ...] = ()
    among: Collection[str] | None = None
    path: bool = False

    def __str__(self) -> str:
        """What would do, in words."""
        if self.among is not None:
            return f"{'distinct ones' if self.several else 'one'} of {', '.join(self.among)}"
        if self.type in (str, bool):
            return {str: "a path" if self.path else "text", bool: "yes or no"}[self.type]
        kind = {int: ("an integer", "distinct integers"), float: ("a number", "distinct numbers")}[self.type]
        ends = "above {:,} and up to {:,}" if self.most < self.below else "between {:,} and {:,}"
        if self.least > self.above:
            ends = "from {:,} to {:,}" if self.most < self.below else "from {:,} to below {:,}"
        between = ends.format(max(self.least, self.above), min(self.most, self.below))
        levels = ", or one for each level" if self.by_level else ""
        return "".join(f"{x:,}, or " for x in self.also) + f"{kind[self.several]} {between}{levels}"

    def read(self, name: str, value: Any) -> Any:
        """`value`, of plain Python's types; `name` is that of the option.

        Raises:
          ValueError: it will not do.
        """
        # JSON and the command line give lists.
        value = tuple(value) if isinstance(value, list) else value
        if self.by_level and isinstance(value, tuple) and all(a == b for a, b in itertools.pairwise(value)):
            # That of all levels.
            value = next(iter(value), None)
        several = isinstance(value, tuple) if self.by_level else self.several
        each = value if several and isinstance(value, tuple) else (value,)
        found = [self._one(name, x) for x in each]
        distinct = self.by_level or len({*found}) == len(found)
        whole = isinstance(value, tuple) == several and len(found) >= 1 and distinct
        require(whole and None not in found, name, value, str(self))
        return tuple(found) if several else found[0]

    def _one(self, name: str, x: Any) -> Any:
        """One value, of plain Python's types; None if it will not do."""
        if self.type in (str, bool):
            good = isinstance(x, self.type) and (self.among is None or x in self.among)
            return (expanded(name, str(x)) if self.path else x) if good else None
        kind = {int: numbers.Integral, float: numbers.Real}[self.type]
        if not isinstance(x, kind) or isinstance(x, bool):
            return None
        inside = self.least <= x <= self.most and self.above < x < self.below
        return self.type(x) if inside or x in self.also else None


def option(
    default: Any,
    meaning: str,
    *,
    moves: Callable[[Any], Mapping[str, Any]] | None = None,
    gives: Callable[[Any], Collection[str]] | None = None,
    compare: bool = True,
    **domain: Any,
) -> Any:
    """A dataclass field that is an option: its default, its meaning (and unit) and its `Domain`, but for the type.

    The type is the field's; an integer is one of 32 bits unless its ends are given. Help, check and error follow.
    `moves` gives the defaults of other options, by their names, that come with a value of this one, and `gives` the
    names of other options which it says itself: these are refused beside it. Without `compare`, a run may go on with
    another value.
    """
    others = {"moves": moves, "gives": gives}
    metadata = {"help": meaning, "domain": domain} | {name: said for name, said in others.items() if said}
    return dataclasses.field(default=default, compare=compare, metadata=metadata)


def kind(default: type, kinds: dict[str, type], meaning: str) -> Any:
    """A dataclass field whose value is a config of one of several kinds; the option of its name says which."""
    return dataclasses.field(default_factory=default, metadata={"kinds": kinds, "help": meaning})


@functools.cache
def domains(config: type) -> dict[str, Domain]:
    """Of the options among the fields of a config."""
    hints, found = typing.get_type_hints(config), {}
    domain: dict[str, Any]
    for field in dataclasses.fields(config):
        if "domain" in field.metadata:
            hint, domain = hints[field.name], dict(field.metadata["domain"])
            if typing.get_origin(hint) is tuple:
                hint, domain["several"] = typing.get_args(hint)[0], True
            if typing.get_origin(hint) is types.UnionType:
                hint, domain["by_level"] = typing.get_args(hint)[0], True
            if typing.get_origin(hint) is typing.Literal:
                hint, domain["among"] = str, typing.get_args(hint)
            if hint is int:
                domain = {"least": -COUNTED, "most": COUNTED, **domain}
            found[field.name] = Domain(type=hint, **domain)
    return found


class Options:
    """What configs have in common: their options are checked, and made of plain Python's types, where they are made."""

    def __post_init__(self):
        for name, domain in domains(type(self)).items():
            object.__setattr__(self, name, domain.read(name, getattr(self, name)))
