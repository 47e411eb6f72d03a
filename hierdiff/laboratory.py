"""The controlled experiment: train an ensemble on disjoint data sets and measure it at every checkpoint."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from hierdiff.devices import ensemble_mesh, over_networks
from hierdiff.grammar import Grammar, GrammarConfig, random_grammar
from hierdiff.measures.divergence import divergence, pairs, sample_split
from hierdiff.measures.probe import GROUPS, MeasureConfig, Probe, make_probe, noise_level, probe_times
from hierdiff.measures.slope import slope_products
from hierdiff.measures.spectrum import SpectrumProbe, learned_products, level_spectrum, make_spectrum_probe
from hierdiff.networks import Network, NetworkConfig, build_network
from hierdiff.noising import Schedule, linear_schedule
from hierdiff.options import option, require
from hierdiff.posterior import empirical_posterior
from hierdiff.sampling import DataSets, data_sets
from hierdiff.training import TrainConfig, check_finite, cross_entropy, make_trainer


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnsetConfig:
    """Experiment."""

    seed: int = option(0, "seed of the grammar, the data, the networks and the noise")
    sets: int = option(4, "disjoint data sets")
    seeds_per_set: int = option(1, "networks trained on each data set, from different weights and with different noise")
    size: int = option(1000, "sequences in each data set (P)")
    noise_levels: int = option(500, "noise levels (T)")
    common_start: bool = option(False, "start all networks from the same weights")
    grammar: GrammarConfig = dataclasses.field(default_factory=GrammarConfig)
    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    measure: MeasureConfig = dataclasses.field(default_factory=MeasureConfig)

    def __post_init__(self):
        require(0 <= self.seed < 2**32, "seed", self.seed, "an integer from 0 to 4,294,967,295")
        require(self.sets >= 2, "sets", self.sets, "an integer of at least 2")
        require(self.seeds_per_set >= 1, "seeds_per_set", self.seeds_per_set, "an integer of at least 1")
        require(self.size >= 1, "size", self.size, "an integer of at least 1")
        require(self.noise_levels > 20, "noise_levels", self.noise_levels, "an integer above 20")
        need = f"at most the size of a data set, {self.size}"
        require(self.measure.members <= self.size, "members", self.measure.members, need)
        levels = [noise_level(share, self.noise_levels) for share in self.measure.noise]
        need = f"values that are distinct among the {self.noise_levels} noise levels, not {levels}"
        require(len(set(levels)) == len(levels), "noise", self.measure.noise, need)


class Laboratory(NamedTuple):
    """What a config stands for: the grammar, the data and the inputs on which networks are measured.

    Network i is trained on data set `set_of[i]`. `members` holds the first training sequences of each data set in turn;
    `empirical` are the memorizers of the data sets on the held-out inputs.
    """

    grammar: Grammar
    schedule: Schedule
    data: DataSets
    network: Network
    set_of: np.ndarray
    held_out: Probe
    spectrum: SpectrumProbe
    empirical: Float[Array, "N sets n L v"]
    members: Probe
    init_key: Array
    train_key: Array


def set_up(config: OnsetConfig) -> Laboratory:
    """Draw everything but the networks' weights and the noise of training."""
    grammar_key, data_key, times_key, probe_key, spectrum_key, init_key, train_key = jax.random.split(
        jax.random.key(config.seed), 7
    )
    grammar = random_grammar(grammar_key, **dataclasses.asdict(config.grammar))
    schedule = linear_schedule(config.noise_levels)
    measure = config.measure
    data = data_sets(data_key, grammar, sets=config.sets, size=config.size, held_out=measure.held_out)
    sizes = {"vocab": grammar.vocab, "depth": grammar.depth, "branching": grammar.branching}
    members = data.train[:, : measure.members].reshape(-1, grammar.leaves)
    sizes_and_keys = zip(
        [measure.held_out, *config.sets * [measure.members]], jax.random.split(times_key, 1 + config.sets), strict=True
    )
    times = [probe_times(key, n, measure.noise, config.noise_levels) for n, key in sizes_and_keys]
    probe = make_probe(
        probe_key, grammar, schedule, jnp.concatenate([data.held_out, members]), jnp.concatenate(times, axis=1)
    )
    held_out = probe.part(slice(measure.held_out))
    fixed = list(zip(held_out.x_t[:-1], held_out.t[:-1], strict=True))
    spectra = [
        make_spectrum_probe(key, grammar, schedule, x_t, t)
        for key, (x_t, t) in zip(jax.random.split(spectrum_key, len(fixed)), fixed, strict=True)
    ]
    empirical = [
        jnp.stack([empirical_posterior(train, x_t, schedule.alpha_bar[t - 1]) for train in data.train])
        for x_t, t in fixed
    ]
    return Laboratory(
        grammar,
        schedule,
        data,
        build_network(config.network, **sizes),
        np.repeat(np.arange(config.sets), config.seeds_per_set),
        held_out,
        jax.tree.map(lambda *each: jnp.stack(each), *spectra),
        jnp.stack(empirical),
        probe.part(slice(measure.held_out, None)),
        init_key,
        train_key,
    )


