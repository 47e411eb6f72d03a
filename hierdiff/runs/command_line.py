"""The command line: the fields of frozen dataclasses as options, and one sentence for what will not do.

Exit statuses: 2 for what was given, 1 for what the machine could not, 128 and its number for a signal.
"""

import argparse
import contextlib
import dataclasses
import difflib
import errno
import functools
import io
import os
import re
import signal
import sys
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hierdiff.errors import Domain, Interrupted, OptionError, domains, expanded, handling, require
from hierdiff.runs.options import fields_of, kind_of, moved, rebuild

# What argparse says, as everything else is said.
ARGPARSE = {
    "expected (one|at least one) argument": "got nothing, needs a value",
    "the following arguments are required: (.*)": r"\1: got nothing, needs a value",
    "ignored explicit argument (.*)": r"got \1, needs no value",
    r"invalid choice: (.*) \(choose from (.*)\)": r"got \1, needs one of \2",
}


class Parser(argparse.ArgumentParser):
    """An argument parser that ends bad input with exit status 2 and one sentence.

    Options may be read, by `parse_known_args`, while others that follow from them are still to be added: help is given
    by `parse_all` alone.
    """

    def __init__(self, **kwargs: Any):
        how = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(allow_abbrev=False, add_help=False, formatter_class=how, **kwargs)
        # Of argparse's own, only that of newer versions takes -1e5 for a number, and none -inf.
        self._negative_number_matcher = re.compile(r"-(\.?\d|inf|nan)")

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        for words, ours in ARGPARSE.items():
            message = re.sub(words, ours, message)
        sys.stderr.write(f"error: {message} (--help lists the options)\n")
        raise SystemExit(2)

    @contextlib.contextmanager
    def one_sentence(self, saved: Callable[[], str] = lambda: "nothing was begun") -> Iterator[None]:
        """End with one sentence where an option will not do, or a loss is not finite, or memory or the disk is full.

        And where SIGTERM or Ctrl-C comes, after which `saved` says what is kept.
        """
        # Names of files, which are printed, need not be text.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            with handling(stop, signal.SIGTERM):
                yield
        except OptionError as error:
            got = error.got if error.got != "" else "''"
            self.error(f"{_option(error.name)}: got {got}, needs {error.need}")
        except FloatingPointError as error:
            raise SystemExit(f"stopped: {error}; a smaller --learning-rate may do") from None
        except OSError as error:
            full = any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT))
            hint = "; once there is room, the same command goes on" if full else ""
            raise SystemExit(f"stopped: {error}{hint}") from None
        except (MemoryError, RuntimeError) as error:
            # JAX's own error is a RuntimeError.
            if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
                raise SystemExit("stopped: not enough memory; --plan says what a run needs") from None
            raise
        except KeyboardInterrupt as error:
            by = error if isinstance(error, Interrupted) else Interrupted(signal.SIGINT)
            sys.stderr.write(f"stopped by {signal.Signals(by.number).name}: {by.saved or saved()}\n")
            raise SystemExit(128 + by.number) from None

    def add_path(self, name: str, meaning: str, **how: Any) -> None:
        """Add an option that is a path; a tilde is the folder of the user."""

        def read(text: str) -> Path:
            try:
                require(text != "", name, text, "a path")
                return Path(expanded(name, text))
            except OptionError as error:
                raise argparse.ArgumentTypeError(f"got {text!r}, needs {error.need}") from None

        # Where there is no default, help is not to show one.
        self.set_defaults(**{name.lstrip("-"): None})
        how = {"default": argparse.SUPPRESS, **how}
        action = self.add_argument(name, type=read, help=meaning, **how)
        vars(action)["complete"] = "file"  # shtab's word

    def add_choice(self, name: str, choices: Collection[str], meaning: str, **how: Any) -> None:
        """Add an option that is one of some names."""

        def read(text: str) -> str:
            if text not in choices:
                raise argparse.ArgumentTypeError(f"got {text!r}, needs one of {', '.join(choices)}")
            return text

        how = {"metavar": f"{{{','.join(choices)}}}", **how}
        self.add_argument(name, type=read, help=meaning, **how)

    def parse_all(
        self, argv: Sequence[str] | None, elsewhere: Mapping[str, str] = types.MappingProxyType({})
    ) -> argparse.Namespace:
        """Parse `argv`; an unknown option is refused with the nearest known one.

        `elsewhere` says where options are that there are not here, or what is in their place.
        """
        self.add_argument("-h", "--help", action="help", help="show this help message and exit")
        namespace, unknown = self.parse_known_args(argv)
        if unknown:
            name = unknown[0].split("=")[0]
            if name in elsewhere:
                self.error(f"{name} is {elsewhere[name]}")
            near = difflib.get_close_matches(name, self._option_string_actions, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.error(f"{name} is not an option of {self.prog}{hint}")
        return namespace


class Texts(argparse.Action):
    """Several texts, which may be given one by one; they take the place of the default."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if before is self.default else [*before, *values])


def stop(number: int, _: Any) -> NoReturn:
    """Have a signal raise `Interrupted`, as Ctrl-C raises `KeyboardInterrupt`."""
    raise Interrupted(number)


def parse_config(
    parser: Parser,
    presets: Mapping[str, Any],
    default_preset: str,
    argv: Sequence[str] | None = None,
) -> tuple[Any, argparse.Namespace]:
    """Read a config from the command line: the preset's values, changed by the options given.

    The options are the fields of the config and of the configs nested in it, whose names must not repeat; of a nested
    config that may be of several kinds, they are those of the kind that is asked for. Those that others give are left
    out.
    Returns the config and the parsed namespace (which also holds the parser's own options).

    Raises:
      ValueError: a value will not do.
    """
    parser.add_choice("--preset", presets, "the set of defaults that the other options change", default=default_preset)
    preset = presets[parser.parse_known_args(argv)[0].preset]
    group = functools.cache(parser.add_argument_group)
    # What is given by another option, and by which.
    given_by: dict[str, str] = {}

    def add(config: Any, field: dataclasses.Field, default: Any, domain: Domain) -> None:
        if field.name not in given_by:
            title, meaning = (type(config).__doc__ or "").splitlines()[0].rstrip("."), field.metadata["help"]
            said = meaning if domain.among or domain.type in (bool, str) else f"{meaning}: {domain}"
            action = group(title).add_argument(_option(field.name), default=default, help=said, **as_argument(domain))
            if domain.path:
                vars(action)["complete"] = "file"

    giving = [(config, field) for config, field in fields_of(preset) if "gives" in field.metadata]
    for config, field in giving:
        add(config, field, getattr(config, field.name), domains(type(config))[field.name])
    given = vars(parser.parse_known_args(argv)[0])
    for _, field in giving:
        given_by |= dict.fromkeys(field.metadata["gives"](given[field.name]), _option(field.name))
    kinds = [(config, field) for config, field in fields_of(preset) if "kinds" in field.metadata]
    for config, field in kinds:
        names = Domain(type=str, among=field.metadata["kinds"])
        add(config, field, kind_of(field, getattr(config, field.name)), names)
    moving = [(config, field) for config, field in fields_of(preset) if "moves" in field.metadata]
    for config, field in moving:
        add(config, field, getattr(config, field.name), domains(type(config))[field.name])
    given = vars(parser.parse_known_args(argv)[0])
    preset = rebuild(preset, given | moved(preset, given))
    for config, field in fields_of(preset):
        if not {"kinds", "moves", "gives"} & set(field.metadata):
            add(config, field, getattr(config, field.name), domains(type(config))[field.name])
    elsewhere = {
        _option(option.name): f"an option of {_option(field.name)} {name} only"
        for _, field in kinds
        for name, kind in field.metadata["kinds"].items()
        for option in dataclasses.fields(kind)
    } | {_option(name): f"not an option of {parser.prog}: {other} gives it" for name, other in given_by.items()}
    namespace = parser.parse_all(argv, elsewhere)
    return rebuild(preset, vars(namespace)), namespace


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def as_argument(domain: Domain) -> dict[str, Any]:
    """What argparse is told of an option: its type; the rest is checked where the config is made."""
    if domain.type is bool:
        return {"action": argparse.BooleanOptionalAction}

    def read(text: str) -> Any:
        try:
            return domain.type(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"got {text!r}, needs {domain}") from None

    shown = f"{{{','.join(domain.among)}}}" if domain.among else domain.type.__name__
    several = {"nargs": "+"} if domain.several or domain.by_level else {}
    texts = {"action": Texts} if domain.several and domain.type is str and not domain.among else {}
    return {"type": read, "metavar": shown, **several, **texts}
