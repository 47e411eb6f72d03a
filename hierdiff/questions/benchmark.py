"""How fast are the exact posterior, reverse diffusion and a training step, and what do they need?

Rates are the best of several rounds, in which the things compared take turns on the same machine.
"""

import argparse
import functools
import math
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from hierdiff.errors import require
from hierdiff.grammar import Grammar, random_grammar
from hierdiff.learning.devices import ensemble_mesh, over_networks
from hierdiff.measures.neighbours import nearest_distances
from hierdiff.noising import Gaussian, respaced, reverse
from hierdiff.noising.process import cross_entropy
from hierdiff.posterior import exact_denoiser, leaf_posterior
from hierdiff.runs import record
from hierdiff.sampling import sample
from hierdiff.worlds.run_config import OnsetConfig
from hierdiff.worlds.sequences import make_inputs, make_measure, prepare, set_up


def answer(config: OnsetConfig, options: argparse.Namespace) -> None:
    """Measure, print the figures, and write them to a file if asked."""
    if options.json:
        require(not options.json.is_dir(), "json", str(options.json), "a file, not a folder")
        record.require_writable("json", options.json.parent)
    figures = {
        "posterior": posterior_against_numpy(),
        "depth": posterior_against_depth(),
        "reverse": reverse_chain(),
        "neighbours": nearest_neighbours(),
        "training": training_step(config),
        "measuring": measuring(config),
        "peak_memory_MiB": peak_memory(),
    }
    print(table(figures))
    if options.json:
        record.write_json(options.json, {**figures, **record.provenance()})


