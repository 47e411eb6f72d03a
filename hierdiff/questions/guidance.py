"""Does guidance make a diffusion model lean on its sample? The networks of a run with labels, guided at every weight.

What guidance makes of the exact model is no memory, so all is measured against that: the error of the guided networks
is `e_w`, their answer minus the exact posteriors guided alike. Under Gaussian noise `e_w = (1 + w) e_c - w e_u`, with
the errors of the branches with labels and without, so three products, of c with c, c with u and u with u, give the
spectrum of the error at every weight. Under discrete noise it is measured weight by weight.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

from hierdiff.keys import key_for, keys_of
from hierdiff.learning.denoiser import Labelled
from hierdiff.learning.devices import over_networks, to_host
from hierdiff.measures import spectrum
from hierdiff.measures.blocks import copies, validity
from hierdiff.measures.neighbours import nearest_distances
from hierdiff.noising import Guidance, GuidedMean, respaced, reverse
from hierdiff.noising.guidance import guide
from hierdiff.posterior import leaf_posterior, node_posteriors
from hierdiff.questions.configs import GuidanceConfig
from hierdiff.questions.snapshots import Answer, Question, Work
from hierdiff.sampling import sample
from hierdiff.statistics.groups import GROUPS, in_groups
from hierdiff.statistics.landmarks import minimum, turning_point
from hierdiff.statistics.replicates import Statistics, replicate
from hierdiff.statistics.words import around, column, interval, lines_over
from hierdiff.worlds.finished import Run, label_steps
from hierdiff.worlds.sequences import parts_of

DIMENSIONS = {
    "products": ("noise", "height", "product", "network", "other", "group"),
    "own_distance": ("pair", "way", "group"),
    "other_distance": ("pair", "way", "group"),
    "own_copies": ("pair", "way", "block", "group"),
    "other_copies": ("pair", "way", "block", "group"),
    "validity": ("network", "way", "block", "group"),
    "agreement": ("network", "way", "group"),
    "diversity": ("network", "way", "group"),
}
# Of samples of the exact model; copies and distances are those from each network's own set.
EXACT = {
    "exact_distance": ("network", "way", "group"),
    "exact_copies": ("network", "way", "block", "group"),
    **{f"exact_{name}": DIMENSIONS[name] for name in ("validity", "agreement", "diversity")},
}
PARTS = ("data_dependent", "common")
# The height of the blocks whose copies are told of first.
HEIGHT = 2


def ways_of(config: GuidanceConfig) -> dict[str, Guidance]:
    """How samples are guided: at each weight all the way, and at one weight in a part of it; t/T falls from 1 to 0."""
    w = config.scheduled
    return {f"w = {weight:g}": Guidance(weight=weight) for weight in config.weights} | {
        f"early, w = {w:g} above 0.5": Guidance(weight=w, low=0.5),
        f"late, w = {w:g} below 0.5": Guidance(weight=w, high=0.5),
        f"interval, w = {w:g} from 0.25 to 0.75": Guidance(weight=w, low=0.25, high=0.75),
        f"w = {w:g}, but -0.5 from 0.25 to 0.5": Guidance(weight=-0.5, low=0.25, high=0.5, elsewhere=w),
    }


def mixtures(process: Any, weights: tuple[float, ...]) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Which errors are multiplied, and what each product counts in the square of the guided error, `(W, products)`."""
    w, nothing = np.array(weights)[:, None], jnp.zeros((1, 1, 2))
    if isinstance(guide(process, nothing, nothing, 0.0), GuidedMean):
        return [(0, 0), (0, 1), (1, 1)], np.concatenate([(1 + w) ** 2, -2 * w * (1 + w), w**2], 1)
    return [(i, i) for i in range(len(weights))], np.eye(len(weights))


