"""How much of its training set does a network generate, with few reverse steps and with many?

Symbols that change in one step are drawn independently of each other, so that few steps break up what is known by heart
(arXiv 2603.02333: more steps extract more). What chance copies is known: that of another training set, and that of the
exact score in as many steps.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from hierdiff.errors import require
from hierdiff.keys import key_for, keys_of
from hierdiff.learning.denoiser import network_denoiser
from hierdiff.measures.blocks import copies, validity
from hierdiff.noising import Denoiser, respaced, reverse
from hierdiff.posterior import exact_denoiser
from hierdiff.questions.configs import CopyingConfig
from hierdiff.questions.snapshots import Answer, Question, Work
from hierdiff.runs import record
from hierdiff.statistics.groups import in_groups
from hierdiff.statistics.landmarks import first_significant
from hierdiff.statistics.replicates import Statistics
from hierdiff.statistics.words import column, lines_over, since, with_interval
from hierdiff.worlds.finished import Run, label_steps

# The height of the blocks whose copies are told of first.
HEIGHT = 2
DIMENSIONS = {
    "own_copies": ("pair", "reverse_steps", "height", "group"),
    "other_copies": ("pair", "reverse_steps", "height", "group"),
    "validity": ("network", "reverse_steps", "height", "group"),
}


def work(run: Run, config: CopyingConfig) -> Work:
    """Generate at each snapshot from the same starts, and count the blocks that stand in a training set."""
    world, n = run.world, config.samples
    grammar, process, key = world.grammar, world.process, key_for(world.key, "copying")
    start = process.start(keys_of(key_for(key, "starts"), range(n)), grammar.leaves)
    ways = {f"noise in {steps} steps": respaced(process.levels, steps) for steps in config.reverse_steps}

    def generate(denoiser: Denoiser, start: jax.Array) -> jax.Array:
        """`(reverse_steps, n, L)`."""
        return jnp.stack([reverse(key_for(key, name), denoiser, process, start, way) for name, way in ways.items()])

    def shares(tokens: jax.Array) -> np.ndarray:
        """Of blocks that stand in each training set, `(sets, reverse_steps, heights, groups)`."""
        return in_groups(np.array([[copies(grammar, each, train) for each in tokens] for train in world.train]))

    of_networks = run.of_networks(
        lambda params, start: generate(network_denoiser(world.network, process, params), start), stacked=1
    )

    def measure(params: Any) -> dict[str, np.ndarray]:
        tokens = jnp.asarray(of_networks(params, start))
        valid = np.array([[validity(grammar, each) for each in of_network] for of_network in tokens])
        return {
            **run.own_and_other(copies=np.stack([shares(of_network) for of_network in tokens])),
            "validity": in_groups(valid),
        }

    exact = shares(jax.jit(lambda start: generate(exact_denoiser(grammar, process), start))(start))
    measured = record.read_results(run.folder / "results.nc")
    need = "a run that has measured the excess of the bound; an older version has made this one"
    require("excess_bound" in measured, "run", str(run.folder), need)
    known = xr.Dataset(
        {
            "exact_copies": (DIMENSIONS["validity"], exact[world.set_of]),
            "excess_bound": (("step", "network", "group"), measured.excess_bound.sel(step=run.steps).values),
        },
        {"reverse_steps": list(config.reverse_steps), "height": np.arange(grammar.depth + 1)},
    )
    return Work(measure, lambda measured: label_steps(run, measured, DIMENSIONS, known))


def derive(x: xr.Dataset) -> xr.Dataset:
    return x.assign(more_copies=x.own_copies - x.other_copies)


def summarise(found: Statistics) -> Answer:
    height, sets = min(HEIGHT, int(found.mean.height[-1])), found.resampling.sets
    ways = found.mean.reverse_steps.values.tolist()
    curves = [found.curve("more_copies", reverse_steps=way, height=height) for way in ways]
    steps = {way: first_significant(curve, found.resampling) for way, curve in zip(ways, curves, strict=True)}
    last = found.curves().isel(step=-1).sel(height=height)
    by = [f"{with_interval(last.sel(reverse_steps=way), 'more_copies', 4)} with {way} reverse steps" for way in ways]
    more = f"networks generate more blocks of height {height} of their own training set than of another"
    if sets == 2:
        more = since(more, np.nan, sets)
    else:
        more = f"{more} {', '.join(since(f'with {way} reverse steps', step, sets) for way, step in steps.items())}"
    sentence = f"{more[0].upper()}{more[1:]}; at the last step the difference is {', '.join(by)}."
    return Answer(sentence, {"copies_since": [{"reverse_steps": way, "step": step} for way, step in steps.items()]})


def table(curves: xr.Dataset) -> list[str]:
    depth, steps = int(curves.height[-1]), curves.reverse_steps.values.tolist()
    height = min(HEIGHT, depth)
    at_steps = {
        "excess bound": column("excess_bound", 2),
        **{f"in {each} steps": column("more_copies", 4, height=height, reverse_steps=each) for each in steps},
    }
    at_end = {
        f"{words}, h={h}": column(name, 4, height=h)
        for h in (height, depth)
        for words, name in (("own", "own_copies"), ("other", "other_copies"), ("exact", "exact_copies"))
    }
    return [
        f"share of generated blocks of height {height} that stand in the own training set, above another's",
        *lines_over("step", curves, at_steps),
        "",
        "at the last step, by reverse steps: shares of the network, own and other set, and of the exact score",
        *lines_over("reverse_steps", curves.isel(step=-1), {**at_end, "valid": column("validity", 3, height=depth)}),
    ]


COPYING = Question("copying", work, summarise, table, derive)
