"""How fast are the exact posterior, reverse diffusion and a training step, and what do they need?

Rates are the best of several rounds, in which the things compared take turns on the same machine.
"""

import argparse
import dataclasses
import functools
import resource
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from hierdiff.errors import require
from hierdiff.grammar import Grammar, random_grammar
from hierdiff.learning.devices import ensemble_mesh, over_networks
from hierdiff.learning.loop import Training, TrainState
from hierdiff.measures.neighbours import nearest_distances
from hierdiff.noising import PROCESSES, Gaussian, respaced, reverse
from hierdiff.posterior import exact_denoiser, leaf_posterior
from hierdiff.questions.answers import leave
from hierdiff.questions.configs import Both
from hierdiff.runs import record
from hierdiff.runs.laboratory import make_measure, prepare
from hierdiff.runs.plan import flops
from hierdiff.sampling import sample
from hierdiff.worlds.run_config import OnsetConfig
from hierdiff.worlds.sequences import Sequences

# Of training, between two looks at the clock.
STEPS = 20


def answer(config: Both, options: argparse.Namespace) -> None:
    file = Path(config.own.json)
    if config.own.json:
        require(not file.is_dir(), "json", str(file), "a file, not a folder")
        record.require_writable("json", file.parent)
    record.require_writable("out", options.out)
    figures = {
        "posterior": posterior_against_numpy(),
        "depth": posterior_against_depth(),
        "reverse": reverse_chain(),
        "neighbours": nearest_neighbours(),
        **ensemble(config.training),
        "noises": noises(config.training),
        "peak_memory_MiB": peak_memory(),
    }
    leave(options.out / "benchmark.json", config, table(figures), "", **figures)
    if config.own.json:
        record.write_json(file, {**figures, **record.provenance()})


def posterior_against_numpy() -> dict[str, float]:
    """Depth 4, 10,000 sequences, float32: sequences a second, here and by dense NumPy belief propagation."""
    grammar, ll = evidence(depth=4, n=10_000)
    table = np.zeros((grammar.vocab,) * 3, np.float32)
    a = np.arange(grammar.vocab)[:, None]
    table[a, grammar.children[0, ..., 0], grammar.children[0, ..., 1]] = np.exp(grammar.log_prob[0])
    dense = np.asarray(ll)
    ours, theirs, least = seconds_in_turn(
        lambda: leaf_posterior(grammar, ll),
        lambda: numpy_belief_propagation(table, dense, 4),
        lambda: exponentials_alone(ll, exponentials(grammar)),
    )
    return {
        "sequences_per_s": len(ll) / ours,
        "numpy_sequences_per_s": len(ll) / theirs,
        "ratio": theirs / ours,
        "floor_sequences_per_s": len(ll) / least,
        "above_floor": ours / least,
    }


def exponentials(grammar: Grammar) -> int:
    """The exponentials of belief propagation on one sequence: one for each rule of each symbol of each inner node."""
    return grammar.log_prob[0].size * (grammar.leaves - 1) // (grammar.branching - 1)


@functools.partial(jax.jit, static_argnames="number")
def exponentials_alone(ll: jax.Array, number: int) -> jax.Array:
    """The floor: as many exponentials a sequence, and the bytes of the input and the output, and nothing else."""
    repeats = round(number / ll[0].size)
    # In parts that stay in a core's cache; on one core, as one call of the posterior is.
    return jax.lax.map(lambda x: sum(jnp.exp(x * (0.1 + 0.01 * i)) for i in range(repeats)), ll, batch_size=1000)


