"""Sequences of a random grammar: data, networks, where they are measured, and what is measured there."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import Mesh
from jax.stages import Wrapped
from jaxtyping import Array, Float, Int

from hierdiff.grammar import Grammar, random_grammar
from hierdiff.keys import key_for, keys_of
from hierdiff.learning.devices import ensemble_mesh, over_networks, spread_batch
from hierdiff.learning.loop import Experiment, Training, TrainingSet, make_trainer, token_losses
from hierdiff.learning.network import Network, network_log_posterior
from hierdiff.measures import spectrum
from hierdiff.measures.divergence import divergence, log_of, pairs, sample_split
from hierdiff.measures.probe import Completion, Piece, Reference, at, make_pieces, make_reference, stacked
from hierdiff.measures.slope import slope_products
from hierdiff.noising import PROCESSES, Process
from hierdiff.noising.process import any_times, cross_entropy, noise_level
from hierdiff.runs import record
from hierdiff.sampling import DataSets, data_sets
from hierdiff.statistics.groups import GROUPS, in_groups
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.worlds.run_config import MeasureConfig, OnsetConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a config stands for. Network i is trained on data set `set_of[i]`."""

    grammar: Grammar
    process: Process
    data: DataSets
    network: Network
    set_of: np.ndarray
    mesh: Mesh
    key: Array


class Inputs(NamedTuple):
    """Where the networks are measured: at the noise levels asked for, and at t uniform on 1..T (`any_...`).

    A mean over the latter is the mean over the noise that training sees. `members` holds the first training sequences
    of each data set in turn.
    """

    held_out: Piece
    reference: Reference
    members: Piece
    any_held_out: Piece
    any_members: Piece


def set_up(config: OnsetConfig) -> Setting:
    """Draw the grammar and the data."""
    grammar = random_grammar(key_for(config.seed, "grammar"), **dataclasses.asdict(config.grammar))
    key = key_for(config.seed, f"split {config.split}")
    process = PROCESSES[config.process](vocab=grammar.vocab, levels=config.noise_levels)
    sizes = {"vocab": grammar.vocab, "depth": grammar.depth, "branching": grammar.branching}
    set_of = np.repeat(np.arange(config.sets), config.seeds_per_set)
    return Setting(
        grammar=grammar,
        process=process,
        data=data_sets(
            key_for(key, "data"), grammar, sets=config.sets, size=config.size, held_out=config.measure.held_out
        ),
        network=config.network.build(channels=process.channels, **sizes),
        set_of=set_of,
        mesh=ensemble_mesh(len(set_of)),
        key=key,
    )


def make_inputs(setting: Setting, measure: MeasureConfig) -> Inputs:
    """Noise the held-out sequences and some of the training ones, with all that the networks are compared with."""
    grammar, process, data = setting.grammar, setting.process, setting.data
    members = data.train[:, : measure.members].reshape(-1, grammar.leaves)
    levels = [noise_level(share, process.levels) for share in measure.noise]
    of_sets = keys_of(key_for(setting.key, "members' any level"), range(len(data.train)))
    t_members = jnp.concatenate([any_times(key, measure.members, process.levels) for key in of_sets])
    t_held_out = any_times(key_for(setting.key, "held-out any level"), len(data.held_out), process.levels)
    filtered = tuple(range(grammar.depth + 1))
    held_out = noised_at(setting, "held-out", data.held_out, levels, t_held_out, filtered)
    members = noised_at(setting, "members'", members, levels, t_members, filtered)
    keys = [key_for(setting.key, f"completions at t = {level}") for level in levels]
    references = [make_reference(key, grammar, process, at(held_out, i), data.train) for i, key in enumerate(keys)]
    return Inputs(
        at(held_out, slice(-1)), stacked(references), at(members, slice(-1)), at(held_out, -1), at(members, -1)
    )


