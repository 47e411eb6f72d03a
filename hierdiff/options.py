"""Options: frozen dataclasses whose fields are checked where they are made, and their command line."""

import argparse
import contextlib
import dataclasses
import difflib
import errno
import os
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import jax

Config = TypeVar("Config")


class OptionError(ValueError):
    """A value that will not do: which, what was given, and what would do."""

    def __init__(self, name: str, got: object, need: str):
        super().__init__(f"{name}: got {got!r}, needs {need}")
        self.name, self.got, self.need = name, got, need


def require(good: bool, name: str, got: object, need: str) -> None:
    """Raise `OptionError` unless `good`."""
    if not good:
        raise OptionError(name, got, need)


def require_seed(name: str, seed: int) -> None:
    """Raise `OptionError` unless `seed` names a key."""
    require(0 <= seed < 2**32, name, seed, "an integer from 0 to 4,294,967,295")


def option(default: Any, meaning: str) -> Any:
    """A dataclass field with its meaning (and unit), which becomes the help text of its option."""
    return dataclasses.field(default=default, metadata={"help": meaning})


class Parser(argparse.ArgumentParser):
    """An argument parser that ends bad input with exit status 2 and one sentence."""

    def __init__(self, **kwargs: Any):
        super().__init__(allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Print the one sentence and exit."""
        message = message.removeprefix("argument ")
        sys.stderr.write(f"error: {message} (--help lists the options)\n")
        raise SystemExit(2)

    def refuse(self, error: OptionError) -> NoReturn:
        """Print which option will not do, what it got and what would do, and exit."""
        self.error(f"--{error.name.replace('_', '-')}: got {error.got}, needs {error.need}")

    @contextlib.contextmanager
    def one_sentence(self) -> Iterator[None]:
        """End with one sentence where an option will not do, a loss is not finite, or memory or the disk is full."""
        try:
            yield
        except OptionError as error:
            self.refuse(error)
        except FloatingPointError as error:
            raise SystemExit(f"stopped: {error}; a smaller --learning-rate may do") from None
        except OSError as error:
            full = any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT))
            hint = "; once there is room, the same command goes on" if full else ""
            raise SystemExit(f"stopped: {error}{hint}") from None
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
                raise SystemExit("stopped: not enough memory; --plan says what a run needs") from None
            raise

    def parse_all(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse `argv`; an unknown option is refused with the nearest known one."""
        namespace, unknown = self.parse_known_args(argv)
        if unknown:
            name = unknown[0].split("=")[0]
            near = difflib.get_close_matches(name, self._option_string_actions, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.error(f"{name} is not an option of {self.prog}{hint}")
        return namespace


def parse_config(
    parser: Parser, presets: Mapping[str, Config], default_preset: str, argv: Sequence[str] | None = None
) -> tuple[Config, argparse.Namespace]:
    """Read a config from the command line: the preset's values, changed by the options given.

    The options are the fields of the config and of the configs nested in it, whose names must not repeat.
    Returns the config and the parsed namespace (which also holds the parser's own options).
    """
    first = Parser(add_help=False)
    for each in (first, parser):
        meaning = "the set of defaults that the other options change"
        each.add_argument("--preset", choices=sorted(presets), default=default_preset, help=meaning)
    preset = presets[first.parse_known_args(argv)[0].preset]
    _add_fields(parser, preset)
    namespace = parser.parse_all(argv)
    try:
        return rebuild(preset, vars(namespace)), namespace
    except OptionError as error:
        parser.refuse(error)


def _add_fields(parser: Parser, config: Any) -> None:
    types = typing.get_type_hints(type(config))
    group = parser.add_argument_group((type(config).__doc__ or "").splitlines()[0])
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            _add_fields(parser, value)
            continue
        name = f"--{field.name.replace('_', '-')}"
        group.add_argument(name, default=value, help=field.metadata["help"], **_reader(types[field.name]))


def _reader(kind: Any) -> dict[str, Any]:
    """How argparse reads a field of type `kind`."""
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(kind) is typing.Literal:
        return {"choices": typing.get_args(kind)}
    if typing.get_origin(kind) is tuple:
        return {"nargs": "+", **_reader(typing.get_args(kind)[0])}
    words = {int: "an integer", float: "a number", str: "text"}[kind]

    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"got {text!r}, needs {words}") from None

    return {"type": read, "metavar": kind.__name__}


def rebuild(config: Any, values: Mapping[str, Any]) -> Any:
    """`config` with the values of all its fields, and of those of the configs nested in it, taken from `values`.

    Raises:
      KeyError: a value is missing.
      TypeError: a value is of another type than that in `config`.
      ValueError: a value will not do.
    """
    changes = {}
    for field in dataclasses.fields(config):
        old = getattr(config, field.name)
        if dataclasses.is_dataclass(old):
            changes[field.name] = rebuild(old, values)
            continue
        new = values[field.name]
        changes[field.name] = new = tuple(new) if isinstance(old, tuple) else new
        if type(new) is not type(old) or (isinstance(old, tuple) and {type(x) for x in new} != {type(old[0])}):
            raise TypeError(f"{field.name}: got {new!r}, needs a value like {old!r}")
    return dataclasses.replace(config, **changes)
