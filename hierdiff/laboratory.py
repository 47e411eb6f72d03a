"""The controlled experiment: train an ensemble on disjoint data sets and measure it at every checkpoint."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import Mesh
from jax.stages import Wrapped
from jaxtyping import Array, Float

from hierdiff import record
from hierdiff.devices import ensemble_mesh, over_networks, spread_batch
from hierdiff.grammar import Grammar, GrammarConfig, random_grammar
from hierdiff.measures.divergence import divergence, log_of, pairs, sample_split
from hierdiff.measures.probe import (
    GROUPS,
    MeasureConfig,
    Probe,
    in_groups,
    make_probe,
    probe_times,
    require_levels,
    require_size,
)
from hierdiff.measures.slope import slope_products
from hierdiff.measures.spectrum import SpectrumProbe, learned_products, level_spectrum, make_spectrum_probe
from hierdiff.networks import Network, NetworkConfig, build_network
from hierdiff.noising import Schedule, check_levels, linear_schedule
from hierdiff.options import option, require, require_seed
from hierdiff.posterior import empirical_posterior
from hierdiff.sampling import DataSets, data_sets
from hierdiff.training import Experiment, TrainConfig, Training, cross_entropy, make_trainer, token_loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnsetConfig:
    """Experiment."""

    seed: int = option(0, "seed of the grammar, the data, the networks and the noise")
    split: int = option(0, "which draw of the data, the networks and the noise, for the grammar of the seed")
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
        require_seed("seed", self.seed)
        require_seed("split", self.split)
        require(self.sets >= 2, "sets", self.sets, "an integer of at least 2")
        require(self.seeds_per_set >= 1, "seeds_per_set", self.seeds_per_set, "an integer of at least 1")
        require(self.size >= 1, "size", self.size, "an integer of at least 1")
        check_levels("noise_levels", self.noise_levels)
        require_size("members", self.measure.members, self.size)
        require_levels("noise", self.measure.noise, self.noise_levels)


class Setting(NamedTuple):
    """What a config stands for. Network i is trained on data set `set_of[i]`."""

    grammar: Grammar
    schedule: Schedule
    data: DataSets
    network: Network
    set_of: np.ndarray
    mesh: Mesh
    inputs_keys: list[Array]
    init_key: Array
    train_key: Array
    snapshots_key: Array


class Inputs(NamedTuple):
    """Where the networks are measured.

    `members` holds the first training sequences of each data set in turn; `empirical` are the memorizers of the data
    sets on the held-out inputs.
    """

    held_out: Probe
    spectrum: SpectrumProbe
    empirical: Float[Array, "N sets n L v"]
    members: Probe


def set_up(config: OnsetConfig) -> Setting:
    """Draw the grammar and the data."""
    key = jax.random.key(config.seed)
    grammar = random_grammar(jax.random.split(key, 8)[0], **dataclasses.asdict(config.grammar))
    if config.split:
        key = jax.random.fold_in(key, config.split)
    _, data_key, *inputs_keys, init_key, train_key, snapshots_key = jax.random.split(key, 8)
    sizes = {"vocab": grammar.vocab, "depth": grammar.depth, "branching": grammar.branching}
    set_of = np.repeat(np.arange(config.sets), config.seeds_per_set)
    return Setting(
        grammar,
        linear_schedule(config.noise_levels),
        data_sets(data_key, grammar, sets=config.sets, size=config.size, held_out=config.measure.held_out),
        build_network(config.network, **sizes),
        set_of,
        ensemble_mesh(len(set_of)),
        inputs_keys,
        init_key,
        train_key,
        snapshots_key,
    )


def make_inputs(setting: Setting, measure: MeasureConfig) -> Inputs:
    """Noise the held-out sequences and some of the training ones, with all that the networks are compared with."""
    grammar, schedule, data = setting.grammar, setting.schedule, setting.data
    times_key, probe_key, spectrum_key = setting.inputs_keys
    members = data.train[:, : measure.members].reshape(-1, grammar.leaves)
    sizes = [len(data.held_out), *len(data.train) * [measure.members]]
    keys = jax.random.split(times_key, len(sizes))
    times = [probe_times(key, n, measure.noise, schedule.levels) for n, key in zip(sizes, keys, strict=True)]
    leaves, t = jnp.concatenate([data.held_out, members]), jnp.concatenate(times, axis=1)
    probe = make_probe(probe_key, grammar, schedule, leaves, t, filtered=tuple(range(grammar.depth + 1)))
    held_out = probe.part(slice(sizes[0]))
    fixed = list(zip(held_out.x_t[:-1], held_out.t[:-1], strict=True))
    spectra = [
        make_spectrum_probe(key, grammar, schedule, x_t, t)
        for key, (x_t, t) in zip(jax.random.split(spectrum_key, len(fixed)), fixed, strict=True)
    ]
    empirical = [
        jnp.stack([empirical_posterior(train, x_t, schedule.alpha_bar[t - 1]) for train in data.train])
        for x_t, t in fixed
    ]
    return Inputs(
        held_out,
        jax.tree.map(lambda *each: jnp.stack(each), *spectra),
        jnp.stack(empirical),
        probe.part(slice(sizes[0], None)),
    )


def prepare(config: OnsetConfig, setting: Setting) -> Training:
    """Draw the first weights of every network."""
    networks, vocab = len(setting.set_of), setting.grammar.vocab
    loss = token_loss(setting.network, setting.schedule, config.train.batch, setting.mesh, vocab=vocab)
    trainer = make_trainer(setting.network.init, loss, config.train, setting.mesh, config.size)
    init_keys = jax.random.split(setting.init_key, networks)
    if config.common_start:
        init_keys = jnp.broadcast_to(init_keys[:1], init_keys.shape)
    state, data = trainer.init(init_keys, setting.data.train[setting.set_of])
    return Training(trainer, data, jax.random.split(setting.train_key, networks), state)


def experiment(config: OnsetConfig, setting: Setting, inputs: Any) -> Experiment:
    """What a run carries out; of a plan, `inputs` are their shapes."""
    training = prepare(config, setting)
    return Experiment(config.train, config.size, setting.mesh, training, make_measure(setting), inputs)


def make_measure(setting: Setting) -> Wrapped:
    """All measures of an ensemble, as one compiled function of its weights and the inputs.

    It gives an array for each name in `DIMENSIONS`, where its dimensions are.
    """

    def forward(params, x_t, t):
        x_t, t = spread_batch((x_t, t), setting.mesh)
        return setting.network.log_posterior(params, x_t, t, None)

    log_posteriors = over_networks(forward, setting.mesh, stacked=1)
    first, second = np.array(pairs(len(setting.set_of))).T
    set_a, set_b = setting.set_of[first], setting.set_of[second]

    def on_set(x, sets):
        """Of the values on the members of every data set in turn, those on set `sets[u]` for unit u, in groups."""
        x = x.reshape(*x.shape[:-1], len(setting.data.train), -1)
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
            "member_divergence": on_set(divergence(exact[:, None], log_f[None]), setting.set_of),
            "member_split": 0.5 * (on_set(split, set_a) + on_set(split, set_b)),
        }

    @jax.jit
    def measure(params, inputs):
        held_out, spectrum, empirical, members = inputs
        levels = (held_out.exact[:-1], spectrum, empirical)
        measured = jax.lax.map(lambda level: on_held_out(params, level), levels)
        excess, test_loss = losses(params, held_out)
        member_excess, train_loss = losses(params, members)
        member_levels = (members.x_t[:-1], members.t[:-1], members.exact[:-1])
        return {
            **measured,
            **jax.lax.map(lambda level: on_members(params, level), member_levels),
            "member_excess": on_set(member_excess, setting.set_of),
            "excess": in_groups(excess),
            "test_loss": in_groups(test_loss),
            "train_loss": on_set(train_loss, setting.set_of),
        }

    return measure


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


def label(
    steps: list[int],
    noise: tuple[float, ...],
    setting: Setting,
    inputs: Inputs,
    measured: list[dict[str, np.ndarray]],
) -> xr.Dataset:
    """The measurements at each step, and what they are compared with, as one labelled set of arrays."""
    first, second = np.array(pairs(len(setting.set_of))).T
    results = xr.Dataset(
        record.over_steps(DIMENSIONS, measured),
        {
            "step": steps,
            "noise": list(noise),
            "filtered": np.arange(setting.grammar.depth + 1),
            "height": np.arange(-1, setting.grammar.depth + 1),
            "network": np.arange(len(setting.set_of)),
            "other": np.arange(len(setting.set_of)),
            "first": ("pair", first),
            "second": ("pair", second),
            "data_set": ("network", setting.set_of),
        },
        {"coincidences": setting.data.coincidences},
    )
    exact = inputs.held_out.exact[:-1]
    # BP_k is nowhere zero where BP_0 is not.
    scale = divergence(exact[:, :1], log_of(exact))
    _, increments = jax.vmap(lambda probe: learned_products(probe.windows[-1:], probe))(inputs.spectrum)
    memories = inputs.empirical[:, setting.set_of]
    empirical = jnp.square(memories[:, first] - memories[:, second]).sum((-1, -2))
    for name, dimensions, values, units, meaning in (
        ("scale", ("noise", "filtered", "group"), scale, NATS, "KL(BP_0 || BP_k), held-out"),
        ("increment", ("noise", "height", "group"), increments, SQUARED, "|D_h|^2, held-out"),
        ("empirical", ("noise", "pair", "group"), empirical, SQUARED, "|emp_A - emp_B|^2, held-out"),
    ):
        results[name] = (dimensions, np.asarray(in_groups(values)), {"units": units, "meaning": meaning})
    return results
