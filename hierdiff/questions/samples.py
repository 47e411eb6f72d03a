"""Do networks generate what lies nearer to their own training set than to another's, and since when?

All networks are fed the same noise: how alike are the samples that two of them make of it? A sample of network A is
compared with A's training set and with B's: any difference is bias, whatever the sample's quality.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.denoiser import network_denoiser
from hierdiff.measures.blocks import copies, validity
from hierdiff.measures.nearest_images import MUCH_NEARER, standardised, two_nearest
from hierdiff.measures.neighbours import histogram_divergence, nearest_distances
from hierdiff.measures.probe import stacked
from hierdiff.noising.reversal import respaced, reverse, reverse_state
from hierdiff.posterior import exact_denoiser
from hierdiff.questions.configs import NeighboursConfig
from hierdiff.questions.snapshots import Answer, Question, Work
from hierdiff.sampling import coincidences, sample
from hierdiff.statistics.groups import in_groups
from hierdiff.statistics.landmarks import first_significant, minimum, turning_point
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import cell, column, interval, lines_over, since, with_interval
from hierdiff.worlds.finished import Run, label_steps
from hierdiff.worlds.images import CHUNK
from hierdiff.worlds.run_config import SamplesConfig

# Images whose pictures are kept, with their nearest training images.
SHOWN = 8
# Of each variable, the dimensions beside the step.
OF_SEQUENCES = {
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
OF_IMAGES = {
    "alike": ("pair", "start"),
    "own_nearest": ("pair", "group"),
    "other_nearest": ("pair", "group"),
    "copied": ("network", "group"),
    "picture": ("network", "sample", "y", "x", "channel"),
    "nearest_picture": ("network", "sample", "y", "x", "channel"),
}


def of_sequences(run: Run, config: NeighboursConfig) -> Work:
    """Generate at each snapshot, with the same starts and noise for all networks, and compare."""
    world, n = run.world, config.samples
    grammar, process, set_of = world.grammar, world.process, world.set_of
    config.require_run(run.config)
    key = key_for(world.key, "neighbours")
    noise_key = key_for(key, "noise")
    start = process.start(keys_of(key_for(key, "starts"), range(n)), grammar.leaves)
    times, options = respaced(process.levels, config.reverse_steps), {}
    if config.order != "level":
        at_once = math.ceil(grammar.leaves / config.reverse_steps)
        times = respaced(process.levels, math.ceil(grammar.leaves / at_once))
        options = {"order": config.order, "at_once": at_once}
    distances = np.arange(grammar.leaves + 1)

    def histograms(tokens: jax.Array) -> np.ndarray:
        """Of the distances to each training set, `(sets, distances, groups)`."""
        each = np.stack([nearest_distances(tokens, train, vocab=grammar.vocab) for train in world.train])
        return in_groups(np.moveaxis(each[..., None] == distances, -1, 1))

    generate = run.of_networks(
        lambda params, start: reverse(
            noise_key, network_denoiser(world.network, process, params), process, start, times, **options
        ),
        stacked=1,
    )

    def measure(params: Any) -> dict[str, np.ndarray]:
        tokens, (first, second) = generate(params, start), run.pairs
        samples = jnp.asarray(tokens)
        histogram = np.stack([histograms(each) for each in samples])
        copied = [np.stack([copies(grammar, each, train) for train in world.train]) for each in samples]
        return {
            "paired": in_groups((tokens[first] == tokens[second]).mean(-1)),
            "validity": in_groups(np.stack([validity(grammar, each) for each in samples])),
            "histogram": histogram[np.arange(len(set_of)), set_of],
            **run.own_and_other(
                distance=np.einsum("...dg,d->...g", histogram, distances),
                histogram=histogram,
                copies=in_groups(np.stack(copied)),
            ),
        }

    fresh = sample(key_for(key, "new sequences"), grammar, 2 * n).leaves
    exact = exact_denoiser(grammar, process)
    drawn = jax.jit(lambda start: reverse(noise_key, exact, process, start, times, **options))(start)
    valid = in_groups(np.asarray(validity(grammar, drawn)))
    known = xr.Dataset(
        {
            "reference": (OF_SEQUENCES["histogram"], histograms(fresh[:n])[set_of]),
            "floor": (OF_SEQUENCES["histogram"], histograms(fresh[n:])[set_of]),
            "exact_validity": (OF_SEQUENCES["validity"], np.stack(len(set_of) * [valid])),
        },
        {"height": np.arange(grammar.depth + 1), "distance": distances},
        {"samples": n, "coincidences": coincidences(fresh, world.train)},
    )
    return Work(measure, lambda measured: label_steps(run, measured, OF_SEQUENCES, known))


def of_images(run: Run, config: SamplesConfig) -> Work:
    """The same; E[x_0 | x_t] is kept within the images' range, -1 to 1, as in Ho et al. (arXiv 2006.11239)."""
    world = run.world
    start_key, noise_key = (key_for(world.key, name) for name in ("starts of samples", "noise of samples"))
    start = jax.random.normal(start_key, (config.samples, *world.held_out.shape[1:]))
    times = respaced(world.process.levels, config.reverse_steps)

    def generate(params, start):
        def denoiser(x_t, t):
            return jnp.clip(world.process.x_0_of(x_t, t, world.answer(params, x_t, t), "noise"), -1, 1)

        return reverse_state(noise_key, denoiser, world.process, start, times, batch=CHUNK)

    generate_all = run.of_networks(generate, stacked=1)
    return Work(
        lambda params: compared(run, generate_all(params, start)),
        lambda measured: label_steps(run, measured, OF_IMAGES),
    )