def train_and_measure(
    config: OnsetConfig, lab: Laboratory, report: Callable[[int, dict[str, np.ndarray]], None]
) -> xr.Dataset:
    """Train the ensemble of `config`, and measure it at each checkpoint.

    `report(step, measured)` is called now and then, with an empty `measured` between checkpoints.

    Raises:
      FloatingPointError: a loss is not finite; the message says at which step, of which network.
    """
    networks = len(lab.set_of)
    mesh = ensemble_mesh(networks)
    trainer = make_trainer(lab.network, lab.schedule, config.train, mesh, vocab=lab.grammar.vocab, size=config.size)
    init_keys = jax.random.split(lab.init_key, networks)
    if config.common_start:
        init_keys = jnp.broadcast_to(init_keys[:1], init_keys.shape)
    keys = jax.random.split(lab.train_key, networks)
    state, data = trainer.init(init_keys, lab.data.train[lab.set_of])
    measure = make_measure(lab, mesh)

    done, measured, seconds_measuring, started = 0, [], 0.0, time.monotonic()
    for checkpoint in config.train.checkpoint_steps():
        while done < checkpoint:
            until = min(checkpoint, done + max(1, config.train.steps // 200))
            state = trainer.advance(state, data, keys, done, until)
            check_finite(state)
            done = until
            if done < checkpoint:
                report(done, {})
        jax.block_until_ready(state)
        before = time.monotonic()
        measured.append(jax.device_get(measure(state.average)))
        seconds_measuring += time.monotonic() - before
        report(done, measured[-1])
    results = label(config, lab, measured)
    results.attrs["seconds_measuring"] = seconds_measuring
    results.attrs["seconds_training"] = time.monotonic() - started - seconds_measuring
    return results


def make_measure(lab: Laboratory, mesh: jax.sharding.Mesh) -> Callable[[Any], dict[str, jax.Array]]:
    """All measures of an ensemble, as one compiled function of its weights. Dimensions: see `DIMENSIONS`."""

    def forward(params, x_t, t):
        return lab.network.log_posterior(params, x_t, t, None)

    log_posteriors = over_networks(forward, mesh, stacked=1)
    first, second = np.array(pairs(len(lab.set_of))).T
    set_a, set_b = lab.set_of[first], lab.set_of[second]

    def on_set(x, sets):
        """Of the values on the members of every data set in turn, those on set `sets[u]` for unit u, in groups."""
        x = x.reshape(*x.shape[:-1], len(lab.data.train), -1)
        return in_groups(x[..., np.arange(len(sets)), sets, :])

    def losses(params, probe):
        """At uniform t: the divergence from the exact posterior, and the cross-entropy."""
        log_f = log_posteriors(params, probe.x_t[-1], probe.t[-1])
        tokens = jnp.broadcast_to(probe.leaves[None], log_f.shape[:-1])
        return divergence(probe.exact[-1, :1], log_f), cross_entropy(tokens, log_f)

    def on_held_out(params, level):
        exact, spectrum, empirical = level
        log_f = log_posteriors(params, spectrum.x_t, spectrum.t)
        f = jnp.exp(log_f)
        learned, _ = learned_products(f, spectrum)
        slope, _ = slope_products(f[first] - f[second], empirical[set_a] - empirical[set_b])

        def posteriors(x_t, t):
            return jnp.exp(log_posteriors(params, x_t, t))

        return {
            "divergence": in_groups(divergence(exact[:, None], log_f[None])),
            "split": in_groups(sample_split(log_f[first], log_f[second])),
            "learned": in_groups(learned),
            "slope": in_groups(slope),
            "spectrum": level_spectrum(f, posteriors, spectrum, groups=GROUPS),
        }

    def on_members(params, level):
        x_t, t, exact = level
        log_f = log_posteriors(params, x_t, t)
        split = sample_split(log_f[first], log_f[second])
        return {
            "member_divergence": on_set(divergence(exact[:, None], log_f[None]), lab.set_of),
            "member_split": 0.5 * (on_set(split, set_a) + on_set(split, set_b)),
        }

    @jax.jit
    def measure(params, held_out, spectrum, empirical, members):
        levels = (held_out.exact[:-1], spectrum, empirical)
        measured = jax.lax.map(lambda level: on_held_out(params, level), levels)
        excess, test_loss = losses(params, held_out)
        member_excess, train_loss = losses(params, members)
        member_levels = (members.x_t[:-1], members.t[:-1], members.exact[:-1])
        return {
            **measured,
            **jax.lax.map(lambda level: on_members(params, level), member_levels),
            "member_excess": on_set(member_excess, lab.set_of),
            "excess": in_groups(excess),
            "test_loss": in_groups(test_loss),
            "train_loss": on_set(train_loss, lab.set_of),
        }

    return lambda params: measure(params, lab.held_out, lab.spectrum, lab.empirical, lab.members)


def in_groups(x: Float[Array, "*batch n"]) -> Float[Array, "*batch groups"]:
    """Means over the groups of sequences."""
    return x.reshape(*x.shape[:-1], GROUPS, -1).mean(-1)


NATS, SQUARED = "nats per sequence", "squared units per sequence"
# Of each variable: its dimensions beside the step, its units and its meaning.
DIMENSIONS = {
    "divergence": (("noise", "filtered", "network", "group"), NATS, "KL(BP_k || f), held-out"),
    "split": (("noise", "pair", "group"), NATS, "symmetrised KL(f_A || f_B), held-out"),
    "member_divergence": (
        ("noise", "filtered", "network", "group"),
        NATS,
        "KL(BP_k || f), own training sequences",
    ),
    "member_split": (("noise", "pair", "group"), NATS, "symmetrised KL(f_A || f_B) on the pair's training sequences"),
    "excess": (("network", "group"), NATS, "KL(BP_0 || f), held-out, t uniform: the test loss above its Bayes value"),
    "test_loss": (("network", "group"), NATS, "cross-entropy, held-out, t uniform"),
    "member_excess": (("network", "group"), NATS, "KL(BP_0 || f) on its own training sequences, t uniform"),
    "train_loss": (("network", "group"), NATS, "cross-entropy on the network's own training sequences, t uniform"),
    "spectrum": (("noise", "height", "network", "other", "group"), SQUARED, "<d_h e_A, d_h e_B>, held-out"),
    "learned": (("noise", "height", "network", "group"), SQUARED, "<f, D_h>, held-out"),
    "slope": (("noise", "pair", "group"), SQUARED, "<f_A - f_B, emp_A - emp_B>, held-out"),
}


def label(config: OnsetConfig, lab: Laboratory, measured: list[dict[str, np.ndarray]]) -> xr.Dataset:
    """The measurements of all checkpoints, and what they are compared with, as one labelled set of arrays."""
    first, second = np.array(pairs(len(lab.set_of))).T
    results = xr.Dataset(
        {
            name: (
                ("step", *dimensions),
                np.stack([each[name] for each in measured]),
                {"units": units, "meaning": meaning},
            )
            for name, (dimensions, units, meaning) in DIMENSIONS.items()
        },
        {
            "step": config.train.checkpoint_steps(),
            "noise": list(config.measure.noise),
            "filtered": np.arange(lab.grammar.depth + 1),
            "height": np.arange(-1, lab.grammar.depth + 1),
            "network": np.arange(len(lab.set_of)),
            "other": np.arange(len(lab.set_of)),
            "first": ("pair", first),
            "second": ("pair", second),
            "data_set": ("network", lab.set_of),
        },
        {"coincidences": lab.data.coincidences},
    )
    exact = lab.held_out.exact[:-1]
    # BP_k is nowhere zero where BP_0 is not, but it may lie below float32's smallest number.
    scale = divergence(exact[:, :1], jnp.log(jnp.maximum(exact, jnp.finfo(exact.dtype).tiny)))
    _, increments = jax.vmap(lambda probe: learned_products(probe.windows[-1:], probe))(lab.spectrum)
    memories = lab.empirical[:, lab.set_of]
    empirical = jnp.square(memories[:, first] - memories[:, second]).sum((-1, -2))
    for name, dimensions, values, units, meaning in (
        ("scale", ("noise", "filtered", "group"), scale, NATS, "KL(BP_0 || BP_k), held-out"),
        ("increment", ("noise", "height", "group"), increments, SQUARED, "|D_h|^2, held-out"),
        ("empirical", ("noise", "pair", "group"), empirical, SQUARED, "|emp_A - emp_B|^2, held-out"),
    ):
        results[name] = (dimensions, np.asarray(in_groups(values)), {"units": units, "meaning": meaning})
    return results
