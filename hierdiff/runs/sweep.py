"""A sweep: one run at every combination of some values of its options. Which runs these are is said without JAX."""

import difflib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hierdiff.errors import Domain, OptionError, domains, require
from hierdiff.runs.options import fields_of, moved, rebuild

FORM = "NAME=VALUE,VALUE, or options that go together as NAME,NAME=VALUE:VALUE,VALUE:VALUE"


class Point(NamedTuple):
    """A run of a sweep: the values of the options that are swept, and its config, which has its seed too."""

    values: dict[str, Any]
    config: Any

    @property
    def name(self) -> str:
        """What its folder is called."""
        return "-".join(f"{name}-{text}" for name, text in typed({**self.values, "seed": self.config.seed}).items())


def typed(values: Mapping[str, Any]) -> dict[str, str]:
    """Options and their values as they are typed."""

    def text(value: Any) -> str:
        if isinstance(value, tuple):
            return "+".join(map(text, value))
        return ("no", "yes")[value] if isinstance(value, bool) else str(value)

    return {name.replace("_", "-"): text(value) for name, value in values.items()}


def grid(
    config: Any, axes: Sequence[Sequence[Mapping[str, Any]]], seeds: Sequence[int], epochs: int = 0
) -> list[Point]:
    """The runs at every combination of the values along `axes`, for each seed; the last axis varies fastest.

    Each place on an axis is a value of an option, or of several that go together. Epochs, unless there are none, say
    how many steps a run takes whose values say nothing of it.

    Raises:
      ValueError: an option will not do, or is one that not every run has.
    """
    found = []
    for places in itertools.product(*axes):
        values = {name: value for place in places for name, value in place.items()}
        size, batch = values.get("size", config.size), values.get("batch", config.train.batch)
        steps = {"steps": round(epochs * size / batch)} if epochs else {}
        for seed in seeds:
            run = rebuild(config, {**moved(config, values), **steps, **values, "seed": seed})
            strange = {*values} - {field.name for _, field in fields_of(run)}
            require(not strange, "over", ", ".join(strange), "an option of every run, whatever its network")
            found.append(Point(values, run))
    return found


def axis(config: Any, text: str) -> list[dict[str, Any]]:
    """What `text` says, in the form `FORM`, of options of `config`: at each place, their values.

    Raises:
      ValueError: it says nothing, or of something that is no option, or a value will not do.
    """
    before, equals, after = text.partition("=")
    names, places = before.replace("-", "_").split(","), [place.split(":") for place in after.split(",")]
    require(bool(equals) and {len(names)} == set(map(len, places)), "over", text, FORM)
    known = domains_of(config)
    for name in names:
        near = "".join(f"; did you mean {each}?" for each in difflib.get_close_matches(name, known, n=1))
        require(name in known, "over", name, f"an option of a run{near}")
    found = [{name: value(known[name], name, x) for name, x in zip(names, place, strict=True)} for place in places]
    require(all(found.count(place) == 1 for place in found), "over", text, "each value once")
    return found


def domains_of(config: Any) -> dict[str, Domain]:
    """The options that a run may have, of whichever kind its parts are."""
    found: dict[str, Domain] = {}
    for owner, field in fields_of(config):
        kinds = field.metadata.get("kinds", {})
        found[field.name] = Domain(type=str, among=kinds) if kinds else domains(type(owner))[field.name]
        for kind in kinds.values():
            found |= domains(kind)
    return found


def value(domain: Domain, name: str, text: str) -> Any:
    """The value that is typed as `text`; several of one option are joined by a plus."""
    try:
        several = domain.several or domain.by_level
        words = text.split("+") if several else [text]
        values = [{"yes": True, "no": False}[word] if domain.type is bool else domain.type(word) for word in words]
        return domain.read(name, values if several else values[0])
    except (ValueError, KeyError):
        raise OptionError("over", f"{name}={text}", str(domain)) from None