def compared(run: Run, images: np.ndarray) -> dict[str, np.ndarray]:
    """What `OF_IMAGES` names, of the images that each network generates, `(S, n, *shape)`; pictures are bytes.

    A sample is a copy where its nearest image is nearer than a third of the second's distance.
    """
    (first, second), set_of, train = run.pairs, run.world.set_of, run.world.train
    # Numbers and distances of the two nearest of each set, `(S, sets, n, 2)`.
    nearest = stacked(stacked(two_nearest(own, each) for each in train) for own in jnp.asarray(images))
    number, distance = (np.asarray(x) for x in nearest)
    own = distance[np.arange(len(set_of)), set_of]
    shown = [np.asarray(train[i][of_sets[i, :SHOWN, 0]]) for i, of_sets in zip(set_of, number, strict=True)]
    pictures = {"picture": images[:, :SHOWN], "nearest_picture": np.stack(shown)}
    alike = np.asarray(standardised(jnp.asarray(images)))
    return {
        "alike": np.stack([(alike[a] * alike[b]).mean((-1, -2, -3)) for a, b in zip(first, second, strict=True)]),
        "copied": in_groups((own[..., 0] < MUCH_NEARER * own[..., 1]).astype(float)),
        **run.own_and_other(nearest=in_groups(distance[..., 0])),
        # From [-1, 1].
        **{name: np.rint(127.5 * (x + 1)).astype(np.uint8) for name, x in pictures.items()},
    }


def means_of_sequences(run: Run, results: xr.Dataset) -> Statistics:
    """What lies between own and other, and the divergences of the histograms."""
    divergence = functools.partial(
        xr.apply_ufunc,
        functools.partial(histogram_divergence, n=int(results.attrs["samples"])),
        input_core_dims=[["distance"], ["distance"]],
    )
    return replicate(results.data_vars, run.sets_of).derive(
        lambda x: x.assign(
            unpaired=1 - x.paired,
            nearer=x.other_distance - x.own_distance,
            more_copies=x.own_copies - x.other_copies,
            own_divergence=divergence(x.own_histogram, x.other_histogram),
            neighbour_divergence=divergence(x.histogram, x.reference),
            neighbour_floor=divergence(x.floor, x.reference),
        )
    )