def work(run: Run, config: GuidanceConfig) -> Work:
    """The products of errors on new sequences with labels, and samples of given labels, of each snapshot."""
    config.require_run(run.config)
    world, key = run.world, key_for(run.world.key, "guidance")
    grammar, process, level = world.grammar, world.process, run.config.labels.label_level
    fresh = sample(key_for(key, "new sequences"), grammar, config.sequences).levels
    pairs, _ = mixtures(process, config.weights)
    told_of = dataclasses.replace(world, held_out=fresh[-1], held_out_labels=fresh[level], key=key_for(key, "probe"))
    pieces, references = told_of.probe(config.levels)

    def both(params: Any, x_t: Array, t: Any, labels: Array) -> tuple[Array, Array]:
        """With the labels, and without."""
        t = jnp.broadcast_to(jnp.asarray(t, jnp.int32), len(x_t))
        told, untold = Labelled(x_t, labels), Labelled(x_t, jnp.full_like(labels, -1))
        return jnp.exp(world.answer(params, told, t)), jnp.exp(world.answer(params, untold, t))

    def exact(x_t: Array, t: Any, labels: Array) -> tuple[Array, Array]:
        ll = process.log_likelihood(x_t, t)
        return leaf_posterior(grammar, ll, labels=labels), leaf_posterior(grammar, ll)

    run_both = over_networks(both, world.mesh, stacked=1)

    def errors(params: Any, x_t: Array, t: Array, labels: Array) -> Array:
        """Of the branches, or of the guided networks at each weight, `(errors, S, n, L, v)`."""
        (of_c, of_u), (w_c, w_u) = run_both(params, x_t, t, labels), exact(x_t, t, labels)
        if (0, 1) in pairs:
            return jnp.stack([of_c - w_c[None], of_u - w_u[None]])
        each = [
            jax.vmap(lambda c, u, w=w: guide(process, c, u, w))(of_c, of_u) - guide(process, w_c, w_u, w)[None]
            for w in config.weights
        ]
        return jnp.stack(each)

    @jax.jit
    def products(params: Any, pieces: Any, references: Any) -> Array:
        def of_level(of_piece):
            piece, reference = of_piece
            here = errors(params, piece.x_t, piece.t, piece.labels)
            flat = here.reshape(-1, *here.shape[2:])
            none, whole = spectrum.ends(flat, groups=GROUPS)

            def of_height(part):
                there = errors(params, part.x_t, piece.t, piece.labels).reshape(flat.shape)
                return spectrum.on_blocks(flat, there, part.weight)

            blocks = jax.lax.map(of_height, reference.completions)
            every = spectrum.by_height(none, blocks, whole)
            heights, (kinds, networks) = len(every), here.shape[:2]
            by_kind = every.reshape(heights, kinds, networks, kinds, networks, -1)
            return in_groups(jnp.stack([by_kind[:, a, :, b] for a, b in pairs], 1))

        return jax.lax.map(of_level, (pieces, references))

    ways, n = ways_of(config), config.samples
    labels = jnp.tile(sample(key_for(key, "labels"), grammar, n // 2).levels[level], (2, 1))
    start = process.start(keys_of(key_for(key, "starts"), range(n)), grammar.leaves)
    times = respaced(process.levels, config.reverse_steps)

    def generate(branches: Callable[[Array, Any, Array], tuple[Array, Array]], start: Array) -> Array:
        """`(ways, n, L)`: from the same starts, with the same noise."""

        def of_way(guidance: Guidance) -> Array:
            def denoiser(x_t, t):
                return guide(process, *branches(x_t, t, labels), guidance.at(t, process.levels))

            # All in one batch, as the labels are.
            return reverse(key_for(key, "noise"), denoiser, process, start, times, batch=n)

        return jnp.stack([of_way(guidance) for guidance in ways.values()])

    generate_all = run.of_networks(
        lambda params, start: generate(lambda *given: both(params, *given), start), stacked=1
    )

    def near(tokens: Array) -> dict[str, np.ndarray]:
        """Of `(ways, n, L)`: distances to each training set, and shares of its blocks, `(sets, ways, ...)`."""
        distance = [[nearest_distances(x, train, vocab=grammar.vocab) for x in tokens] for train in world.train]
        copied = [[copies(grammar, x, train) for x in tokens] for train in world.train]
        return {"distance": in_groups(np.array(distance, float)), "copies": in_groups(np.array(copied))}

    def told(tokens: Array) -> dict[str, np.ndarray]:
        """Of `(ways, n, L)`: validity, whether the nodes have the labels, and how two samples of one label differ."""
        symbols = [node_posteriors(grammar, jnp.log(jax.nn.one_hot(x, grammar.vocab)))[level] for x in tokens]
        agree = [jnp.take_along_axis(x, labels[..., None], -1)[..., 0].mean(-1) for x in symbols]
        apart = (tokens[:, : n // 2] != tokens[:, n // 2 :]).sum(-1)
        return {
            "validity": in_groups(np.array([validity(grammar, x) for x in tokens])),
            "agreement": in_groups(np.array(agree)),
            "diversity": in_groups(np.asarray(apart, float)),
        }

    def measure(params: Any) -> dict[str, np.ndarray]:
        tokens = jnp.asarray(generate_all(params, start))
        of_sets = [near(x) for x in tokens]
        of_networks = [told(x) for x in tokens]
        return {
            "products": to_host(products(params, pieces, references)),
            **run.own_and_other(**{name: np.stack([x[name] for x in of_sets]) for name in of_sets[0]}),
            **{name: np.stack([x[name] for x in of_networks]) for name in of_networks[0]},
        }

    drawn = jax.jit(lambda start: generate(exact, start))(start)
    reference = {name: x[world.set_of] for name, x in near(drawn).items()}
    reference |= {name: np.stack(len(world.set_of) * [x]) for name, x in told(drawn).items()}
    known = xr.Dataset(
        {f"exact_{name}": (EXACT[f"exact_{name}"], x) for name, x in reference.items()},
        {
            "noise": list(config.levels),
            "height": np.arange(-1, grammar.depth + 1),
            "block": np.arange(grammar.depth + 1),
            "way": list(ways),
            "weight": list(config.weights),
        },
    )
    return Work(measure, lambda measured: label_steps(run, measured, DIMENSIONS, known))


def means(run: Run, results: xr.Dataset) -> Statistics:
    """The parts of the guided error by height and weight, and what samples show beside those of the exact model."""
    weights = tuple(results.weight.values.tolist())
    _, coefficients = mixtures(run.world.process, weights)
    squares = xr.DataArray(coefficients, dims=("weight", "product")).dot(results.products, dim="product")
    parts = parts_of(squares.assign_coords(weight=list(weights)), *run.pairs)
    return replicate({**results.drop_vars("products").data_vars, **parts.data_vars}, run.sets_of)


def derive(x: xr.Dataset) -> xr.Dataset:
    """Sums over heights, how many times those at weight 0 they are, and samples minus those of the exact model."""
    total = {f"total_{name}": x[name].sum("height") for name in ("error", "common", "data_dependent")}
    first = {name.replace("total", "times"): y / y.isel(weight=0, drop=True) for name, y in total.items()}
    beyond = {f"beyond_{name}": x[name] - x[f"exact_{name}"] for name in ("validity", "agreement", "diversity")}
    more = {"nearer": x.other_distance - x.own_distance, "more_copies": x.own_copies - x.other_copies}
    return x.assign(total | first | beyond | more)


def summarise(found: Statistics) -> Answer:
    """The turning point and best at each weight, and by how much both parts grow with it at the last step."""
    noise, resample = float(found.mean.noise[0]), found.resampling
    rows, last = [], found.curves().isel(step=-1).sel(noise=noise)
    for weight in found.mean.weight.values.tolist():
        at, here = {"noise": noise, "weight": weight}, last.sel(weight=weight)
        rows.append(
            {
                "weight": weight,
                "onset": turning_point(found.curve("total_data_dependent", **at), resample),
                "best": minimum(found.curve("total_error", **at), resample),
                **{name: [float(here[f"times_{name}"]), float(here[f"times_{name}_half"])] for name in PARTS},
            }
        )
    turns = ", ".join(f"{interval(row['onset'])} with w = {row['weight']:g}" for row in rows)
    most, heaviest = rows[-1], rows[-1]["weight"]
    dependent, common = (around(most[name][0], most[name][1], 1) for name in PARTS)
    sentence = (
        f"At t/T = {noise:g} what depends on the data in the guided error is smallest at step {turns}. From w = 0 to "
        f"w = {heaviest:g} it grows, at the last step, {dependent} times, and what all networks have in common "
        f"{common} times."
    )
    return Answer(sentence, {"weights": rows})


def table(curves: xr.Dataset) -> list[str]:
    """The last step: the guided error at each weight, and samples in each way."""
    last, depth = curves.isel(step=-1), int(curves.block[-1])
    noise, height = float(curves.noise[0]), min(HEIGHT, int(curves.block[-1]))
    by_weight = {
        **{name: column(f"total_{name}", 3) for name in ("error", "common", "data_dependent")},
        **{f"times, {name}": column(f"times_{name}", 2) for name in PARTS},
        **{f"data, height {h}": column("data_dependent", 3, height=h) for h in curves.height.values[1:]},
    }
    by_way = {
        "nearer to own": column("nearer", 3),
        f"copies h={height}": column("more_copies", 4, block=height),
        "valid": column("validity", 3, block=depth),
        "valid - exact": column("beyond_validity", 3, block=depth),
        "agrees": column("agreement", 3),
        "agrees - exact": column("beyond_agreement", 3),
        "diversity": column("diversity", 2),
        "diversity - exact": column("beyond_diversity", 2),
    }
    return [
        f"at step {int(last.step):,} and t/T = {noise:g}: the guided error by weight, squared units a sequence",
        *lines_over("weight", last.sel(noise=noise), by_weight),
        "",
        "samples at that step; nearer to own: symbols; copies: own minus other, share of blocks; diversity: symbols in "
        "which two of one label differ; - exact: minus that of the exact model, guided alike",
        *lines_over("way", last, by_way),
    ]


GUIDANCE = Question("guidance", work, summarise, table, derive, means=means)
