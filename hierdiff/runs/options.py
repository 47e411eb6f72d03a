"""Configs as JSON and back: frozen dataclasses, some fields of which are one of several kinds of config."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from hierdiff.errors import domains, require

# Options of records that have gone since, without effect at these values.
RETIRED = {"layers": 4, "heads": 4}
# The plugins that are loaded: modules that have registered kinds of config, or values, of somebody's own.
PLUGINS: list[str] = []


def kind_of(field: dataclasses.Field, value: Any) -> str:
    """The name of the kind of config that the value of such a field is."""
    return next(name for name, kind in field.metadata["kinds"].items() if type(value) is kind)


def options_of(config: Any) -> dict[str, Any]:
    """A config as JSON has it; the name of a kind stands among its fields, under the name of the field."""
    found = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            kind = {field.name: kind_of(field, value)} if "kinds" in field.metadata else {}
            value = kind | options_of(value)
        found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options by their names, which do not repeat."""
    found = {}
    for key, value in options.items():
        found.update(flat(value) if isinstance(value, dict) else {key: value})
    return found


def fields_of(config: Any) -> Iterator[tuple[Any, dataclasses.Field]]:
    """All fields of a config and of those nested in it, each with the config that has it."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not dataclasses.is_dataclass(value) or "kinds" in field.metadata:
            yield config, field
        if dataclasses.is_dataclass(value):
            yield from fields_of(value)


def rebuild(config: Any, values: Mapping[str, Any]) -> Any:
    """`config` with the values of its fields, and of those of the configs nested in it, where `values` has them.

    A nested config of another kind keeps what both kinds have.

    Raises:
      ValueError: a value will not do.
    """
    changes = {}
    for field in dataclasses.fields(config):
        old = getattr(config, field.name)
        if dataclasses.is_dataclass(old):
            if "kinds" in field.metadata:
                kinds, name = field.metadata["kinds"], values.get(field.name, kind_of(field, old))
                require(name in kinds, field.name, name, f"one of {', '.join(kinds)}")
                if type(old) is not kinds[name]:
                    both = {each.name for each in dataclasses.fields(kinds[name])} & set(vars(old))
                    old = kinds[name](**{each: getattr(old, each) for each in both})
            changes[field.name] = rebuild(old, values)
        elif field.name in values:
            changes[field.name] = domains(type(config))[field.name].read(field.name, values[field.name])
    return dataclasses.replace(config, **changes)


def moved(config: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that come with new values of some options of `config`, by the names of theirs."""
    found = {}
    for owner, field in fields_of(config):
        if "moves" in field.metadata and values.get(field.name, old := getattr(owner, field.name)) != old:
            found |= field.metadata["moves"](values[field.name])
    return found


def recorded(default: Any, options: Mapping[str, Any]) -> Any:
    """The config of a record; what it does not name has the value of `default`.

    Raises:
      ValueError: a value will not do, or is of an option that there is no more; the message names it.
    """
    values = flat(options)
    config = rebuild(default, values)
    known = {field.name for _, field in fields_of(config)}
    for name, value in values.items():
        good = name in known or (name in RETIRED and value == RETIRED[name])
        require(good, name, value, "to be an option of this version of hierdiff; another one made this record")
    return config