def means_of_images(run: Run, results: xr.Dataset) -> Statistics:
    """How far samples lie apart, and nearer to the own training set than to another.

    `apart` is 1 minus the inner product of two standardised samples from the same noise; `median_apart` the same of the
    median over all pairs and starts (arXiv 2603.03469, figure 1a).
    """
    apart = xr.DataArray(in_groups(1 - results.alike.values), {"step": results.step}, ("step", "pair", "group"))
    means = results[["own_nearest", "other_nearest", "copied"]].assign(apart=apart)
    found = replicate(means.data_vars, run.sets_of).derive(lambda x: x.assign(nearer=x.other_nearest - x.own_nearest))
    median = 1 - results.alike.median(("pair", "start"))
    return Statistics(found.mean.assign(median_apart=median), found.replicates, found.resampling)


def leaning(found: Statistics, apart: str, copied: str, unit: str = "") -> tuple[str, dict[str, Any]]:
    """Where the samples of two networks agree most, and since when they lie nearer to the own set: words, numbers.

    The curve `apart` is how far two samples from the same noise lie apart; `copied` says in words what is copied.
    """
    least = turning_point(found.curve(apart), found.resampling)
    nearer_since = first_significant(found.curve("nearer"), found.resampling)
    closer = since("they lie nearer to the own training set than to another", nearer_since, found.resampling.sets)
    nearer = with_interval(found.curves().isel(step=-1), "nearer", 3)
    sentence = (
        f"The samples of two networks fed the same noise agree most at step {interval(least)}; {closer}; at the "
        f"last step the difference is {nearer}{unit}; {copied}."
    )
    return sentence, {apart.removeprefix("un"): least, "nearer_since": nearer_since}


def summarise_sequences(found: Statistics) -> Answer:
    heights = found.mean.height.values.tolist()
    steps = [first_significant(found.curve("more_copies", height=h), found.resampling) for h in heights]
    tall = [f"height {h} from step {step:,.0f} on" for h, step in zip(heights, steps, strict=True) if np.isfinite(step)]
    copied = f"they copy more blocks of it: {', '.join(tall)}" if tall else "they copy no more blocks of it"
    if found.resampling.sets == 2:
        copied = since("they copy more blocks of it", np.nan, 2)
    sentence, numbers = leaning(found, "unpaired", copied, " symbols")
    nearest = minimum(found.curve("neighbour_divergence"), found.resampling)
    by_height = [{"height": h, "step": step} for h, step in zip(heights, steps, strict=True)]
    return Answer(sentence, {**numbers, "neighbour_divergence": nearest, "copies_since": by_height})


def summarise_images(found: Statistics) -> Answer:
    nearer, copied = (with_interval(found.curves().isel(step=-1), name, 3) for name in ("nearer", "copied"))
    sentence, numbers = leaning(found, "apart", f"{copied} of them are copies")
    return Answer(sentence, {**numbers, "nearer_at_the_end": nearer, "copied_at_the_end": copied})


def table_of_sequences(curves: xr.Dataset) -> list[str]:
    depth = int(curves.height[-1])
    floor, valid = cell(curves, "neighbour_floor", 3), cell(curves.sel(height=depth), "exact_validity", 3)
    columns = {
        "paired agree": column("paired", 3),
        "nearer to own": column("nearer", 3),
        "KL(own||other)": column("own_divergence", 4),
        "neighbour KL": column("neighbour_divergence", 3),
        **{f"copies h={h}": column("more_copies", 4, height=h) for h in (min(2, depth), depth)},
        "valid": column("validity", 3, height=depth),
    }
    return [
        "samples from the same noise; nearer to own: symbols; copies: own minus other, share of blocks; valid: whole",
        *lines_over("step", curves, columns),
        f"held-out sequences have neighbour KL {floor}; samples of the exact score are valid at {valid}",
    ]


def table_of_images(curves: xr.Dataset) -> list[str]:
    columns = {
        "apart": column("apart", 3),
        "to the own set": column("own_nearest", 3),
        "to another": column("other_nearest", 3),
        "nearer to own": column("nearer", 3),
        "copies": column("copied", 3),
    }
    return [
        "apart: 1 - inner product of standardised samples from the same noise; distances to the nearest image",
        *lines_over("step", curves, columns),
    ]


NEIGHBOURS = Question("neighbours", of_sequences, summarise_sequences, table_of_sequences, means=means_of_sequences)
SAMPLES = Question("samples", of_images, summarise_images, table_of_images, means=means_of_images)
