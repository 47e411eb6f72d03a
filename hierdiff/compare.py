"""Anybody's denoisers, trained on disjoint data: how far they part and since when; with a grammar, at which height too.

Denoisers take and give NumPy arrays and are never traced. What is measured is what a run of hierdiff's own networks
measures, by the same functions.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from numpy.typing import ArrayLike

from hierdiff.errors import require
from hierdiff.grammar import Grammar
from hierdiff.measures.divergence import log_of
from hierdiff.measures.probe import at, stacked
from hierdiff.noising import Process
from hierdiff.noising.levels import SHARES, noise_level, require_levels
from hierdiff.noising.process import require_range
from hierdiff.runs.laboratory import label, own_members, statistics
from hierdiff.runs.world import Inputs, World
from hierdiff.statistics.groups import require_groups
from hierdiff.statistics.landmarks import Landmark, Ratio, minimum, ratio, turning_point
from hierdiff.worlds.plain import Plain
from hierdiff.worlds.sequences import Sequences

# `(x_t, t) -> p(x_0 | x_t)`, of shape `(n, L, v)`, at one level t for all; of data that are no symbols, E[x_0 | x_t].
Denoiser = Callable[[np.ndarray, int], ArrayLike]

# So many samples of each training set are looked at, or as many as the smallest has.
MEMBERS = 400


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` finds.

    `curves` holds, by step and noise level, `split` (of pairs: symmetrised KL divergence in nats, or |f_A - f_B|^2 of
    data that are no symbols), `slope` (0: the difference of two ignores which data they saw; 1: it is that of
    memorizers), `loss` (cross-entropy, or |f - x_0|^2, on held-out samples), `own_against_other` (how much lower the
    loss of one is than another's on what it was trained on itself), `member_split` (the split there) and, with a
    grammar, `divergence` from every BP_k and the level spectrum (`error`, `data_dependent`, `learned`, by height), with
    standard errors, `X_error`, and half the width of 95% intervals, `X_half`; and `member_loss` of each denoiser on
    each training set. `onset` is the minimum of the split along the steps at the first noise level, `best` that of the
    loss averaged over all of them (with a grammar, of its excess over the exact posterior's), and `ratio` how much
    later the latter is; with one step, or two, none is reached.
    """

    curves: xr.Dataset
    onset: Landmark
    best: Landmark
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
      held_out: samples of no set, `(n, L)` or `(n, *shape)`, n at least 100.
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
    require(min(checkpoints, default=0) >= 1, "checkpoints", sorted(checkpoints), "at least one step, counted from 1")
    numbers = sorted({len(denoisers) for denoisers in checkpoints.values()})
    need = f"as many denoisers at each step as there are training sets, {len(sets)}, and at least two"
    require(numbers == [len(sets)] and len(sets) >= 2, "checkpoints", numbers, need)
    noise = SHARES.read("noise", noise)
    if grammar is not None:
        wanted = (grammar.leaves, grammar.vocab)
        need = f"that of {x_0.shape[1]} leaves of {process.vocab} symbols, as the sequences and the process have"
        require(wanted == (x_0.shape[1], process.vocab), "grammar", f"one of {wanted[0]} and {wanted[1]}", need)
    require_levels("noise", noise, process.levels)
    options = {"process": process, "train": sets, "held_out": x_0, "set_of": np.arange(len(sets)), "key": key}
    world = Plain(**options) if grammar is None else Sequences(grammar=grammar, **options)
    results = _measure(world, checkpoints, noise)
    found = statistics(type(world), results).derive(_to_stop_by)
    onset = turning_point(found.curve("split", noise=noise[0]), found.resampling)
    best = minimum(found.curve("to_stop_by"), found.resampling)
    curves = found.curves().assign(member_loss=results.member_loss.drop_vars("data_set"))
    return Comparison(curves, onset, best, ratio(onset, best, found.resampling))


def _measure(world: World, checkpoints: Mapping[int, Sequence[Denoiser]], noise: tuple[float, ...]) -> xr.Dataset:
    """All that a run measures at fixed noise levels."""
    (pieces, references), steps = world.probe(noise), sorted(checkpoints)
    of_members = world.member_pieces(noise, MEMBERS)
    on_held_out, on_part, on_members = map(jax.jit, (world.on_held_out, world.on_part, world.on_members))

    def at_level(denoisers, number, level):
        def answers(x_t):
            outputs = _outputs(denoisers, world.process, x_t, level)
            return outputs if world.process.vocab is None else log_of(outputs)

        piece, reference = at(pieces, number), at(references, number)
        there, parts, of_parts = answers(piece.x_t), world.parts(reference), None
        if parts is not None:
            each = [at(parts, i) for i in range(len(parts.x_t))]
            of_parts = stacked(on_part(reference, there, part, answers(part.x_t)) for part in each)
        of_sets = [at(at(of_members, number), i) for i in range(len(world.train))]
        members = stacked(on_members(each, answers(each.x_t)) for each in of_sets)
        return {**on_held_out(piece, reference, there, of_parts), **own_members(world, members)}

    levels = [noise_level(share, world.process.levels) for share in noise]
    measured = [
        jax.tree.map(np.asarray, stacked(at_level(checkpoints[step], *each) for each in enumerate(levels)))
        for step in steps
    ]
    along = {"step": steps, "noise": list(noise)}
    return label(along, world, Inputs(pieces, references, None, None, None), measured)


def _to_stop_by(x: xr.Dataset) -> xr.Dataset:
    loss = x.divergence.sel(filtered=0, drop=True) if "divergence" in x else x.loss
    return x.assign(to_stop_by=loss.mean("noise"))


def _samples(name: str, given: ArrayLike, vocab: int | None) -> Array:
    """A copy of samples, whatever becomes of what was given."""
    x = np.asarray(given)
    require(x.ndim >= 2 and len(x) >= 1, name, x.shape, "at least one sample, the samples on the first axis")
    if vocab is not None:
        require(x.ndim == 2 and np.issubdtype(x.dtype, np.integer), name, f"{x.dtype} {x.shape}", "integers (n, L)")
        require_range(name, x, vocab - 1)
        return jnp.array(x, jnp.int32)
    require(bool(np.isfinite(x).all()), name, "numbers that are not finite", "finite numbers")
    return jnp.array(x, float)


def _outputs(denoisers: Sequence[Denoiser], process: Process, x_t: Array, level: int) -> Array:
    """What all of them make of noised samples; the symbols that x_t shows are taken for the answer."""
    found = []
    symbols = process.vocab is not None
    shape = (*x_t.shape[:2], process.vocab) if symbols else x_t.shape
    shown, answer = np.False_, np.float32(0)
    if symbols:
        shown = np.asarray(process.known(x_t))[..., None]
        answer = np.asarray(jnp.exp(process.log_likelihood(x_t, level)))
    for number, denoiser in enumerate(denoisers):
        # A copy of its own, which it may change.
        output = np.asarray(denoiser(np.array(x_t), level))
        require(output.shape == shape, f"denoiser {number}", output.shape, f"outputs of the shape {shape}")
        output = np.where(shown, answer, output)
        require(bool(np.isfinite(output).all()), f"denoiser {number}", "numbers that are not finite", "finite numbers")
        sums = output.sum(-1)
        good = not symbols or (bool((output >= 0).all()) and np.allclose(sums, 1, atol=1e-3))
        need = "probabilities of symbols"
        require(good, f"denoiser {number}", f"rows that sum to {sums.min():.4g} .. {sums.max():.4g}", need)
        found.append(output)
    return jnp.asarray(np.stack(found), float)
