"""The command line: the fields of frozen dataclasses as options, and one sentence for what will not do."""

import argparse
import contextlib
import dataclasses
import difflib
import errno
import os
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import jax

from hierdiff.errors import OptionError
from hierdiff.runs.options import fields_of, kind_of, rebuild

Config = TypeVar("Config")


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

    def parse_all(
        self, argv: Sequence[str] | None, elsewhere: Mapping[str, str] = types.MappingProxyType({})
    ) -> argparse.Namespace:
        """Parse `argv`; an unknown option is refused with the nearest known one.

        `elsewhere` are options that there would be if others were given.
        """
        namespace, unknown = self.parse_known_args(argv)
        if unknown:
            name = unknown[0].split("=")[0]
            if name in elsewhere:
                self.error(f"{name} is an option of {elsewhere[name]} only")
            near = difflib.get_close_matches(name, self._option_string_actions, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.error(f"{name} is not an option of {self.prog}{hint}")
        return namespace


def parse_config(
    parser: Parser, presets: Mapping[str, Config], default_preset: str, argv: Sequence[str] | None = None
) -> tuple[Config, argparse.Namespace]:
    """Read a config from the command line: the preset's values, changed by the options given.

    The options are the fields of the config and of the configs nested in it, whose names must not repeat; of a nested
    config that may be of several kinds, they are those of the kind that is asked for.
    Returns the config and the parsed namespace (which also holds the parser's own options).
    """
    first = Parser(add_help=False, prog=parser.prog)
    for each in (first, parser):
        meaning = "the set of defaults that the other options change"
        each.add_argument("--preset", choices=sorted(presets), default=default_preset, help=meaning)
    preset = presets[first.parse_known_args(argv)[0].preset]
    kinds = [(config, field) for config, field in fields_of(preset) if "kinds" in field.metadata]
    for config, field in kinds:
        first.add_argument(
            _name(field), choices=field.metadata["kinds"], default=kind_of(field, getattr(config, field.name))
        )
    preset = rebuild(preset, vars(first.parse_known_args(argv)[0]))
    groups = {}
    for config, field in fields_of(preset):
        title = (type(config).__doc__ or "").splitlines()[0].rstrip(".")
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        _add_field(groups[title], config, field)
    namespace = parser.parse_all(argv, _of_other_kinds(kinds))
    try:
        return rebuild(preset, vars(namespace)), namespace
    except OptionError as error:
        parser.refuse(error)


def _name(field: dataclasses.Field) -> str:
    return f"--{field.name.replace('_', '-')}"


def _of_other_kinds(kinds: list[tuple[Any, dataclasses.Field]]) -> dict[str, str]:
    """The options that there would be with other kinds of config, and what would have to be asked for."""
    return {
        _name(option): f"{_name(field)} {name}"
        for _, field in kinds
        for name, kind in field.metadata["kinds"].items()
        for option in dataclasses.fields(kind)
    }


def _add_field(group: Any, config: Any, field: dataclasses.Field) -> None:
    value = getattr(config, field.name)
    if "kinds" in field.metadata:
        value, how = kind_of(field, value), {"choices": field.metadata["kinds"]}
    else:
        how = _reader(typing.get_type_hints(type(config))[field.name])
    group.add_argument(_name(field), default=value, help=field.metadata["help"], **how)


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


# What may be done with a run that was left.
RESUME = ("auto", "never", "must")