def noised_at(
    setting: Setting,
    whose: str,
    tokens: Int[Array, "n L"],
    levels: list[int],
    any_level: Int[Array, " n"],
    filtered: tuple[int, ...],
) -> Piece:
    """Pieces of the sequences at each level and, last, each at its own `any_level`; the noise of each has a name."""
    t = jnp.stack([*(jnp.full(len(tokens), level, jnp.int32) for level in levels), any_level])
    names = [*(f"t = {level}" for level in levels), "any level"]
    keys = jnp.stack([key_for(setting.key, f"{whose} noise at {name}") for name in names])
    return make_pieces(keys, setting.grammar, setting.process, tokens, t, filtered=filtered)


def prepare(config: OnsetConfig, setting: Setting) -> Training:
    """Draw the first weights of every network."""
    networks = len(setting.set_of)
    process, mesh = setting.process, setting.mesh
    losses = token_losses(setting.network, process, mesh)
    trainer = make_trainer(setting.network.init, losses, config.train, mesh, size=config.size, levels=process.levels)
    init_keys = keys_of(key_for(setting.key, "first weights"), range(networks))
    if config.common_start:
        init_keys = jnp.broadcast_to(init_keys[:1], init_keys.shape)
    train = setting.data.train[setting.set_of]
    state, data = trainer.init(init_keys, TrainingSet(train, jnp.ones(train.shape[:2])))
    return Training(trainer, data, keys_of(key_for(setting.key, "training"), range(networks)), state)


def experiment(config: OnsetConfig, setting: Setting, inputs: Any) -> Experiment:
    """What a run carries out; of a plan, `inputs` are their shapes."""
    training = prepare(config, setting)
    return Experiment(config.train, config.size, setting.mesh, training, make_measure(setting), inputs)


def measure_held_out(
    piece: Piece, reference: Reference, log_f: Float[Array, "S n L v"], set_of: np.ndarray
) -> dict[str, Array]:
    """What the answers of all networks on one piece say; `none` and `whole` are the ends of the level spectrum."""
    first, second = np.array(pairs(len(set_of))).T
    f = jnp.exp(log_f)
    learned, _ = spectrum.learned_products(f, reference.windows)
    memories = reference.memories
    slope, _ = slope_products(f[first] - f[second], memories[set_of[first]] - memories[set_of[second]])
    none, whole = spectrum.ends(f - reference.windows[-1][None], groups=GROUPS)
    return {
        "divergence": in_groups(divergence(piece.exact[:, None], log_f[None])),
        "split": in_groups(sample_split(log_f[first], log_f[second])),
        "learned": in_groups(learned),
        "slope": in_groups(slope),
        "none": none,
        "whole": whole,
    }


def measure_completion(
    reference: Reference, log_f: Float[Array, "S n L v"], completion: Completion, log_f_there: Float[Array, "S n L v"]
) -> Float[Array, "S S groups"]:
    """What the answers on a piece and those on its completion of one height say: a term of the level spectrum."""
    error, there = jnp.exp(log_f) - reference.windows[-1][None], jnp.exp(log_f_there) - completion.exact[None]
    return spectrum.on_blocks(error, there, completion.weight, groups=GROUPS)