def posterior_against_depth() -> list[dict[str, float]]:
    """Leaves a second and MiB of scratch, at the same number of leaves in all."""
    rows = []
    for depth in (2, 4, 6, 8, 10):
        grammar, ll = evidence(depth=depth, n=2**17 // 2**depth)
        compiled = jax.jit(leaf_posterior).lower(grammar, ll).compile()
        (best,) = seconds_in_turn(functools.partial(compiled, grammar, ll))
        memory = compiled.memory_analysis()
        rows.append(
            {
                "depth": depth,
                "leaves_per_s": ll.shape[0] * ll.shape[1] / best,
                "scratch_MiB": memory.temp_size_in_bytes / 2**20 if memory else float("nan"),
            }
        )
    return rows


def reverse_chain() -> dict[str, float]:
    """Sequence-steps a second of reverse diffusion with the exact score at depth 4, on all devices."""
    grammar, mesh = random_grammar(jax.random.key(0)), ensemble_mesh(jax.device_count())
    process = Gaussian(vocab=grammar.vocab)
    n, times = 2048 * mesh.size, respaced(process.levels, 50)
    generate = functools.partial(reverse, jax.random.key(1), exact_denoiser(grammar, process), process, times=times)
    run = jax.jit(over_networks(lambda start, first: generate(start, first=first), mesh, stacked=2))
    start = jax.random.normal(jax.random.key(0), (mesh.size, n // mesh.size, grammar.leaves, grammar.vocab))
    first = jnp.arange(0, n, n // mesh.size, dtype=jnp.uint32)
    (best,) = seconds_in_turn(lambda: run(start, first), rounds=3)
    rate = n * len(times) / best
    return {"sequence_steps_per_s": rate, "s_for_50000_in_500_steps": 50_000 * 500 / rate}


def nearest_neighbours() -> dict[str, float]:
    """Seconds for the nearest of 12,000 sequences to each of 50,000, of 16 symbols."""
    a, b = (jax.random.randint(jax.random.key(k), (n, 16), 0, 6) for k, n in ((0, 50_000), (1, 12_000)))
    return {"s": seconds_in_turn(lambda: nearest_distances(a, b, vocab=6), rounds=3)[0]}


def ensemble(config: OnsetConfig) -> dict[str, dict[str, float]]:
    """Of a preset: samples a second in training, its share of the matrix-product rate, and seconds to measure once."""
    world = Sequences.set_up(config)
    inputs, training, measure = world.inputs(config.measure), prepare(config, world), make_measure(world)
    state, mesh, size = training.state, world.mesh, 2048
    operations = STEPS * flops(training.advance.trace(state, training.data, training.keys, 0, 1).jaxpr)
    weights = jax.tree.map(jnp.copy, state.average)
    product = jax.jit(over_networks(jnp.matmul, mesh, stacked=2))
    square = jnp.ones((mesh.size, size, size))
    step, multiply, measuring = seconds_in_turn(
        trainer(training), lambda: product(square, square), lambda: measure(weights, inputs)
    )
    rate, peak = operations / step, mesh.size * 2 * size**3 / multiply
    return {
        "training": {
            "samples_per_s": STEPS * len(training.keys) * config.train.batch / step,
            "ms_per_step": 1e3 * step / STEPS,
            "Gflop_per_s": rate / 1e9,
            "machine_matrix_Gflop_per_s": peak / 1e9,
            "share": rate / peak,
        },
        "measuring": {"s": measuring},
    }


def trainer(training: Training) -> Callable[[], TrainState]:
    """Does some steps of a training at each call."""
    state = training.state

    def train() -> TrainState:
        nonlocal state
        state = training.advance(state, training.data, training.keys, 0, STEPS)
        return state

    return train


def noises(config: OnsetConfig) -> dict[str, dict[str, float]]:
    """Of each noise, a second: sequences noised, exact posteriors, steps back with these, and samples in training."""
    grammar, n, key, level = random_grammar(jax.random.key(0)), 5_000, jax.random.key(1), 250
    tokens, t, times = sample(key, grammar, n).leaves, jnp.full(n, level), respaced(level, 10)
    work, functions = {"corrupted": n, "posteriors": n, "steps_back": n * len(times)}, {}
    for name, make in PROCESSES.items():
        process = make(vocab=grammar.vocab)
        exact, x_t = exact_denoiser(grammar, process), process.corrupt(key, tokens, t)
        back = functools.partial(reverse, key, exact, process, times=times)
        each = dataclasses.replace(config, process=name)
        training = prepare(each, Sequences.set_up(each))
        work["trained"] = STEPS * len(training.keys) * config.train.batch
        functions |= {
            (name, "corrupted"): functools.partial(jax.jit(process.corrupt), key, tokens, t),
            (name, "posteriors"): functools.partial(jax.jit(exact), x_t, t),
            (name, "steps_back"): functools.partial(jax.jit(back), x_t),
            (name, "trained"): trainer(training),
        }
    seconds = dict(zip(functions, seconds_in_turn(*functions.values(), rounds=15), strict=True))
    return {name: {what: number / seconds[name, what] for what, number in work.items()} for name in PROCESSES}


def numpy_belief_propagation(table: np.ndarray, log_likelihood: np.ndarray, depth: int) -> np.ndarray:
    """The yardstick: up and down with the dense table P(b, c | a), messages in the linear domain, normalised."""

    def normalise(x):
        return x / x.sum(-1, keepdims=True)

    up = [normalise(np.exp(log_likelihood - log_likelihood.max(-1, keepdims=True)))]
    for _ in range(depth):
        left, right = up[-1][:, ::2], up[-1][:, 1::2]
        up.append(normalise(np.einsum("abc,nib,nic->nia", table, left, right, optimize=True)))
    down = np.ones_like(up[-1])
    for below in reversed(up[:-1]):
        left, right = below[:, ::2], below[:, 1::2]
        to_left = np.einsum("abc,nia,nic->nib", table, down, right, optimize=True)
        to_right = np.einsum("abc,nia,nib->nic", table, down, left, optimize=True)
        down = normalise(np.stack([to_left, to_right], 2).reshape(below.shape))
    return normalise(up[0] * down)


def evidence(*, depth: int, n: int):
    """A grammar of the paper's sizes, and the leaf log-likelihoods of `n` noised sequences."""
    grammar = random_grammar(jax.random.key(0), depth=depth)
    process, t = Gaussian(vocab=grammar.vocab), 100
    x_t = process.corrupt(jax.random.key(1), sample(jax.random.key(2), grammar, n).leaves, t)
    return grammar, process.log_likelihood(x_t, t)


def seconds_in_turn(*functions: Callable[[], object], rounds: int = 7) -> list[float]:
    """The shortest time of each function; they are run in turn, so that what disturbs one disturbs all."""

    def seconds(function: Callable[[], object]) -> float:
        start = time.perf_counter()
        jax.block_until_ready(function())
        return time.perf_counter() - start

    times = [[seconds(function) for function in functions] for _ in range(1 + rounds)]
    # The first round compiles.
    return np.min(times[1:], 0).tolist()


def peak_memory() -> float:
    """MiB at the most: of the device where it says, else of the process."""
    if stats := jax.devices()[0].memory_stats():
        return stats["peak_bytes_in_use"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def table(figures: dict) -> list[str]:
    posterior, reverse_, training = (figures[name] for name in ("posterior", "reverse", "training"))
    return [
        f"exact posterior, depth 4, 10,000 sequences: {posterior['sequences_per_s']:,.0f} sequences/s, "
        f"{posterior['ratio']:.1f} times dense NumPy ({posterior['numpy_sequences_per_s']:,.0f})",
        f"  its floor, the exponentials and the bytes alone: {posterior['floor_sequences_per_s']:,.0f} sequences/s, "
        f"{posterior['above_floor']:.1f} times that (each on one core)",
        *[
            f"  depth {row['depth']:>2}: {row['leaves_per_s'] / 1e6:5.1f} million leaves/s, "
            f"{row['scratch_MiB']:.1f} MiB scratch"
            for row in figures["depth"]
        ],
        f"reverse diffusion with the exact score, depth 4: {reverse_['sequence_steps_per_s']:,.0f} sequence-steps/s "
        f"({reverse_['s_for_50000_in_500_steps']:.0f} s for 50,000 samples in 500 steps)",
        f"nearest of 12,000 sequences to each of 50,000: {figures['neighbours']['s']:.2f} s",
        f"training: {training['samples_per_s']:,.0f} samples/s ({training['ms_per_step']:.0f} ms a step of all "
        f"networks), {training['Gflop_per_s']:.0f} Gflop/s, {training['share']:.0%} of the "
        f"{training['machine_matrix_Gflop_per_s']:.0f} of large matrix products",
        f"measuring: {figures['measuring']['s']:.2f} s for all networks at one checkpoint",
        *[
            f"{name} noise, a second: {rates['corrupted']:,.0f} sequences noised, {rates['posteriors']:,.0f} exact "
            f"posteriors, {rates['steps_back']:,.0f} steps back with them, {rates['trained']:,.0f} samples in training"
            for name, rates in figures["noises"].items()
        ],
        f"peak memory: {figures['peak_memory_MiB']:,.0f} MiB",
    ]
