"""Sequences of a random grammar: their law is known, and with it what of a sequence each height of the tree says."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from hierdiff.grammar import Grammar, random_grammar
from hierdiff.keys import key_for
from hierdiff.learning.denoiser import Labelled, network_log_posterior
from hierdiff.learning.devices import spread_batch
from hierdiff.learning.loop import token_losses
from hierdiff.measures import spectrum
from hierdiff.measures.divergence import divergence, entropy, log_of
from hierdiff.measures.probe import Piece, at, information, make_pieces, make_reference, stacked
from hierdiff.measures.slope import slope_products
from hierdiff.measures.times import times_of_bound
from hierdiff.noising.levels import noise_level
from hierdiff.runs.world import Variable
from hierdiff.sampling import DataSets, data_sets, sample
from hierdiff.statistics.groups import GROUPS
from hierdiff.statistics.story import Column, Story, Table
from hierdiff.worlds.plain import MEMBERS, NO_SLOPE, SHARED, Plain
from hierdiff.worlds.run_config import OnsetConfig

NATS, SQUARED = "nats per sequence", "squared units per sequence"
HEIGHTS = Table(
    name="heights",
    axis="height",
    heading="height",
    minimum="data_dependent",
    indicative=True,
    of_data="of_the_data",
    columns=(
        Column("increment", ""),
        Column("learned", "learned", blank="nothing is to be learned: the height adds no more than rounding"),
        Column("error", "error"),
        Column("data_dependent", "data-dependent"),
        Column("share", "share", 2, blank="the error is not told from zero"),
        Column("seed_dependent", "of it, of two seeds"),
        Column("of_the_data", "of the data"),
    ),
    top_down=True,
    place="height {}",
    places={-1: "prior"},
)


class Weighted(NamedTuple):
    """Noised sequences and the exact posterior there, at levels that are drawn with probability 1 / `weight`."""

    x_t: Array
    t: Int[Array, " n"]
    exact: Float[Array, "n L v"]
    weight: Float[Array, " n"]
    labels: Int[Array, "n nodes"] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sequences(Plain):
    """Sequences of a grammar, of which more is measured than of any; what denoisers answer is log p(x_0 | x_t)."""

    grammar: Grammar
    # What networks are trained on.
    loss: str = "cross-entropy"
    # How often they are shown no labels, and what they are shown of the held-out sequences; None: nothing is measured
    # with labels. These are symbols of the derivations, or, as random ones are, no part of the law.
    label_drop: float = 0.0
    held_out_labels: Int[Array, "n nodes"] | None = None
    labels_of_law: bool = True

    CONFIG, COMMAND = OnsetConfig, "onset"
    VARIABLES: ClassVar = {
        "divergence": Variable(("noise", "filtered", "network", "group"), NATS, "KL(BP_k || f), held-out"),
        "split": Variable(("noise", "pair", "group"), NATS, "symmetrised KL(f_A || f_B), held-out"),
        "member_divergence": Variable(("noise", "filtered", "network"), NATS, "KL(BP_k || f), own training sequences"),
        "member_split": Variable(
            ("noise", "pair"), NATS, "symmetrised KL(f_A || f_B) on the pair's training sequences"
        ),
        "member_loss": Variable(MEMBERS, NATS, "cross-entropy on training sequences of each set"),
        "loss": Variable(("noise", "network", "group"), NATS, "cross-entropy, held-out"),
        "excess": Variable(
            ("network", "group"), NATS, "KL(BP_0 || f), held-out, t uniform: the test loss above its Bayes value"
        ),
        "excess_bound": Variable(
            ("network", "group"), NATS, "the bound on -log p above that of the exact posterior, held-out"
        ),
        "test_loss": Variable(("network", "group"), NATS, "cross-entropy, held-out, t uniform"),
        "entropy": Variable(("network", "group"), NATS, "the entropy of the answers, held-out, t uniform"),
        "member_entropy": Variable(("network",), NATS, "the same on the network's own training sequences"),
        "member_excess": Variable(("network",), NATS, "KL(BP_0 || f) on its own training sequences, t uniform"),
        "train_loss": Variable(("network",), NATS, "cross-entropy on the network's own training sequences, t uniform"),
        "learned": Variable(("noise", "height", "network", "group"), SQUARED, "<f, D_h>, held-out"),
        "slope": Variable(("noise", "pair", "group"), SQUARED, "<f_A - f_B, emp_A - emp_B>, held-out"),
        "spectrum": Variable(("noise", "height", "network", "other", "group"), SQUARED, "<d_h e_A, d_h e_B>, held-out"),
        "scale": Variable(("noise", "filtered", "group"), NATS, "KL(BP_0 || BP_k), held-out"),
        "shared": SHARED,
        "information": Variable(("noise", "group"), "bits per sequence", "I(x_0; x_t), held-out"),
        "increment": Variable(("noise", "height", "group"), SQUARED, "|D_h|^2, held-out"),
        "empirical": Variable(("noise", "pair", "group"), SQUARED, "|emp_A - emp_B|^2, held-out"),
    }
    SHARES: ClassVar = {"share": "error", "total_share": "total_error"}
    SEEDS: ClassVar = {"split": ("seed_split", "data_split"), "data_dependent": ("seed_dependent", "of_the_data")}
    STORY = Story(
        samples="sequences",
        split="split",
        split_words="the sample split",
        loss="excess",
        unit="nats a sequence",
        values=(
            Column("split", "sample split, nats"),
            Column("seed_split", "of it, what two seeds on one data set make"),
            Column("data_split", "and what the data make"),
            Column("own_against_other", "own against other, nats"),
            Column("slope", "memorization slope", 4),
            Column("excess", "excess loss, nats"),
            Column("excess_bound", "excess of the bound on -log p, nats", minimum=True),
        ),
        tables=(
            HEIGHTS,
            Table(
                name="divergences",
                axis="filtered",
                heading="k",
                minimum="divergence",
                onset=False,
                columns=(Column("divergence", "KL(BP_k || f)"), Column("scale", "KL(BP_0||BP_k)")),
            ),
            Table(
                name="noise",
                axis="noise",
                heading="t/T",
                minimum="split",
                columns=(
                    Column("information", "bits", 2),
                    Column("total_share", "data-dependent share", 2, name="share"),
                    Column("own_against_other", "own against other"),
                    Column("slope", "memorization slope", 4, blank=NO_SLOPE),
                    Column("shared", "both memorizers know", 2),
                ),
            ),
        ),
        axis=HEIGHTS,
        part="the data-dependent part",
        data_split="data_split",
    )

    @classmethod
    def set_up(cls, config: OnsetConfig) -> "Sequences":
        grammar = random_grammar(key_for(config.seed, "grammar"), **dataclasses.asdict(config.grammar))
        key, process = key_for(config.seed, f"split {config.split}"), config.make_process()
        sizes = {"vocab": grammar.vocab, "depth": grammar.depth, "branching": grammar.branching}
        data = data_sets(
            key_for(key, "data"),
            grammar,
            sets=config.sets,
            size=config.size,
            held_out=config.measure.held_out,
            places=config.places,
        )
        copies = np.bincount(config.places)
        repeated = {"distinct": len(copies), "repeated": int((copies > 1).sum())} if copies.max() > 1 else {}
        kind, level = config.labels.labels, config.labels.label_level
        canaries, included = _canaries(key_for(key, "canaries"), config, grammar)
        of_train, of_held_out, number = _labels(key_for(key, "labels"), config, grammar, data)
        if number:
            sizes |= {"labels": number, "label_level": level}
        return cls(
            grammar=grammar,
            process=process,
            train=data.train,
            held_out=data.held_out,
            network=config.network.build(channels=process.channels, **sizes)._replace(predicts=config.predicts),
            set_of=config.set_of,
            key=key,
            loss=config.loss,
            train_labels=of_train,
            canaries=canaries,
            included=included,
            held_out_labels=of_held_out,
            labels_of_law=kind == "level",
            label_drop=config.labels.label_drop,
            about={"coincidences": data.coincidences, **repeated},
        )

    def describe(self) -> str:
        repeated = "; of the {distinct} distinct ones of a set {repeated} are there more than once"
        return (
            f"{super().describe()} of {self.grammar.leaves} symbols; {self.about['coincidences']} of them are in two "
            f"sets by chance{repeated.format(**self.about) if 'repeated' in self.about else ''}"
        )

    def probe(self, noise):
        levels, labels = self.levels_of(noise), self.held_out_labels
        pieces = self.at_levels("held-out", self.held_out, noise, labels)
        references = [
            make_reference(
                key_for(self.key, f"completions at t = {level}"),
                self.grammar,
                self.process,
                at(pieces, i),
                self.train,
                None if labels is None else self.train_labels,
                of_law=self.labels_of_law,
            )
            for i, level in enumerate(levels)
        ]
        return pieces, stacked(references)

    def any_held_out(self, draws=1):
        return self.at_any_level("held-out", self.held_out, draws, self.held_out_labels)

    def labels_of_set(self, number, members):
        return None if self.held_out_labels is None else self.train_labels[number][members]

    def shown(self, piece):
        return piece.x_t if piece.labels is None else Labelled(piece.x_t, piece.labels)

    def answer(self, params, shown, t):
        if not isinstance(shown, Labelled):
            return super().answer(params, shown, t)
        (x_t, labels), t = spread_batch((shown, t), self.mesh)
        return network_log_posterior(self.network, self.process)(params, x_t, t, labels=labels)

    def at_bound(self):
        key, n = key_for(self.key, "levels of the bound"), len(self.held_out)
        t, weight = times_of_bound(key, n, self.process.levels, self.distinct)
        piece = self.noised("noise of the bound", self.held_out, t, self.held_out_labels, filtered=(0,))
        return Weighted(piece.x_t, t, piece.exact[0], weight, piece.labels)

    def levels_of(self, noise: tuple[float, ...]) -> list[int]:
        return [noise_level(share, self.process.levels) for share in noise]

    def at_levels(self, whose, samples, noise, labels=None):
        levels = self.levels_of(noise)
        return stacked(
            self.noised(f"{whose} noise at t = {level}", samples, jnp.full(len(samples), level), labels)
            for level in levels
        )

    def noised(
        self,
        name: str,
        samples: Int[Array, "n L"],
        t: Int[Array, " n"],
        labels: Int[Array, "n nodes"] | None = None,
        filtered: tuple[int, ...] = (),
    ) -> Piece:
        """A piece with sequence i at level `t[i]`; its noise has a name. It holds BP_k for each k asked for, or all."""
        filtered, keys = filtered or tuple(range(self.grammar.depth + 1)), key_for(self.key, name)[None]
        known = labels if self.labels_of_law else None
        pieces = make_pieces(keys, self.grammar, self.process, samples, t[None], filtered=filtered, labels=known)
        return at(pieces, 0)._replace(labels=labels)

    def example_losses(self):
        return token_losses(
            self.network, self.process, self.mesh, bound=self.loss == "bound", label_drop=self.label_drop
        )

    def parts(self, reference):
        return reference.completions

    def on_part(self, reference, answers, part, there):
        error, completed = jnp.exp(answers) - reference.windows[-1][None], jnp.exp(there) - part.exact[None]
        return spectrum.on_blocks(error, completed, part.weight)

    def on_held_out(self, piece, reference, answers, of_parts):
        (first, second), f = self.pairs, jnp.exp(answers)
        memories = reference.memories[self.set_of]
        slope, _ = slope_products(f[first] - f[second], self.between(memories[first], memories[second]))
        none, whole = spectrum.ends(f - reference.windows[-1][None], groups=GROUPS)
        return {
            "loss": self.loss_at(piece, answers),
            "divergence": divergence(piece.exact[:, None], answers[None]),
            "split": self.apart(answers[first], answers[second]),
            "learned": spectrum.learned_products(f, reference.windows),
            "slope": slope,
            "spectrum": spectrum.by_height(none, of_parts, whole),
        }

    def on_members(self, piece, answers):
        return {
            "member_divergence": divergence(piece.exact[:, None], answers[None]),
            **super().on_members(piece, answers),
        }

    def losses(self, piece, answers):
        excess = divergence(piece.exact[:1], answers)
        return {"excess": excess, "test_loss": self.loss_at(piece, answers), "entropy": entropy(answers)}

    def loss_at(self, piece, answers):
        return self.errors(piece.tokens, answers)

    def on_bound(self, piece, answers):
        def of_step(f):
            return self.process.step_divergence(piece.x_t, piece.t, piece.exact, f)

        return {"excess_bound": piece.weight[None] * jax.vmap(of_step)(jnp.exp(answers))}

    def coordinates(self):
        depth = self.grammar.depth
        return {
            "filtered": np.arange(depth + 1),
            "height": np.arange(-1, depth + 1),
            "other": np.arange(len(self.set_of)),
        }

    def references(self, inputs):
        pieces, reference = inputs.held_out, inputs.reference
        increments = jax.vmap(spectrum.increments)(reference.windows)
        return {
            # BP_k is nowhere zero where BP_0 is not.
            "scale": divergence(pieces.exact[:, :1], log_of(pieces.exact)),
            "increment": jnp.square(increments).sum((-1, -2)),
            "information": jax.lax.map(lambda piece: information(self.grammar, self.process, piece), pieces),
            **self.of_memorizers(reference.memories),
        }

    @classmethod
    def curves(cls, results):
        variables = {**super().curves(results.drop_vars("spectrum")), **spectrum_parts(results).data_vars}
        # Each replicate divides by its own increment, but whether there is one is asked once, of all inputs.
        increment = results.increment.mean("group")
        there = spectrum.told_from_rounding(increment, increment.sum("height"))
        variables["learned"] = variables["learned"].where(there)
        # Older records have no information.
        for name in {"increment", "scale", "information"} & set(variables):
            variables[name] = variables[name].expand_dims(network=results.network)
        return variables

    @classmethod
    def ratios(cls, x):
        total = x.error.sum("height")
        return x.assign(
            learned=x.learned / x.increment,
            slope=x.slope / x.empirical,
            share=x.data_dependent / x.error,
            total_error=total,
            total_share=x.data_dependent.sum("height") / total,
        )


def _canaries(key: Array, config: OnsetConfig, grammar: Grammar) -> tuple[Any, Any]:
    """Canaries of each set, and the coins that include them; None where there are none."""
    sets, m = config.sets, config.canaries
    if not m:
        return None, None
    leaves = sample(key_for(key, "sequences"), grammar, sets * m).leaves
    return leaves.reshape(sets, m, -1), jax.random.bernoulli(key_for(key, "coins"), 0.5, (sets, m))


def _labels(key: Array, config: OnsetConfig, grammar: Grammar, data: DataSets) -> tuple[Any, Any, int]:
    """The labels of training and held-out sequences, None where there are none, and how many there are of them."""
    level, sets, size, places = config.labels.label_level, config.sets, config.size, config.places
    match config.labels.labels:
        case "level":
            return data.train_levels[level], data.held_out_levels[level], grammar.symbols[level]
        case "random":
            number, nodes = grammar.symbols[level], grammar.branching**level
            of_train, of_held_out = (key_for(key, name) for name in ("train", "held-out"))
            train = jax.random.randint(of_train, (sets, size, nodes), 0, number)
            return train[:, places], jax.random.randint(of_held_out, (len(data.held_out), nodes), 0, number), number
        case "unique":
            return jnp.broadcast_to(jnp.asarray(places)[:, None], (sets, size, 1)), None, size
    return None, None, 0


def spectrum_parts(results: xr.Dataset) -> xr.Dataset:
    """The level spectrum as error of each network, and the common and data-dependent parts of each pair."""
    spectrum = results.spectrum.drop_vars(("network", "other", "data_set"), errors="ignore")
    return parts_of(spectrum, results["first"].values, results["second"].values)


def parts_of(products: xr.DataArray, first: np.ndarray, second: np.ndarray) -> xr.Dataset:
    """The same of products of the errors of each `network` with those of each `other`, for pairs of networks."""
    every = xr.DataArray(np.arange(products.sizes["network"]), dims="network")
    a, b = (xr.DataArray(ends, dims="pair") for ends in (first, second))
    error = products.isel(network=every, other=every)
    # Products of two different errors differ with their order, of which there is the mean.
    common = 0.5 * (products.isel(network=a, other=b) + products.isel(network=b, other=a))
    own = 0.5 * (error.isel(network=a) + error.isel(network=b)) - common
    return xr.Dataset({"error": error, "common": common, "data_dependent": own})
