"""The controlled experiment: train an ensemble on disjoint data sets and measure it at every checkpoint."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from hierdiff.devices import ensemble_mesh, over_networks
from hierdiff.grammar import Grammar, GrammarConfig, random_grammar
from hierdiff.measures.divergence import divergence, pairs, sample_split
from hierdiff.measures.probe import MeasureConfig, Probe, make_probe
from hierdiff.networks import Network, NetworkConfig, build_network
from hierdiff.noising import Schedule, linear_schedule
from hierdiff.options import option, require
from hierdiff.sampling import DataSets, data_sets
from hierdiff.training import TrainConfig, check_finite, cross_entropy, make_trainer


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnsetConfig:
    """Experiment."""

    seed: int = option(0, "seed of the grammar, the data, the networks and the noise")
    networks: int = option(4, "networks, each trained on a data set of its own")
    size: int = option(1000, "sequences in each data set (P)")
    levels: int = option(500, "noise levels (T)")
    common_start: bool = option(False, "start all networks from the same weights")
    grammar: GrammarConfig = dataclasses.field(default_factory=GrammarConfig)
    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    measure: MeasureConfig = dataclasses.field(default_factory=MeasureConfig)

    def __post_init__(self):
        require(self.seed >= 0, "seed", self.seed, "an integer of at least 0")
        require(self.networks >= 2, "networks", self.networks, "an integer of at least 2")
        require(self.size >= 1, "size", self.size, "an integer of at least 1")
        require(self.levels > 20, "levels", self.levels, "an integer above 20")
        need = f"at most the size of a data set, {self.size}"
        require(self.measure.members <= self.size, "members", self.measure.members, need)


class Laboratory(NamedTuple):
    """What a config stands for: the grammar, the data and the inputs on which networks are measured.

    `members` holds the first training sequences of each data set in turn, and `owner` the set each is from.
    """

    grammar: Grammar
    schedule: Schedule
    data: DataSets
    network: Network
    held_out: Probe
    members: Probe
    owner: np.ndarray


def set_up(config: OnsetConfig) -> Laboratory:
    """Draw everything but the networks' weights and the noise of training."""
    grammar_key, data_key, held_out_key, members_key = jax.random.split(jax.random.key(config.seed), 4)
    grammar = random_grammar(grammar_key, **dataclasses.asdict(config.grammar))
    schedule = linear_schedule(config.levels)
    measure = config.measure
    data = data_sets(data_key, grammar, sets=config.networks, size=config.size, held_out=measure.held_out)
    members = data.train[:, : measure.members].reshape(-1, grammar.leaves)
    sizes = {"vocab": grammar.vocab, "depth": grammar.depth, "branching": grammar.branching}
    return Laboratory(
        grammar,
        schedule,
        data,
        build_network(config.network, **sizes),
        make_probe(held_out_key, grammar, schedule, data.held_out, measure.noise),
        make_probe(members_key, grammar, schedule, members, measure.noise),
        np.repeat(np.arange(config.networks), measure.members),
    )


