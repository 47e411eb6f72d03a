"""Anybody's denoisers, trained on disjoint data: how far they part and since when; with a grammar, at which height too.

Denoisers take and give NumPy arrays and are never traced. What is measured is what a run of hierdiff's own networks
measures, by the same functions, and is said in the same words and files.
"""

import collections
import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from numpy.typing import ArrayLike

from hierdiff.adapters import torch_denoiser
from hierdiff.errors import require
from hierdiff.grammar import Grammar
from hierdiff.keys import key_for
from hierdiff.layouts import as_tokens
from hierdiff.measures.divergence import log_of
from hierdiff.measures.probe import at, stacked
from hierdiff.noising import Process
from hierdiff.noising.levels import SHARES, require_levels
from hierdiff.runs import record
from hierdiff.runs.laboratory import Denoisers, label, means, measures, statistics
from hierdiff.runs.world import Inputs, World
from hierdiff.statistics import words
from hierdiff.statistics.landmarks import Landmark, Ratio
from hierdiff.statistics.story import Looked, Summary, summarise
from hierdiff.worlds.plain import Plain
from hierdiff.worlds.run_config import ComparisonConfig, MeasureConfig
from hierdiff.worlds.sequences import Sequences

__all__ = ["Comparison", "Denoiser", "Found", "compare", "torch_denoiser"]

# `(x_t, t) -> p(x_0 | x_t)`, of shape `(n, L, v)`, at one level t for all; of data that are no symbols, E[x_0 | x_t].
Denoiser = Callable[[np.ndarray, int], ArrayLike]

