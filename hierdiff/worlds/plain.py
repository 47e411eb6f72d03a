"""Symbols or numbers of no known law: split, slope and loss need none."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float, Int

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.denoiser import network_log_posterior
from hierdiff.learning.devices import spread_batch
from hierdiff.learning.loop import token_losses
from hierdiff.measures.divergence import sample_split
from hierdiff.measures.probe import at, stacked
from hierdiff.measures.slope import answered, slope_products, where_enough
from hierdiff.measures.spectrum import told_from_rounding
from hierdiff.measures.times import any_times
from hierdiff.noising.levels import noise_level
from hierdiff.noising.process import cross_entropy
from hierdiff.posterior import memorizer, memorizer_of_numbers
from hierdiff.runs.world import Variable, World, of_members
from hierdiff.statistics.groups import GROUPS
from hierdiff.statistics.story import Column, Story, Table
from hierdiff.worlds.run_config import ComparisonConfig

UNITS = "nats, or squared units, per sample"
MEMBERS = ("noise", "network", "members_of")
# Why there may be none.
NO_SLOPE = "two memorizers too rarely both have an answer, or all but agree"
SHARED = Variable(("noise", "pair", "group"), "share", "held-out, where both memorizers have an answer")


class Noised(NamedTuple):
    """Noised samples, and what the answer there should be; stacked, with an axis of noise levels before all."""

    target: Array
    x_t: Array
    t: Int[Array, "*levels n"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plain(World):
    """Samples of no known law. The answers are log p(x_0 | x_t) of symbols, and E[x_0 | x_t] of numbers."""

    CONFIG, COMMAND = ComparisonConfig, "compare"
    VARIABLES: ClassVar = {
        "split": Variable(("noise", "pair", "group"), UNITS, "symmetrised KL(f_A || f_B), or |f_A - f_B|^2, held-out"),
        "member_split": Variable(("noise", "pair"), UNITS, "the same on the pair's training samples"),
        "member_loss": Variable(MEMBERS, UNITS, "the loss on training samples of each set"),
        "slope": Variable(("noise", "pair", "group"), "squared units", "<f_A - f_B, emp_A - emp_B>, held-out"),
        "empirical": Variable(("noise", "pair", "group"), "squared units", "|emp_A - emp_B|^2, held-out"),
        "shared": SHARED,
        "loss": Variable(("noise", "network", "group"), UNITS, "cross-entropy, or |f - x_0|^2, held-out"),
        "test_loss": Variable(
            ("network", "group"), UNITS, "the same, t uniform; |f - x_0|^2 counts min(1, ab/(1 - ab))"
        ),
        "train_loss": Variable(("network",), UNITS, "the same on the network's own training samples"),
    }
    SEEDS: ClassVar = {"split": ("seed_split", "data_split")}
    STORY = Story(
        samples="samples",
        split="split",
        split_words="the sample split",
        loss="test_loss",
        unit="of loss",
        values=(
            Column("split", "sample split"),
            Column("seed_split", "of it, what two seeds on one set make"),
            Column("data_split", "and what the data make"),
            Column("own_against_other", "own against other, of loss"),
            Column("test_loss", "test loss"),
            Column("train_loss", "training loss"),
        ),
        tables=(
            Table(
                name="noise",
                axis="noise",
                heading="t/T",
                minimum="split",
                columns=(
                    Column("split", "held-out"),
                    Column("member_split", "training samples"),
                    Column("own_against_other", "own against other"),
                    Column("slope", "memorization slope", 4, blank=NO_SLOPE),
                    Column("shared", "both memorizers know", 2),
                ),
            ),
        ),
        data_split="data_split",
    )

    @property
    def symbols(self) -> bool:
        return self.process.vocab is not None

    def squares(self, x: Array) -> Array:
        return jnp.square(x).sum(tuple(range(1 - self.held_out.ndim, 0)))

    def corrupted(self, key: Array, x_0: Array, t: Int[Array, " n"]) -> Noised:
        """Noise each sample at its level. Consumes `key`."""
        corrupt = self.process.corrupt if self.symbols else self.process.noise
        return Noised(x_0, corrupt(key, x_0, t), t)

    def remembered(self, train: Array, piece: Noised) -> Array:
        """The answer of a memorizer of `train`."""
        if self.symbols:
            return memorizer(train, self.process.log_likelihood(piece.x_t, piece.t))
        return memorizer_of_numbers(self.process, train, piece.x_t, piece.t)

    def denoised(self, piece: Noised, answers: Array) -> Array:
        """What answers are compared with memorizers: probabilities, or E[x_0 | x_t]."""
        return jnp.exp(answers) if self.symbols else answers

    def both_answered(self, first: Array, second: Array) -> Array:
        """The inputs, on the last axis, where both of two memorizers have an answer."""
        if self.symbols:
            return answered(first) & answered(second)
        return jnp.ones(first.shape[: first.ndim + 1 - self.held_out.ndim], bool)

    def between(self, first: Array, second: Array) -> Array:
        """The difference of the answers of two memorizers; 0 where one of them has none."""
        both = self.both_answered(first, second)
        return jnp.where(both.reshape(*both.shape, *(first.ndim - both.ndim) * (1,)), first - second, 0)

    def apart(self, a: Array, b: Array) -> Array:
        """How far the answers of two networks lie apart at each sample."""
        return sample_split(a, b) if self.symbols else self.squares(a - b)

    def errors(self, target: Array, answers: Array) -> Array:
        """The loss of the answers of each network at each sample, `(S, n)`."""
        if self.symbols:
            return cross_entropy(jnp.broadcast_to(target[None], answers.shape[:-1]), answers)
        return self.squares(answers - target[None])

    def probe(self, noise):
        pieces = self.at_levels("held-out", self.held_out, noise)
        memories = [
            jnp.stack([self.remembered(train, at(pieces, i)) for train in self.train]) for i in range(len(noise))
        ]
        return pieces, jnp.stack(memories)

    def at_levels(self, whose: str, samples: Array, noise: tuple[float, ...], labels: Any = None) -> Any:
        """Pieces of the samples at each noise level t/T, stacked; their noise has a name."""
        t = [jnp.full(len(samples), noise_level(share, self.process.levels), jnp.int32) for share in noise]
        keys = keys_of(key_for(self.key, f"{whose} noise"), range(len(t)))
        return stacked(self.corrupted(each, samples, level) for each, level in zip(keys, t, strict=True))

    def noised(self, name: str, samples: Array, t: Int[Array, " n"], labels: Any = None) -> Any:
        """A piece with sample i at level `t[i]`; its noise has a name."""
        return self.corrupted(key_for(self.key, name), samples, t)

    def at_any_level(self, whose: str, samples: Array, draws: int, labels: Any = None, groups: int = GROUPS) -> Any:
        """Pieces of the samples at t uniform, stratified within groups; stacked, one for each draw."""
        names = [f"{whose} noise at any level, draw {draw}" for draw in range(draws)]
        keys = [key_for(self.key, f"levels of {name}") for name in names]
        times = [any_times(key, len(samples), self.process.levels, groups, self.distinct) for key in keys]
        return stacked(self.noised(name, samples, t, labels) for name, t in zip(names, times, strict=True))

    def of_each_set(self, pieces: Callable[[str, Array, Any], Any], members: slice) -> Any:
        """Pieces of some samples of each set, with the labels that are shown, stacked on the second axis."""
        of_sets = [
            pieces(f"set {i}'s", each[members], self.labels_of_set(i, members)) for i, each in enumerate(self.train)
        ]
        return jax.tree.map(lambda *x: jnp.stack(x, axis=1), *of_sets)

    def member_pieces(self, noise, members):
        return self.of_each_set(lambda whose, samples, labels: self.at_levels(whose, samples, noise, labels), members)

    def labels_of_set(self, number: int, members: slice) -> Any:
        """What networks are shown of members beside x_t, when they are measured."""
        del number, members

    def any_held_out(self, draws=1):
        return self.at_any_level("held-out", self.held_out, draws)

    def any_members(self, members, draws=1):
        """Members are no groups."""
        return self.of_each_set(
            lambda whose, samples, labels: self.at_any_level(whose, samples, draws, labels, groups=1), members
        )

    def example_losses(self):
        if self.symbols:
            return token_losses(self.network, self.process, self.mesh)

        def losses(params, samples, keys):
            def noised(key, x_0, t):
                return at(self.corrupted(key, x_0[None], t[None]), 0)

            of_noise = keys if samples.noise is None else samples.noise
            piece = spread_batch(jax.vmap(noised)(of_noise, samples.x_0, samples.t), self.mesh)
            return self.errors(piece.target, self.network.forward(params, piece.x_t, piece.t, None)[None])[0]

        return losses

    def answer(self, params, shown, t):
        x_t, t = spread_batch((shown, t), self.mesh)
        if self.symbols:
            return network_log_posterior(self.network, self.process)(params, x_t, t)
        return self.network.forward(params, x_t, t, None)

    def on_held_out(self, piece, reference, answers, of_parts):
        f = self.denoised(piece, answers)

        def of_pair(pair):
            a, b = pair
            of_a, of_b = (reference[jnp.asarray(self.set_of)[network]] for network in pair)
            both = (x.reshape(len(x), 1, -1) for x in (f[a] - f[b], self.between(of_a, of_b)))
            slope, _ = slope_products(*both)
            return {"slope": slope, **self.on_pair(answers[a], answers[b])}

        return {"loss": self.loss_at(piece, answers), **jax.lax.map(of_pair, self.pairs)}

    def on_pair(self, a: Array, b: Array) -> dict[str, Array]:
        """What the answers of two networks on held-out samples say."""
        return {self.STORY.split: self.apart(a, b)}

    def on_members(self, piece, answers):
        apart = jax.lax.map(lambda pair: self.apart(answers[pair[0]], answers[pair[1]]), self.pairs)
        return {of_members(self.STORY.split): apart, "member_loss": self.loss_at(piece, answers)}

    def losses(self, piece, answers):
        return {"test_loss": self.counts(piece.t)[None] * self.loss_at(piece, answers)}

    def loss_at(self, piece: Any, answers: Array) -> Array:
        """Of each network at each sample, `(S, n)`."""
        return self.errors(piece.target, answers)

    def counts(self, t: Int[Array, " n"]) -> Float[Array, " n"]:
        """What the loss at each level counts in that over all levels.

        Of numbers it is then the error in x_0 where there is little noise, and in the noise where there is much, so
        that neither those that predict the one nor the other are judged at one end alone.
        """
        return jnp.ones(len(t)) if self.symbols else self.process.balanced(t)

    def references(self, inputs):
        return self.of_memorizers(inputs.reference)

    def of_memorizers(self, memories: Array) -> dict[str, Array]:
        """How far memorizers lie apart, where both have an answer, and the squares of one: `(levels, pairs, n)`."""
        first, second = (memories[:, self.set_of[ends]] for ends in self.pairs)
        each = tuple(range(3, first.ndim))
        squares, whole = (jnp.square(x).sum(each) for x in (self.between(first, second), first))
        return {"empirical": squares, "shared": self.both_answered(first, second), "memory": whole}

    def settled(self, references):
        """Where memorizers all but agree, or too rarely have an answer, there is no slope; where all have, no share."""
        of_level = {"axis": (1, 2), "keepdims": True}
        squares, both, whole = (jnp.asarray(references[name]) for name in ("empirical", "shared", "memory"))
        apart = told_from_rounding(squares.mean(**of_level), whole.mean(**of_level))
        shared = {} if both.all() else {"shared": both.astype(squares.dtype)}
        others = {name: x for name, x in references.items() if name not in ("shared", "memory")}
        return {**others, "empirical": jnp.where(apart, where_enough(squares, both), jnp.nan), **shared}

    @classmethod
    def curves(cls, results):
        variables = dict(super().curves(results))
        # Older records do not have it.
        if variables.pop("member_loss", None) is not None:
            variables["own_against_other"] = own_against_other(results)
        return variables

    @classmethod
    def ratios(cls, x):
        return x.assign(slope=x.slope / x.empirical)


def own_against_other(results: xr.Dataset) -> xr.DataArray:
    """How much lower the loss of each network of a pair is than the other's on members of its set: their mean.

    In the units of the loss, with the same noise; 0 for networks that ignore which sample they saw.
    """
    loss = results.member_loss.drop_vars(("network", "members_of", "data_set"), errors="ignore")
    ends = [results[end].values for end in ("first", "second")]
    a, b = (xr.DataArray(each, dims="pair") for each in ends)
    of_a, of_b = (xr.DataArray(results.data_set.values[each], dims="pair") for each in ends)

    def on(members_of, other, own):
        return loss.isel(network=other, members_of=members_of) - loss.isel(network=own, members_of=members_of)

    return 0.5 * (on(of_a, b, a) + on(of_b, a, b))
