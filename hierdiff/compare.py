"""Anybody's denoisers, trained on disjoint data: how far they part and since when; with a grammar, at which height too.

Denoisers take and give NumPy arrays and are never traced. What is measured is what a run of hierdiff's own networks
measures, by the same functions.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from numpy.typing import ArrayLike

from hierdiff.errors import require
from hierdiff.grammar import Grammar
from hierdiff.keys import key_for, keys_of
from hierdiff.measures.divergence import log_of, pairs, sample_split
from hierdiff.measures.probe import at, make_pieces, make_reference, stacked
from hierdiff.measures.slope import slope_products
from hierdiff.noising import Process
from hierdiff.noising.process import cross_entropy, noise_level, require_levels, require_shares
from hierdiff.posterior import memorizer, memorizer_of_numbers
from hierdiff.statistics.groups import in_groups, require_groups
from hierdiff.statistics.landmarks import Estimate, Ratio, locate, ratio
from hierdiff.statistics.minima import locate_minimum
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.worlds.sequences import label_measured, measure_completion, measure_held_out, statistics

# `(x_t, t) -> p(x_0 | x_t)`, of shape `(n, L, v)`, at one level t for all; of data that are no symbols, E[x_0 | x_t].
Denoiser = Callable[[np.ndarray, int], ArrayLike]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` finds.

    `curves` holds, by step and noise level, `split` (of pairs: symmetrised KL divergence in nats, or |f_A - f_B|^2 of
    data that are no symbols), `slope` (0: the difference of two ignores which data they saw; 1: it is that of
    memorizers), `loss` (cross-entropy, or |f - x_0|^2, on held-out samples) and, with a grammar, `divergence` from
    every BP_k and the level spectrum (`error`, `data_dependent`, `learned`, by height), with standard errors,
    `X_error`, and half the width of 95% intervals, `X_half`. `onset` is the minimum of the split along the steps at the
    first noise level, `best` that of the loss averaged over all of them (with a grammar, of its excess over the exact
    posterior's), and `ratio` how much later the latter is; with one step, or two, none is reached.
    """

    curves: xr.Dataset
    onset: Estimate
    best: Estimate
    ratio: Ratio


def compare(
    checkpoints: Mapping[int, Sequence[Denoiser]],
    train: Sequence[ArrayLike],
    held_out: ArrayLike,
    *,
    process: Process,
    noise: tuple[float, ...],
    key: Array,
    grammar: Grammar | None = None,
) -> Comparison:
    """Compare denoisers, each trained on its own one of disjoint sets, on samples that none of them has seen.

    Args:
      checkpoints: the denoisers at each training step; one step will do where there is no history.
      train: what each was trained on, an array `(P, L)` of symbols, or `(P, *shape)` of numbers if `process.vocab` is
        None.
      held_out: samples of no set, `(n, L)` or `(n, *shape)`, n a multiple of 50 and at least 100.
      process: the noise that they were trained with; where x_t shows a symbol, that is taken for the answer.
      noise: the noise levels, as shares t/T.
      key: of the noise, which all checkpoints share.
      grammar: what the sequences were drawn from, if that is known.

    Raises:
      ValueError: a shape or a number will not do; the message says which.
    """
    x_0 = _samples("held_out", held_out, process.vocab)
    sets = [_samples("train", each, process.vocab) for each in train]
    require_groups("held_out", len(x_0), each=2)
    for each in sets:
        require(each.shape[1:] == x_0.shape[1:], "train", each.shape, f"samples of the shape {x_0.shape[1:]}")
    good = len(checkpoints) >= 1 and min(checkpoints) >= 1
    require(good, "checkpoints", sorted(checkpoints), "at least one step, counted from 1")
    numbers = sorted({len(denoisers) for denoisers in checkpoints.values()})
    need = f"as many denoisers at each step as there are training sets, {len(sets)}, and at least two"
    require(numbers == [len(sets)] and len(sets) >= 2, "checkpoints", numbers, need)
    require_shares("noise", noise)
    if grammar is not None:
        wanted = (grammar.leaves, grammar.vocab)
        need = f"that of {x_0.shape[1]} leaves of {process.vocab} symbols, as the sequences and the process have"
        require(wanted == (x_0.shape[1], process.vocab), "grammar", f"one of {wanted[0]} and {wanted[1]}", need)
    require_levels("noise", noise, process.levels)
    measure = _without_grammar if grammar is None else functools.partial(_by_height, grammar=grammar)
    found = measure(checkpoints, sets, x_0, process, noise, key)
    onset, best = locate(found, "split", noise=noise[0]), locate(found, "to_stop_by", locate_minimum)
    return Comparison(found.curves(), onset, best, ratio(onset, best, found.resampling))