def train_and_measure(
    config: OnsetConfig, lab: Laboratory, report: Callable[[int, dict[str, np.ndarray]], None]
) -> xr.Dataset:
    """Train the ensemble of `config`, and measure it at each checkpoint.

    `report(step, measured)` is called now and then, with an empty `measured` between checkpoints.

    Raises:
      FloatingPointError: a loss is not finite; the message says at which step, of which network.
    """
    mesh = ensemble_mesh(config.networks)
    trainer = make_trainer(lab.network, lab.schedule, config.train, mesh, vocab=lab.grammar.vocab, size=config.size)
    init_key, train_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 1))
    init_keys = jax.random.split(init_key, config.networks)
    if config.common_start:
        init_keys = jnp.broadcast_to(init_keys[:1], init_keys.shape)
    keys = jax.random.split(train_key, config.networks)
    state, data = trainer.init(init_keys, lab.data.train)
    measure = make_measure(lab, mesh)

    done, measured = 0, []
    for checkpoint in config.train.checkpoint_steps():
        while done < checkpoint:
            until = min(checkpoint, done + max(1, config.train.steps // 200))
            state = trainer.advance(state, data, keys, done, until)
            check_finite(state)
            done = until
            if done < checkpoint:
                report(done, {})
        measured.append(jax.device_get(measure(state.average)))
        report(done, measured[-1])
    return label(config, lab, measured)


def make_measure(lab: Laboratory, mesh: jax.sharding.Mesh) -> Callable[[Any], dict[str, jax.Array]]:
    """The measures 1 to 3 of an ensemble, as one compiled function of its weights. Dimensions: see `label`."""

    def forward(params, x_t, t):
        return lab.network.log_posterior(params, x_t, t, None)

    log_posteriors = over_networks(forward, mesh, stacked=1)
    networks = int(lab.owner.max()) + 1
    first, second = np.array(pairs(networks)).T
    own = jnp.asarray(lab.owner == np.arange(networks)[:, None], float)
    in_pair = own[first] + own[second]

    def mean(x, weight):
        return (x * weight).sum(-1) / weight.sum(-1)

    def standard_error(x):
        return x.std(-1, ddof=1) / jnp.sqrt(x.shape[-1])

    def at_level(params, tokens, level):
        t, x_t, exact = level
        log_f = log_posteriors(params, x_t, t)
        gap = divergence(exact[:, None], log_f[None])
        return (
            gap,
            cross_entropy(jnp.broadcast_to(tokens, log_f.shape[:-1]), log_f),
            sample_split(log_f[first], log_f[second]),
        )

    def on(probe, params):
        levels = (probe.t, probe.x_t, probe.exact)
        return jax.lax.map(lambda level: at_level(params, probe.leaves[None], level), levels)

    def measure(params, held_out, members):
        gap, loss, split = on(held_out, params)
        _, member_loss, member_split = on(members, params)
        return {
            "divergence": gap[:-1].mean(-1),
            "divergence_error": standard_error(gap[:-1]),
            "excess": gap[-1, 0],
            "split": split[:-1],
            "test_loss": loss[-1].mean(-1),
            "test_loss_error": standard_error(loss[-1]),
            "train_loss": mean(member_loss[-1], own),
            "member_split": mean(member_split[:-1], in_pair[None]),
        }

    compiled = jax.jit(measure)
    return lambda params: compiled(params, lab.held_out, lab.members)


DIMENSIONS = {
    "divergence": ("noise", "filtered", "network"),
    "divergence_error": ("noise", "filtered", "network"),
    "excess": ("network", "sequence"),
    "split": ("noise", "pair", "sequence"),
    "test_loss": ("network",),
    "test_loss_error": ("network",),
    "train_loss": ("network",),
    "member_split": ("noise", "pair"),
}
MEANINGS = {
    "divergence": "KL(BP_k || f) on held-out sequences, mean",
    "divergence_error": "its standard error over the sequences",
    "excess": "KL(BP_0 || f) of each held-out sequence, t uniform: the test loss above its Bayes value",
    "split": "symmetrised KL(f_A || f_B) of each held-out sequence",
    "test_loss": "cross-entropy on held-out sequences, t uniform",
    "test_loss_error": "its standard error over the sequences",
    "train_loss": "cross-entropy on the network's own training sequences, t uniform",
    "member_split": "symmetrised KL(f_A || f_B) on the two networks' training sequences, mean",
    "scale": "KL(BP_0 || BP_k) on held-out sequences, mean",
}


def label(config: OnsetConfig, lab: Laboratory, measured: list[dict[str, np.ndarray]]) -> xr.Dataset:
    """The measurements of all checkpoints as one labelled set of arrays, in nats a sequence."""
    variables = {
        name: (("step", *dimensions), np.stack([each[name] for each in measured]))
        for name, dimensions in DIMENSIONS.items()
    }
    exact = lab.held_out.exact[:-1]
    # BP_k is nowhere zero where BP_0 is not, but it may lie below float32's smallest number.
    scale = divergence(exact[:, :1], jnp.log(jnp.maximum(exact, jnp.finfo(exact.dtype).tiny))).mean(-1)
    coordinates = {
        "step": config.train.checkpoint_steps(),
        "noise": list(config.measure.noise),
        "filtered": np.arange(lab.grammar.depth + 1),
        "network": np.arange(config.networks),
        "pair": [f"{a}-{b}" for a, b in pairs(config.networks)],
    }
    results = xr.Dataset({**variables, "scale": (("noise", "filtered"), np.asarray(scale))}, coordinates)
    for name, meaning in MEANINGS.items():
        results[name].attrs = {"meaning": meaning, "units": "nats per sequence"}
    results.attrs["coincidences"] = lab.data.coincidences
    return results