def posterior_against_numpy() -> dict[str, float]:
    """Depth 4, 10,000 sequences, float32: sequences a second, here and by dense NumPy belief propagation."""
    grammar, ll = evidence(depth=4, n=10_000)
    table = np.zeros((grammar.vocab,) * 3, np.float32)
    a = np.arange(grammar.vocab)[:, None]
    table[a, grammar.children[0, ..., 0], grammar.children[0, ..., 1]] = np.exp(grammar.log_prob[0])
    dense = np.asarray(ll)
    difference = np.abs(np.asarray(leaf_posterior(grammar, ll)) - numpy_belief_propagation(table, dense, 4)).max()
    if difference > 1e-4:
        raise RuntimeError(f"the yardstick differs from the exact posterior by {difference}")
    ours, theirs, least = seconds_in_turn(
        lambda: jax.block_until_ready(leaf_posterior(grammar, ll)),
        lambda: numpy_belief_propagation(table, dense, 4),
        lambda: jax.block_until_ready(exponentials_alone(ll, exponentials(grammar))),
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
        (best,) = seconds_in_turn(lambda run=compiled, g=grammar, x=ll: jax.block_until_ready(run(g, x)))
        memory = compiled.memory_analysis()
        scratch = memory.temp_size_in_bytes / 2**20 if memory else float("nan")
        rows.append({"depth": depth, "leaves_per_s": ll.shape[0] * ll.shape[1] / best, "scratch_MiB": scratch})
    return rows


def reverse_chain() -> dict[str, float]:
    """Sequence-steps a second of reverse diffusion with the exact score at depth 4, on all devices."""
    grammar, mesh = random_grammar(jax.random.key(0)), ensemble_mesh(jax.device_count())
    process = Gaussian(vocab=grammar.vocab)
    n, times = 2048 * mesh.size, respaced(process.levels, 50)

    def generate(start, first):
        return reverse(jax.random.key(1), exact_denoiser(grammar, process), process, start, times, first=first)

    run = jax.jit(over_networks(generate, mesh, stacked=2))
    start = jax.random.normal(jax.random.key(0), (mesh.size, n // mesh.size, grammar.leaves, grammar.vocab))
    first = jnp.arange(0, n, n // mesh.size, dtype=jnp.uint32)
    (best,) = seconds_in_turn(lambda: jax.block_until_ready(run(start, first)), rounds=3)
    rate = n * len(times) / best
    return {"sequence_steps_per_s": rate, "s_for_50000_in_500_steps": 50_000 * 500 / rate}


def nearest_neighbours() -> dict[str, float]:
    """Seconds for the nearest of 12,000 sequences to each of 50,000, of 16 symbols."""
    a, b = (jax.random.randint(jax.random.key(k), (n, 16), 0, 6) for k, n in ((0, 50_000), (1, 12_000)))
    (best,) = seconds_in_turn(lambda: jax.block_until_ready(nearest_distances(a, b, vocab=6)), rounds=3)
    return {"s": best}


def training_step(config: OnsetConfig) -> dict[str, float]:
    """Samples a second in the training of a preset's ensemble, and its share of the matrix-product rate."""
    setting = set_up(config)
    grammar, network, mesh = setting.grammar, setting.network, setting.mesh
    training = prepare(config, setting)
    state, steps = training.state, 20

    def train():
        nonlocal state
        state = jax.block_until_ready(training.trainer.advance(state, training.data, training.keys, 0, steps))

    size = 2048
    product = jax.jit(over_networks(lambda a, b: a @ b, mesh, stacked=2))
    square = jnp.ones((mesh.size, size, size))
    step, multiply = seconds_in_turn(train, lambda: jax.block_until_ready(product(square, square)))

    def loss(params, x_0, x_t, t):
        return cross_entropy(x_0, network.forward(params, x_t, t, None)).mean()

    batch = (config.train.batch, grammar.leaves)
    shapes = [jax.ShapeDtypeStruct(batch, int), jax.ShapeDtypeStruct((*batch, grammar.vocab), float)]
    params = jax.eval_shape(network.init, jax.random.key(0))
    gradient = jax.make_jaxpr(jax.grad(loss))(params, *shapes, jax.ShapeDtypeStruct(batch[:1], int))
    flops = matrix_flops(gradient.jaxpr)
    done = steps * len(training.keys)
    rate, peak = done * flops / step, mesh.size * 2 * size**3 / multiply
    return {
        "samples_per_s": done * config.train.batch / step,
        "ms_per_step": 1e3 * step / steps,
        "matrix_Gflop_per_s": rate / 1e9,
        "machine_matrix_Gflop_per_s": peak / 1e9,
        "share": rate / peak,
    }


def measuring(config: OnsetConfig) -> dict[str, float]:
    """Seconds for all measures of one checkpoint of a preset."""
    setting = set_up(config)
    weights, inputs, measure = (
        prepare(config, setting).state.average,
        make_inputs(setting, config.measure),
        make_measure(setting),
    )
    (best,) = seconds_in_turn(lambda: jax.block_until_ready(measure(weights, inputs)), rounds=3)
    return {"s": best}


def matrix_flops(jaxpr: Jaxpr) -> int:
    """Floating-point operations of all the matrix products of a program."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inputs: Any = equation.invars[0].aval
            outputs: Any = equation.outvars[0].aval
            total += 2 * math.prod(outputs.shape) * math.prod(inputs.shape[axis] for axis in contracted)
        for parameter in equation.params.values():
            inner: Any = parameter.jaxpr if isinstance(parameter, ClosedJaxpr) else parameter
            if isinstance(inner, Jaxpr):
                total += matrix_flops(inner)
    return total


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
    for function in functions:
        function()
    times = np.empty((rounds, len(functions)))
    for i in range(rounds):
        for j, function in enumerate(functions):
            start = time.perf_counter()
            function()
            times[i, j] = time.perf_counter() - start
    return times.min(0).tolist()


def peak_memory() -> float:
    """MiB at the most: of the device where it says, else of the process."""
    stats = jax.devices()[0].memory_stats()
    if stats:
        return stats["peak_bytes_in_use"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def table(figures: dict) -> str:
    """The figures in words."""
    posterior, reverse_, training = (figures[name] for name in ("posterior", "reverse", "training"))
    lines = [
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
        f"networks), {training['matrix_Gflop_per_s']:.0f} of {training['machine_matrix_Gflop_per_s']:.0f} Gflop/s in "
        f"matrix products ({training['share']:.0%})",
        f"measuring: {figures['measuring']['s']:.2f} s for all networks at one checkpoint",
        f"peak memory: {figures['peak_memory_MiB']:,.0f} MiB",
    ]
    return "\n".join(lines)