def _by_height(checkpoints, sets, tokens, process, noise, key, *, grammar) -> Statistics:
    """All that an onset run measures at fixed noise levels."""
    levels = [noise_level(share, process.levels) for share in noise]
    t = jnp.repeat(jnp.array(levels, jnp.int32)[:, None], len(tokens), 1)
    noise_keys, keys = (keys_of(key_for(key, name), levels) for name in ("noise", "completions"))
    pieces = make_pieces(noise_keys, grammar, process, tokens, t, filtered=tuple(range(grammar.depth + 1)))
    reference = stacked(make_reference(key, grammar, process, at(pieces, i), sets) for i, key in enumerate(keys))
    set_of = np.arange(len(sets))
    on_held_out = jax.jit(functools.partial(measure_held_out, set_of=set_of))
    on_completion, steps = jax.jit(measure_completion), sorted(checkpoints)

    def on_level(denoisers, piece, reference, level):
        log_f = log_of(_outputs(denoisers, process, piece.x_t, level))
        completions = [at(reference.completions, height) for height in range(grammar.depth)]
        there = (log_of(_outputs(denoisers, process, each.x_t, level)) for each in completions)
        blocks = [on_completion(reference, log_f, *pair) for pair in zip(completions, there, strict=True)]
        loss = in_groups(cross_entropy(jnp.broadcast_to(piece.tokens, log_f.shape[:-1]), log_f))
        return {**on_held_out(piece, reference, log_f), "blocks": jnp.stack(blocks), "loss": loss}

    def on_levels(denoisers):
        parts = (on_level(denoisers, at(pieces, i), at(reference, i), level) for i, level in enumerate(levels))
        return jax.tree.map(np.asarray, stacked(parts))

    measured = [on_levels(checkpoints[step]) for step in steps]
    results = label_measured({"step": steps, "noise": list(noise)}, set_of, pieces, reference, measured)
    return statistics(results).derive(
        lambda x: x.assign(to_stop_by=x.divergence.sel(filtered=0, drop=True).mean("noise"))
    )


def _without_grammar(checkpoints, sets, x_0, process, noise, key) -> Statistics:
    """Split, slope and loss."""
    symbols, steps = process.vocab is not None, sorted(checkpoints)
    first, second = np.array(pairs(len(sets))).T

    def corrupt(key, level):
        return process.corrupt(key, x_0, level) if symbols else process.noise(key, x_0, level)

    def remember(train, x_t, level):
        if symbols:
            return memorizer(train, process.log_likelihood(x_t, level))
        return memorizer_of_numbers(process, train, x_t, level)

    def distances(f):
        """The split of all pairs, and the loss of each."""
        if symbols:
            log_f = log_of(f)
            return sample_split(log_f[first], log_f[second]), cross_entropy(jnp.broadcast_to(x_0, f.shape[:-1]), log_f)
        return _squares(f[first] - f[second]), _squares(f - x_0[None])

    def on_level(level, key):
        x_t = corrupt(key, level)
        memories = jnp.stack([remember(train, x_t, level) for train in sets]).reshape(len(sets), len(x_0), 1, -1)
        found = []
        for step in steps:
            f = _outputs(checkpoints[step], process, x_t, level)
            flat = f.reshape(memories.shape)
            slope, empirical = slope_products(flat[first] - flat[second], memories[first] - memories[second])
            split, loss = distances(f)
            found.append({"split": split, "slope": slope, "empirical": empirical, "loss": loss})
        return jax.tree.map(in_groups, stacked(found))

    levels = [noise_level(share, process.levels) for share in noise]
    measured = stacked(
        on_level(level, key) for level, key in zip(levels, keys_of(key_for(key, "noise"), levels), strict=True)
    )
    variables = {
        name: (("noise", "step", "network" if name == "loss" else "pair", "group"), np.asarray(x))
        for name, x in measured.items()
    }
    results = xr.Dataset(variables, {"step": steps, "noise": list(noise)}).transpose("step", ...)
    sets_of = {"pair": np.stack([first, second], 1), "network": np.arange(len(sets))[:, None]}
    found = replicate(results.data_vars, sets_of)
    return found.derive(lambda x: x.assign(slope=x.slope / x.empirical, to_stop_by=x.loss.mean("noise")))


def _squares(x: Array) -> Array:
    return jnp.square(x).reshape(*x.shape[:2], -1).sum(-1)


def _samples(name: str, given: ArrayLike, vocab: int | None) -> Array:
    x = np.asarray(given)
    require(x.ndim >= 2 and len(x) >= 1, name, x.shape, "at least one sample, the samples on the first axis")
    if vocab is not None:
        require(x.ndim == 2 and np.issubdtype(x.dtype, np.integer), name, f"{x.dtype} {x.shape}", "integers (n, L)")
        known = x.min() >= 0 and x.max() < vocab
        require(bool(known), name, f"symbols from {x.min()} to {x.max()}", f"symbols from 0 to {vocab - 1}")
        return jnp.asarray(x, jnp.int32)
    require(bool(np.isfinite(x).all()), name, "numbers that are not finite", "finite numbers")
    return jnp.asarray(x, float)


def _outputs(denoisers: Sequence[Denoiser], process: Process, x_t: Array, level: int) -> Array:
    """What all of them make of noised samples; the symbols that x_t shows are taken for the answer."""
    seen, found = np.asarray(x_t), []
    symbols = process.vocab is not None
    shape = (*x_t.shape[:2], process.vocab) if symbols else x_t.shape
    shown, answer = np.False_, np.float32(0)
    if symbols:
        shown, answer = np.asarray(process.known(x_t))[..., None], np.exp(process.log_likelihood(x_t, level))
    for number, denoiser in enumerate(denoisers):
        output = np.asarray(denoiser(seen, level))
        require(output.shape == shape, f"denoiser {number}", output.shape, f"outputs of the shape {shape}")
        output = np.where(shown, answer, output)
        finite = bool(np.isfinite(output).all())
        require(finite, f"denoiser {number}", "numbers that are not finite", "finite numbers")
        sums = output.sum(-1)
        good = not symbols or (bool((output >= 0).all()) and np.allclose(sums, 1, atol=1e-3))
        need = "probabilities of symbols"
        require(good, f"denoiser {number}", f"rows that sum to {sums.min():.4g} .. {sums.max():.4g}", need)
        found.append(output)
    return jnp.asarray(np.stack(found), float)
