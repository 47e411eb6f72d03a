"""Does a network generate sequences that lie nearer to its own training set than to another's, and since when?

Two networks on disjoint data sets are fed the same noise: how many symbols of their samples are the same? A sample of
network A is compared with A's training set and with B's: any difference is bias, whatever the sample's quality.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import xarray as xr

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.devices import over_networks
from hierdiff.learning.network import network_denoiser
from hierdiff.measures.blocks import copies, validity
from hierdiff.measures.neighbours import histogram_divergence, nearest_distances
from hierdiff.noising.reverse import respaced, reverse
from hierdiff.posterior import exact_denoiser
from hierdiff.questions.configs import NeighboursConfig
from hierdiff.questions.snapshots import Answer, Question
from hierdiff.sampling import coincidences, sample
from hierdiff.statistics.groups import in_groups
from hierdiff.statistics.landmarks import estimate, first_significant
from hierdiff.statistics.minima import locate_minimum, locate_onset
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import cell, interval, lines_over, with_interval
from hierdiff.worlds.finished import Run, measure_snapshots, own_and_other


def measure(run: Run, config: NeighboursConfig, done: Callable[[], object]) -> xr.Dataset:
    """Generate at each snapshot, with the same starts and noise for all networks, and compare."""
    setting = run.setting
    grammar, process, data, set_of = setting.grammar, setting.process, setting.data, setting.set_of
    key = key_for(setting.key, "neighbours")
    noise_key = key_for(key, "noise")
    n, leaves, vocab = config.samples, grammar.leaves, grammar.vocab
    start = process.start(keys_of(key_for(key, "starts"), range(n)), leaves)
    times = respaced(process.levels, config.reverse_steps)
    first, second = np.array(run.pairs).T

    def generate(params, start):
        return reverse(noise_key, network_denoiser(setting.network, process, params), process, start, times)

    exact = exact_denoiser(grammar, process)

    def histograms(tokens: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        """Mean distance to each training set, `(sets, groups)`, and its histogram, `(sets, distances, groups)`."""
        distance = np.stack([nearest_distances(tokens, train, vocab=vocab) for train in data.train])
        return in_groups(distance.astype(float)), in_groups(np.moveaxis(np.eye(leaves + 1)[distance], -1, 1))

    def copied(tokens: jax.Array) -> np.ndarray:
        return np.stack([in_groups(np.asarray(copies(grammar, tokens, train))) for train in data.train])

    def valid(tokens: jax.Array) -> np.ndarray:
        return in_groups(np.asarray(validity(grammar, tokens)))

    generate_all = jax.jit(over_networks(generate, setting.mesh, stacked=1))

    def on_snapshot(params: Any) -> dict[str, np.ndarray]:
        tokens = generate_all(params, start)
        distance, histogram = (np.stack(each) for each in zip(*map(histograms, tokens), strict=True))
        measured = {
            "paired": in_groups(np.asarray(tokens[first] == tokens[second]).mean(-1)),
            "validity": np.stack([valid(each) for each in tokens]),
            "histogram": histogram[np.arange(len(set_of)), set_of],
        }
        of_sets = {"distance": distance, "histogram": histogram, "copies": np.stack([copied(each) for each in tokens])}
        for name, x in of_sets.items():
            measured[f"own_{name}"], measured[f"other_{name}"] = own_and_other(run, x)
        return measured

    coordinates = {"height": np.arange(grammar.depth + 1), "distance": np.arange(leaves + 1)}
    results = measure_snapshots(run, on_snapshot, DIMENSIONS, coordinates, done)
    fresh = sample(key_for(key, "new sequences"), grammar, 2 * n).leaves
    for name, tokens in (("reference", fresh[:n]), ("floor", fresh[n:])):
        results[name] = DIMENSIONS["histogram"], histograms(tokens)[1][set_of]
    of_exact = jax.jit(lambda start: reverse(noise_key, exact, process, start, times))(start)
    results["exact_validity"] = DIMENSIONS["validity"], np.stack(len(set_of) * [valid(of_exact)])
    return results.assign_attrs(samples=n, coincidences=coincidences(fresh, data.train))


# Of each variable, the dimensions beside the step.
DIMENSIONS = {
    "paired": ("pair", "group"),
    "validity": ("network", "height", "group"),
    "histogram": ("network", "distance", "group"),
    "own_distance": ("pair", "group"),
    "other_distance": ("pair", "group"),
    "own_histogram": ("pair", "distance", "group"),
    "other_histogram": ("pair", "distance", "group"),
    "own_copies": ("pair", "height", "group"),
    "other_copies": ("pair", "height", "group"),
}


def statistics(run: Run, results: xr.Dataset) -> Statistics:
    """Means with replicates; what lies between own and other, and the divergences of the histograms."""

    def divergence(p: xr.DataArray, q: xr.DataArray) -> xr.DataArray:
        options = {"input_core_dims": [["distance"], ["distance"]], "kwargs": {"n": int(results.attrs["samples"])}}
        return xr.apply_ufunc(histogram_divergence, p, q, **options)

    def derive(x: xr.Dataset) -> xr.Dataset:
        return x.assign(
            unpaired=1 - x.paired,
            nearer=x.other_distance - x.own_distance,
            more_copies=x.own_copies - x.other_copies,
            own_divergence=divergence(x.own_histogram, x.other_histogram),
            neighbour_divergence=divergence(x.histogram, x.reference),
            neighbour_floor=divergence(x.floor, x.reference),
        )

    return replicate(results.data_vars, run.sets_of).derive(derive)


def summarise(found: Statistics) -> Answer:
    """Where paired samples agree most, and from where on samples lean to the own training set."""
    resample = found.resampling
    paired = estimate(found.curve("unpaired"), resample, locate_onset)
    nearest = estimate(found.curve("neighbour_divergence"), resample, locate_minimum)
    since = first_significant(found.curve("nearer"), resample)
    nearer = with_interval(found.curves().isel(step=-1), "nearer", 3)
    heights = found.mean.height.values
    copied = [first_significant(found.curve("more_copies", height=h), resample) for h in heights]
    tall = [f"height {h} at {step:,.0f}" for h, step in zip(heights, copied, strict=True) if np.isfinite(step)]
    sentence = (
        f"The samples of two networks fed the same noise agree most at step {interval(paired)}; samples lie "
        + (
            f"nearer to their own training set from step {since:,.0f} on, at the last by {nearer} symbols"
            if np.isfinite(since)
            else "nearer to neither training set"
        )
        + (f", and copy more blocks of it: {', '.join(tall)}." if tall else ", and copy no more blocks of it.")
    )
    numbers = {
        "paired": paired.landmark,
        "neighbour_divergence": nearest.landmark,
        "nearer_since": since,
        "copies_since": [{"height": int(h), "step": step} for h, step in zip(heights, copied, strict=True)],
    }
    return Answer(sentence, numbers)


def table(found: Statistics) -> str:
    """A row for each snapshot."""
    curves = found.curves()
    depth = int(curves.height[-1])

    def copied(height: int) -> Callable[[xr.Dataset], str]:
        return lambda at: cell(at.sel(height=height), "more_copies", 4)

    columns = {
        "paired agree": lambda at: cell(at, "paired", 3),
        "nearer to own": lambda at: cell(at, "nearer", 3),
        "KL(own||other)": lambda at: cell(at, "own_divergence", 4),
        "neighbour KL": lambda at: cell(at, "neighbour_divergence", 3),
        f"copies h={min(2, depth)}": copied(min(2, depth)),
        f"copies h={depth}": copied(depth),
        "valid": lambda at: cell(at.sel(height=depth), "validity", 3),
    }
    floor, valid = cell(curves, "neighbour_floor", 3), cell(curves.sel(height=depth), "exact_validity", 3)
    lines = [
        "samples from the same noise; nearer to own: symbols; copies: own minus other, share of blocks; valid: whole",
        *lines_over("step", curves, columns, 15),
        f"held-out sequences have neighbour KL {floor}; samples of the exact score are valid at {valid}",
    ]
    return "\n".join(lines)


QUESTION = Question("neighbours", measure, statistics, summarise, table)
answer = QUESTION.answer