def make_measure(setting: Setting) -> Wrapped:
    """All measures of an ensemble, as one compiled function of its weights and the inputs.

    It gives an array for each name in `VARIABLES`, where its dimensions are.
    """
    log_posterior, set_of = network_log_posterior(setting.network, setting.process), setting.set_of
    first, second = np.array(pairs(len(set_of))).T

    def forward(params, x_t, t):
        return log_posterior(params, *spread_batch((x_t, t), setting.mesh))

    run = over_networks(forward, setting.mesh, stacked=1)

    def on_set(x, sets):
        """Of the values on the members of every data set in turn, those on set `sets[u]` for unit u, in groups."""
        x = x.reshape(*x.shape[:-1], len(setting.data.train), -1)
        return in_groups(x[..., np.arange(len(sets)), sets, :])

    def losses(params, piece):
        """The divergence from the exact posterior, and the cross-entropy."""
        log_f = run(params, piece.x_t, piece.t)
        tokens = jnp.broadcast_to(piece.tokens[None], log_f.shape[:-1])
        return divergence(piece.exact[:1], log_f), cross_entropy(tokens, log_f)

    def on_held_out(params, level):
        piece, reference = level
        log_f = run(params, piece.x_t, piece.t)

        def on_completion(completion):
            return measure_completion(reference, log_f, completion, run(params, completion.x_t, piece.t))

        found = measure_held_out(piece, reference, log_f, set_of)
        return {**found, "blocks": jax.lax.map(on_completion, reference.completions)}

    def on_members(params, piece):
        log_f = run(params, piece.x_t, piece.t)
        split = sample_split(log_f[first], log_f[second])
        return {
            "member_divergence": on_set(divergence(piece.exact[:, None], log_f[None]), set_of),
            "member_split": 0.5 * (on_set(split, set_of[first]) + on_set(split, set_of[second])),
        }

    @jax.jit
    def measure(params, inputs):
        excess, test_loss = losses(params, inputs.any_held_out)
        member_excess, train_loss = losses(params, inputs.any_members)
        return {
            **jax.lax.map(lambda level: on_held_out(params, level), (inputs.held_out, inputs.reference)),
            **jax.lax.map(lambda level: on_members(params, level), inputs.members),
            "member_excess": on_set(member_excess, set_of),
            "excess": in_groups(excess),
            "test_loss": in_groups(test_loss),
            "train_loss": on_set(train_loss, set_of),
        }

    return measure


NATS, SQUARED = "nats per sequence", "squared units per sequence"
PRODUCTS = ("network", "other", "group")
# Of each variable that is measured: its dimensions beside the step, its units and its meaning.
VARIABLES = {
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
    "learned": (("noise", "height", "network", "group"), SQUARED, "<f, D_h>, held-out"),
    "slope": (("noise", "pair", "group"), SQUARED, "<f_A - f_B, emp_A - emp_B>, held-out"),
    "loss": (("noise", "network", "group"), NATS, "cross-entropy, held-out"),
    "none": (("noise", *PRODUCTS), SQUARED, "<e_A, e_B> given nothing"),
    "blocks": (("noise", "block", *PRODUCTS), SQUARED, "<e_A, e_B> given a block of each height"),
    "whole": (("noise", *PRODUCTS), SQUARED, "<e_A, e_B>"),
}


def label(
    steps: list[int],
    noise: tuple[float, ...],
    setting: Setting,
    inputs: Inputs,
    measured: list[dict[str, np.ndarray]],
) -> xr.Dataset:
    """The measurements at each step, and what they are compared with, as one labelled set of arrays."""
    along = {"step": steps, "noise": list(noise)}
    results = label_measured(along, setting.set_of, inputs.held_out, inputs.reference, measured)
    return results.assign_attrs(coincidences=setting.data.coincidences)


