"""The command line: the fields of frozen dataclasses as options, and one sentence for what will not do."""

import argparse
import contextlib
import dataclasses
import difflib
import errno
import functools
import io
import os
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jax

from hierdiff.errors import OptionError
from hierdiff.runs.options import fields_of, kind_of, rebuild


class Parser(argparse.ArgumentParser):
    """An argument parser that ends bad input with exit status 2 and one sentence.

    Options may be read, by `parse_known_args`, while others that follow from them are still to be added: help is given
    by `parse_all` alone.
    """

    def __init__(self, **kwargs: Any):
        how = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(allow_abbrev=False, add_help=False, formatter_class=how, **kwargs)

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        sys.stderr.write(f"error: {message} (--help lists the options)\n")
        raise SystemExit(2)

    @contextlib.contextmanager
    def one_sentence(self) -> Iterator[None]:
        """End with one sentence where an option will not do, a loss is not finite, or memory or the disk is full."""
        # Names of files, which are printed, need not be text.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            yield
        except OptionError as error:
            self.error(f"--{error.name.replace('_', '-')}: got {error.got}, needs {error.need}")
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
        self.add_argument("-h", "--help", action="help", help="show this help message and exit")
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
    parser: Parser, presets: Mapping[str, Any], default_preset: str, argv: Sequence[str] | None = None
) -> tuple[Any, argparse.Namespace]:
    """Read a config from the command line: the preset's values, changed by the options given.

    The options are the fields of the config and of the configs nested in it, whose names must not repeat; of a nested
    config that may be of several kinds, they are those of the kind that is asked for.
    Returns the config and the parsed namespace (which also holds the parser's own options).

    Raises:
      ValueError: a value will not do.
    """
    meaning = "the set of defaults that the other options change"
    parser.add_argument("--preset", choices=sorted(presets), default=default_preset, help=meaning)
    preset = presets[parser.parse_known_args(argv)[0].preset]
    group = functools.cache(parser.add_argument_group)

    def add(config: Any, field: dataclasses.Field, default: Any, **how: Any) -> None:
        title = (type(config).__doc__ or "").splitlines()[0].rstrip(".")
        how = how or _reader(typing.get_type_hints(type(config))[field.name])
        group(title).add_argument(_name(field), default=default, help=field.metadata["help"], **how)

    kinds = [(config, field) for config, field in fields_of(preset) if "kinds" in field.metadata]
    for config, field in kinds:
        add(config, field, kind_of(field, getattr(config, field.name)), choices=field.metadata["kinds"])
    moving = [(config, field) for config, field in fields_of(preset) if "moves" in field.metadata]
    for config, field in moving:
        add(config, field, getattr(config, field.name))
    given = vars(parser.parse_known_args(argv)[0])
    for config, field in moving:
        if given[field.name] != getattr(config, field.name):
            given |= field.metadata["moves"](given[field.name])
    preset = rebuild(preset, given)
    for config, field in fields_of(preset):
        if not {"kinds", "moves"} & set(field.metadata):
            add(config, field, getattr(config, field.name))
    of_other_kinds = {
        _name(option): f"{_name(field)} {name}"
        for _, field in kinds
        for name, kind in field.metadata["kinds"].items()
        for option in dataclasses.fields(kind)
    }
    namespace = parser.parse_all(argv, of_other_kinds)
    return rebuild(preset, vars(namespace)), namespace


def _name(field: dataclasses.Field) -> str:
    return f"--{field.name.replace('_', '-')}"


def _reader(kind: Any) -> dict[str, Any]:
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