# So many samples of each training set are looked at, or as many as the smallest has.
MEMBERS = 400
# The loss over all noise levels is read at so many of them: a denoiser is called for each.
LEVELS = 20
# So many numbers of the answers of all denoisers are held at a time, and a few times as many of what is made of them.
NUMBERS = 2**24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What a comparison has found.

    `curves` holds, by step and noise level, `split` (of pairs: symmetrised KL divergence in nats, or |f_A - f_B|^2 of
    data that are no symbols), `slope` (0: the difference of two ignores which data they saw; 1: it is that of
    memorizers), `loss` (cross-entropy, or |f - x_0|^2, on held-out samples), `own_against_other` (how much lower the
    loss of one is than another's on what it was trained on itself), `member_split` (the split there) and, by step,
    `test_loss` and `train_loss`, over all noise levels; with a grammar, `excess` (the test loss above that of the exact
    posterior), `divergence` from every BP_k and the level spectrum (`error`, `data_dependent`, `learned`, by height).
    With each comes its standard error, `X_error`, and half the width of its 95% interval, `X_half`; `member_loss` is of
    each denoiser on each training set. `results` has the same of each denoiser, pair and group of held-out samples.

    `summary` holds the landmarks and the values there, `table` and `verdict` say them.
    """

    config: ComparisonConfig
    world: type[World]
    results: xr.Dataset
    curves: xr.Dataset
    summary: Summary
    table: str
    verdict: str

    @property
    def onset(self) -> Landmark:
        """The turning point: the minimum of the split along the steps, at the first of the noise levels."""
        return self.summary.onset

    @property
    def best(self) -> Landmark:
        """The minimum of the test loss; with a grammar, of its excess over the exact posterior's."""
        return self.summary.best

    @property
    def ratio(self) -> Ratio:
        """How many times the turning point best is."""
        return self.summary.ratio

    @property
    def turning_point_passed(self) -> bool:
        """Whether the denoisers have grown less alike again, or did so from the first checkpoint on.

        With three training sets and more the rise is told from noise at 98% confidence each time that one asks; with
        two it is not.
        """
        return self.onset.located or self.onset.from_start

    def save(self, folder: str | Path) -> None:
        """Write the files of a run, from which `python -m figures.onset` draws; those of the same comparison anew.

        Raises:
          ValueError: the folder cannot be written, or holds something else.
        """
        folder = Path(folder)
        record.require_folder(folder, self.config)
        kind, origin = self.world, record.origin(self.config)
        # Nobody's plugin is needed to read it.
        made = {"plugins": [], "world": f"{kind.__module__}:{kind.__qualname__}"}
        record.write_json(folder / "config.json", record.begun(self.config) | made)
        record.write_results(folder / "results.nc", self.results.assign_attrs(origin))
        record.write_results(folder / "curves.nc", self.curves.assign_attrs(origin))
        said = {"table": self.table.splitlines(), "verdict": self.verdict}
        record.write_json(folder / "summary.json", {**self.summary.content(), **said})


class Comparison:
    """Denoisers of several steps of training, measured as they come: `add` those of a step, `result` at any time.

    Only numbers are kept, no denoiser: a few for each noise level, pair and group of held-out samples, of which there
    are 50, and with a grammar some tens of times as many. While denoisers are measured, at most `NUMBERS` numbers of
    the answers of all of them are held at a time, or those at one sample, whatever the vocabulary and the sizes of the
    training sets; with a grammar those at all held-out samples, at one noise level.

    Args:
      train: what each denoiser was trained on, disjoint sets of symbols, `(P, L)`, or one-hot, `(P, L, v)` or
        `(P, v, L)`; or of numbers, `(P, *shape)`, if `process.vocab` is None.
      held_out: samples of no set, n of them, at least 100.
      process: the noise that the denoisers were trained with; where x_t shows a symbol, that is taken for the answer.
      noise: a noise level, or several, as shares t/T; the turning point is read at the first.
      key: of the noise, which all steps share; or a seed.
      grammar: what the sequences were drawn from, if that is known.
      slope_noise: the one of these levels at which the memorization slope is read; None: the first.
      slope_level: the slope that defines the onset of memorization.

    Raises:
      ValueError: a shape or a number will not do; the message says which.

    Examples:
      Two denoisers of numbers that know nothing but what they were trained on, the mean.

      >>> draws = np.random.default_rng(0).normal(size=(300, 4))
      >>> sets, held_out = [draws[:100], draws[100:200]], draws[200:]
      >>> comparison = hd.Comparison(sets, held_out, process=hd.Gaussian(levels=100), noise=0.2)
      >>> comparison.add(1, [lambda x_t, t, mean=each.mean(0): np.tile(mean, (len(x_t), 1)) for each in sets])
      >>> found = comparison.result()
      >>> float(found.curves.split[0, 0]) > 0, found.turning_point_passed
      (True, False)
    """

    def __init__(
        self,
        train: Sequence[ArrayLike],
        held_out: ArrayLike,
        *,
        process: Process,
        noise: float | Sequence[float],
        key: Array | int = 0,
        grammar: Grammar | None = None,
        slope_noise: float | None = None,
        slope_level: float = 0.01,
    ):
        x_0 = _samples("held_out", held_out, process.vocab)
        sets = [_samples("train", each, process.vocab) for each in train]
        require(len(sets) >= 2, "train", f"{len(sets)} training sets", "at least two, one for each denoiser")
        for each in sets:
            require(each.shape[1:] == x_0.shape[1:], "train", each.shape, f"samples of the shape {x_0.shape[1:]}")
        shares = SHARES.read("noise", (noise,) if isinstance(noise, float | int) else tuple(noise))
        require_levels("noise", shares, process.levels)
        self.config = ComparisonConfig(
            sets=len(sets),
            size=min(map(len, sets)),
            process=process.name,
            noise_levels=process.levels,
            seed=key if isinstance(key, int) else 0,
            measure=MeasureConfig(
                held_out=len(x_0),
                members=MEMBERS,
                noise=shares,
                onset_noise=shares[0],
                slope_noise=slope_noise or 0.0,
                slope_level=slope_level,
            ),
        )
        options = {
            "process": process,
            "train": sets,
            "held_out": x_0,
            "set_of": np.arange(len(sets)),
            "key": jax.random.key(key) if isinstance(key, int) else key,
            "distinct": LEVELS,
        }
        if grammar is not None:
            wanted = (grammar.leaves, grammar.vocab)
            need = f"that of {x_0.shape[1]} leaves of {process.vocab} symbols, as the sequences and the process have"
            require(wanted == (x_0.shape[1], process.vocab), "grammar", f"one of {wanted[0]} and {wanted[1]}", need)
        self._world = Plain(**options) if grammar is None else Sequences(grammar=grammar, **options)
        numbers = len(sets) * math.prod(x_0.shape[1:]) * (process.vocab or 1)
        # So many samples at a time.
        self._size = sys.maxsize if grammar else max(1, NUMBERS // numbers)
        self._compiled = functools.cache(jax.jit)
        self._measured: dict[int, dict[str, np.ndarray]] = {}
        self._references: dict[str, np.ndarray] = {}

    def add(self, step: int, denoisers: Sequence[Denoiser]) -> None:
        """Measure the denoisers of one step of training, counted from 0: one for each training set, in their order.

        Raises:
          ValueError: that step was added before, or a denoiser gives something else than it should.
        """
        sets = self.config.sets
        require(step == int(step) and step >= 0, "step", step, "an integer of at least 0")
        require(step not in self._measured, "step", step, "one that was not added before")
        require(len(denoisers) == sets, "denoisers", len(denoisers), f"one for each training set, {sets}")
        world = self._world

        def all_on(x_t, t):
            return _answers(denoisers, world.process, x_t, t)

        def own_on(x_t, t):
            each = [_answers([f], world.process, *own)[0] for f, *own in zip(denoisers, x_t, t, strict=True)]
            return jnp.stack(each)

        of = Denoisers(all_on, own_on)
        parts, references = ([] for _ in range(2))
        for level, inputs in self._inputs():
            found = measures(world, inputs, of, over=_one_by_one, reduced=dict, compiled=self._compiled)
            parts.append((level, found))
            if inputs.reference is not None and not self._references:
                references.append((level, self._compiled(world.references)(inputs)))
        self._references = self._references or _joined(references)
        self._measured[int(step)] = jax.tree.map(np.asarray, means(world, _joined(parts)))

    def result(self) -> Found:
        """What the steps that were added show; landmarks are sought along log(step), from the first step after 0 on.

        Raises:
          ValueError: no step after 0 was added.
        """
        steps = sorted(self._measured)
        require(any(steps), "steps", steps, "at least one after step 0, by `add`")
        along = {"step": steps, "noise": list(self.config.measure.noise)}
        results = label(along, self._world, self._references, [self._measured[step] for step in steps])
        kind, measure = type(self._world), self.config.measure
        found = statistics(kind, results.sel(step=results.step > 0))
        looked = Looked(
            onset_noise=measure.onset_noise,
            slope_noise=measure.slope_noise or measure.onset_noise,
            slope_level=measure.slope_level,
            members=self._world.looked_at(MEMBERS),
            networks=self.config.sets,
        )
        summary = summarise(kind.STORY, found, looked=looked, epoch=math.nan, about={})
        every = found if steps[0] else statistics(kind, results)
        return Found(
            config=self.config,
            world=kind,
            results=results,
            curves=every.curves().assign(member_loss=results.member_loss.drop_vars("data_set")),
            summary=summary,
            table=words.table(kind.STORY, summary),
            verdict=words.verdict(kind.STORY, summary),
        )

    @functools.cached_property
    def _whole(self) -> Inputs:
        return self._world.inputs(self.config.measure)

    def _inputs(self) -> Iterator[tuple[int, Inputs]]:
        """All on which denoisers are measured, some samples at a time, each part with the number of its noise level."""
        world, measure = self._world, self.config.measure
        members = world.looked_at(MEMBERS)
        if max(len(world.held_out), members) <= self._size:
            yield 0, self._whole
            return
        for start in range(0, len(world.held_out), self._size):
            key, some = key_for(world.key, f"held-out samples from {start}"), slice(start, start + self._size)
            part = dataclasses.replace(world, held_out=world.held_out[some], key=key)
            for level, share in enumerate(measure.noise):
                yield level, Inputs(*_at_share(part, share).probe((share,)))
            yield 0, Inputs(any_held_out=part.any_held_out())
        for start in range(0, members, self._size):
            key, some = key_for(world.key, f"members from {start}"), slice(start, min(start + self._size, members))
            part = dataclasses.replace(world, key=key)
            for level, share in enumerate(measure.noise):
                yield level, Inputs(members=_at_share(part, share).member_pieces((share,), some))
            yield 0, Inputs(any_members=part.any_members(some))


def _at_share(world: World, share: float) -> World:
    return dataclasses.replace(world, key=key_for(world.key, f"t/T = {share}"))


def compare(
    checkpoints: Mapping[int, Sequence[Denoiser]], train: Sequence[ArrayLike], held_out: ArrayLike, **options: Any
) -> Found:
    """Compare denoisers, each trained on its own one of disjoint sets, on samples that none of them has seen.

    `checkpoints` are the denoisers at each step of training, one for each set; one step will do where there is no
    history. All else is as in `Comparison`.

    Raises:
      ValueError: a shape or a number will not do; the message says which.
    """
    comparison = Comparison(train, held_out, **options)
    for step in sorted(checkpoints):
        comparison.add(step, checkpoints[step])
    return comparison.result()


def _samples(name: str, given: ArrayLike, vocab: int | None) -> Array:
    """A copy of samples, whatever becomes of what was given."""
    if vocab is not None:
        return jnp.array(as_tokens(given, vocab, name=name), jnp.int32)
    x = np.asarray(given)
    require(x.ndim >= 2 and len(x) >= 1, name, x.shape, "at least one sample, the samples on the first axis")
    require(np.issubdtype(x.dtype, np.number) and np.isrealobj(x), name, f"{x.dtype}", "real numbers")
    require(bool(np.isfinite(x).all()), name, "numbers that are not finite", "finite numbers")
    return jnp.array(x, float)


def _one_by_one(function: Callable, trees: Any) -> Any:
    return stacked(function(at(trees, i)) for i in range(len(jax.tree.leaves(trees)[0])))


def _joined(parts: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """Arrays by name, of which the parts at one noise level have other samples, on the last axis."""
    levels: dict[str, dict[int, list[np.ndarray]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    for level, arrays in parts:
        for name, x in arrays.items():
            levels[name][level].append(np.asarray(x))
    return {
        name: np.concatenate([np.concatenate(of_level[level], -1) for level in sorted(of_level)])
        for name, of_level in levels.items()
    }


def _answers(denoisers: Sequence[Denoiser], process: Process, x_t: Array, t: Array) -> Array:
    """What all of them make of noised samples, `(S, n, *shape)`; of symbols the logarithms of their probabilities.

    The symbols that x_t shows are taken for the answer.
    """
    x, levels = np.asarray(x_t), np.asarray(t)
    symbols = process.vocab is not None
    shape = (*x.shape[:2], process.vocab or 0) if symbols else x.shape
    found = np.empty((len(denoisers), *shape), np.float32)
    for level in np.unique(levels).tolist():
        rows = levels == level
        for number, denoiser in enumerate(denoisers):
            # A copy of its own, which it may change.
            output = np.asarray(denoiser(x[rows], level))
            name, need = f"denoiser {number}", f"outputs of the shape {(int(rows.sum()), *shape[1:])}"
            require(output.shape == (int(rows.sum()), *shape[1:]), name, output.shape, need)
            if symbols:
                shown, likely = process.known(x_t[rows]), process.log_likelihood(x_t[rows], level)
                output = np.where(np.asarray(shown)[..., None], np.asarray(likely) == 0, output)
            require(bool(np.isfinite(output).all()), name, "numbers that are not finite", "finite numbers")
            sums = output.sum(-1)
            good = not symbols or (bool((output >= 0).all()) and np.allclose(sums, 1, atol=1e-3))
            need = "probabilities of symbols"
            require(good, name, f"rows that sum to {sums.min():.4g} .. {sums.max():.4g}", need)
            found[number, rows] = output
    return log_of(jnp.asarray(found, float)) if symbols else jnp.asarray(found, float)