def label_measured(
    along: dict[str, list], set_of: np.ndarray, pieces: Piece, reference: Reference, measured: list[dict[str, Any]]
) -> xr.Dataset:
    """What was measured at each step, with coordinates and the level spectrum; and what it is compared with."""
    variables = record.over_steps({name: VARIABLES[name] for name in measured[0]}, measured)
    first, second = np.array(pairs(len(set_of))).T
    depth = pieces.exact.shape[1] - 1
    (_, none, _), (_, blocks, _), (_, whole, _) = (variables.pop(name) for name in ("none", "blocks", "whole"))
    cumulative = np.concatenate([none[:, :, None], blocks, whole[:, :, None]], 2)
    about = {"units": SQUARED, "meaning": "<d_h e_A, d_h e_B>, held-out"}
    results = xr.Dataset(
        {**variables, "spectrum": (("step", "noise", "height", *PRODUCTS), spectrum.by_height(cumulative), about)},
        {
            **along,
            "filtered": np.arange(depth + 1),
            "height": np.arange(-1, depth + 1),
            "network": np.arange(len(set_of)),
            "other": np.arange(len(set_of)),
            "first": ("pair", first),
            "second": ("pair", second),
            "data_set": ("network", set_of),
        },
    )
    # BP_k is nowhere zero where BP_0 is not.
    scale = divergence(pieces.exact[:, :1], log_of(pieces.exact))
    _, increments = jax.vmap(lambda windows: spectrum.learned_products(windows[-1:], windows))(reference.windows)
    memories = reference.memories[:, set_of]
    empirical = jnp.square(memories[:, first] - memories[:, second]).sum((-1, -2))
    for name, dimensions, values, units, meaning in (
        ("scale", ("noise", "filtered", "group"), scale, NATS, "KL(BP_0 || BP_k), held-out"),
        ("increment", ("noise", "height", "group"), increments, SQUARED, "|D_h|^2, held-out"),
        ("empirical", ("noise", "pair", "group"), empirical, SQUARED, "|emp_A - emp_B|^2, held-out"),
    ):
        results[name] = (dimensions, np.asarray(in_groups(values)), {"units": units, "meaning": meaning})
    return results


def spectrum_parts(results: xr.Dataset) -> xr.Dataset:
    """The level spectrum as error of each network, and the common and data-dependent parts of each pair."""
    every = xr.DataArray(np.arange(results.sizes["network"]), dims="network")
    first, second = (xr.DataArray(results[end].values, dims="pair") for end in ("first", "second"))
    spectrum = results.spectrum.drop_vars(("network", "other", "data_set"), errors="ignore")
    error = spectrum.isel(network=every, other=every)
    common = spectrum.isel(network=first, other=second)
    own = 0.5 * (error.isel(network=first) + error.isel(network=second)) - common
    return xr.Dataset({"error": error, "common": common, "data_dependent": own})


def statistics(results: xr.Dataset) -> Statistics:
    """All that is reported of a run, from the measurements of each network, pair and group of test sequences.

    `learned`, `slope` and the shares are ratios of means. With several networks on one data set, `seed_split` and
    `seed_dependent` are the split and the spectrum's second part of pairs on the same set, and `data_split` and
    `of_the_data` what pairs across sets have above that.
    """
    variables = {**results.drop_vars("spectrum").data_vars, **spectrum_parts(results).data_vars}
    for name in ("increment", "scale"):
        variables[name] = variables[name].expand_dims(network=results.network)
    sets = set_pairs(results)
    same = sets[:, 0] == sets[:, 1]
    of_seeds = {"seed_split": variables["split"], "seed_dependent": variables["data_dependent"]}
    variables = {name: x.isel(pair=~same) if "pair" in x.dims else x for name, x in variables.items()}
    if same.any():
        variables |= {name: x.isel(pair=same).rename(pair="seed_pair") for name, x in of_seeds.items()}
    sets_of = {"network": results.data_set.values[:, None], "pair": sets[~same], "seed_pair": sets[same]}
    return replicate(variables, sets_of).derive(_with_ratios)


def set_pairs(results: xr.Dataset) -> np.ndarray:
    """The data sets of each pair of networks, `(pairs, 2)`."""
    return results.data_set.values[np.stack([results["first"].values, results["second"].values], axis=1)]


def _with_ratios(x: xr.Dataset) -> xr.Dataset:
    ratios = {
        "learned": x.learned / x.increment,
        "slope": x.slope / x.empirical,
        "share": x.data_dependent / x.error,
        "total_share": x.data_dependent.sum("height") / x.error.sum("height"),
    }
    if "seed_split" in x:
        ratios["data_split"] = x.split - x.seed_split
        ratios["of_the_data"] = x.data_dependent - x.seed_dependent
    return x.assign(ratios)
