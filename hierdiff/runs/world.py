"""A world: what an experiment is made of. Whatever differs between worlds stands in their classes.

Training, measuring, labelling, statistics, words and pictures are written once, over worlds (`laboratory`,
`statistics.story`). A world may have a known law, as sequences of a grammar have, or none, as images.
"""

import abc
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
import xarray as xr
from jax.sharding import Mesh
from jaxtyping import Array

from hierdiff.learning.devices import ensemble_mesh
from hierdiff.learning.loop import Losses
from hierdiff.measures.divergence import pairs
from hierdiff.statistics.story import Story


class Variable(NamedTuple):
    """Of an array that is measured: its dimensions beside the step, its units and its meaning."""

    dims: tuple[str, ...]
    units: str
    meaning: str


class Inputs(NamedTuple):
    """Where the networks are measured: pieces at the noise levels asked for, and at t uniform on 1..T (`any_...`).

    A mean over the latter is the mean over the noise that training sees; they are stacked, a piece for each draw of the
    levels. `reference` is what the networks are compared with on each of the `held_out` pieces. Of the members, the
    first training samples of each set, there is a piece for each set, on the second axis. Where the bound on -log p is
    known, `bound` is a piece of held-out samples at levels of its own.
    """

    held_out: Any = None
    reference: Any = None
    members: Any = None
    any_held_out: Any = None
    any_members: Any = None
    bound: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class World(abc.ABC):
    """Data in disjoint sets, the noise on them, and networks; network i is trained on set `set_of[i]`.

    A piece is a tree of arrays with `x_t` and `t`, where denoisers are run. Their answers there, `(S, n, *shape)`, are
    given to the measures: `on_held_out`, `on_members` and `losses` give arrays by the names in `VARIABLES`. `about` is
    what the record says of the data, and `key` draws all noise.
    """

    # A `Process`; of numbers, one that has the methods of Gaussian noise on them.
    process: Any
    train: Any
    held_out: Any
    set_of: np.ndarray
    key: Array
    # What the networks are told of each training sample, `(sets, P, nodes)`.
    train_labels: Any = None
    # Further samples of each set, `(sets, m, *shape)`, and of each whether networks are trained on it, `(sets, m)`.
    canaries: Any = None
    included: Any = None
    # At t uniform there are no more than so many levels; 0: all that are drawn.
    distinct: int = 0
    # Worlds of somebody's finished models have none.
    network: Any = None
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    # Its config, and the command of its training.
    CONFIG: ClassVar[type]
    COMMAND: ClassVar[str]
    VARIABLES: ClassVar[Mapping[str, Variable]]
    STORY: ClassVar[Story]
    # Shares, and what they are of: where that is not told from zero there is no share.
    SHARES: ClassVar[Mapping[str, str]] = {}
    # Of pairs on one data set, which tell the seeds' part from the data's: the names of the two parts of a variable.
    SEEDS: ClassVar[Mapping[str, tuple[str, str]]] = {}

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        return pairs(len(self.set_of))

    @functools.cached_property
    def mesh(self) -> Mesh:
        return ensemble_mesh(len(self.set_of))

    @classmethod
    def set_up(cls, config: Any) -> "World":
        """What a config stands for: draw or read the data."""
        raise NotImplementedError

    def looked_at(self, members: int) -> int:
        """How many members of each set are measured: so many, or all of the smallest set."""
        return min(members, *map(len, self.train))

    def describe(self) -> str:
        """What it is made of, in words."""
        sets, size, *_ = self.train.shape
        return f"{len(self.set_of)} networks on {sets} disjoint sets of {size} {self.STORY.samples}"

    @abc.abstractmethod
    def probe(self, noise: tuple[float, ...]) -> tuple[Any, Any]:
        """Pieces of the held-out samples at each noise level t/T, stacked, and of what denoisers are compared with."""

    @abc.abstractmethod
    def member_pieces(self, noise: tuple[float, ...], members: slice) -> Any:
        """Pieces of some samples of each set at each noise level, `(levels, sets, ...)`."""

    @abc.abstractmethod
    def any_held_out(self, draws: int = 1) -> Any:
        """Pieces of the held-out samples at t uniform, stacked, one for each draw."""

    @abc.abstractmethod
    def any_members(self, members: slice, draws: int = 1) -> Any:
        """Such pieces of some samples of each set, `(draws, sets, ...)`."""

    def at_bound(self) -> Any:
        """A piece of the held-out samples where the bound on -log p is read; None: it is not known."""
        return None

    def inputs(self, measure: Any) -> Inputs:
        """All on which networks are measured; `measure` is a `MeasureConfig`, and may ask for several draws of t."""
        draws, members = getattr(measure, "draws", 1), slice(self.looked_at(measure.members))
        return Inputs(
            *self.probe(measure.noise),
            members=self.member_pieces(measure.noise, members),
            any_held_out=self.any_held_out(draws),
            any_members=self.any_members(members, draws),
            bound=self.at_bound(),
        )

    @abc.abstractmethod
    def example_losses(self) -> Losses:
        """What networks are trained to make small."""

    def shown(self, piece: Any) -> Any:
        """What denoisers are run on: x_t, and what else they are told."""
        return piece.x_t

    @abc.abstractmethod
    def answer(self, params: Any, shown: Any, t: Array) -> Array:
        """What one network makes of noised samples, `(n, *shape)`."""

    def parts(self, reference: Any) -> Any:
        """Further pieces at the noise level of a reference, stacked, where denoisers are to be run too; None: none."""
        del reference

    def on_part(self, reference: Any, answers: Array, part: Any, there: Array) -> Any:
        """What the answers on a piece and those on one of its parts say."""
        raise NotImplementedError

    @abc.abstractmethod
    def on_held_out(self, piece: Any, reference: Any, answers: Array, of_parts: Any) -> dict[str, Array]:
        """What the answers on one piece say, `(..., n)`; `of_parts` is what `on_part` gave, stacked."""

    @abc.abstractmethod
    def on_members(self, piece: Any, answers: Array) -> dict[str, Array]:
        """What the answers on the members of one set say, of each network or pair: `(..., unit, members)`."""

    @abc.abstractmethod
    def losses(self, piece: Any, answers: Array) -> dict[str, Array]:
        """`test_loss` and others like it, `(S, n)`; on the own members they have the names that `of_members` gives."""

    def own_losses(self, pieces: Any, answers: Array) -> dict[str, Array]:
        """The losses of each network on a piece of its own, stacked, `(S, n)`."""
        found = jax.vmap(lambda piece, of_one: self.losses(piece, of_one[None]))(pieces, answers)
        return {name: x[:, 0] for name, x in found.items()}

    def on_bound(self, piece: Any, answers: Array) -> dict[str, Array]:
        """What the answers where the bound is read say, `(S, n)`."""
        raise NotImplementedError

    def coordinates(self) -> dict[str, Any]:
        """Coordinates beside step, noise, network and pair."""
        return {}

    @abc.abstractmethod
    def references(self, inputs: Inputs) -> dict[str, Array]:
        """What measurements are compared with, `(..., n)`; as `settled` leaves it, by the names in `VARIABLES`."""

    def settled(self, references: Mapping[str, Any]) -> Mapping[str, Any]:
        """The references, nan where all samples together say that nothing can be compared with them."""
        return references

    @classmethod
    def curves(cls, results: xr.Dataset) -> dict[Any, xr.DataArray]:
        """The variables whose means are reported."""
        return dict(results.data_vars)

    @classmethod
    @abc.abstractmethod
    def ratios(cls, x: xr.Dataset) -> xr.Dataset:
        """The means, or those of replicates, with the ratios of means that are reported."""


def of_members(name: str) -> str:
    """What a variable is called where it is measured on training samples."""
    return {"test_loss": "train_loss"}.get(name, f"member_{name}")
