"""At which noise levels and heights are the networks wrong, and which part of it depends on their data?

All that an onset run measures, at more noise levels and for its snapshots, on sequences that are in no training set.
"""

import dataclasses

import xarray as xr

from hierdiff.keys import key_for
from hierdiff.learning.devices import to_host
from hierdiff.questions.configs import NoiseConfig
from hierdiff.questions.snapshots import Answer, Question, Work
from hierdiff.runs import laboratory
from hierdiff.sampling import sample_unseen
from hierdiff.statistics.replicates import Statistics
from hierdiff.statistics.words import column, lines_over, with_interval
from hierdiff.worlds.finished import Run
from hierdiff.worlds.run_config import MeasureConfig


def work(run: Run, config: NoiseConfig) -> Work:
    """The measures of an onset run at other noise levels, on sequences that are in no training set."""
    world, members, n, levels = run.world, run.config.measure.members, config.sequences, config.levels
    config.require_run(run.config)
    key = key_for(world.key, "noise question")
    fresh = sample_unseen(key_for(key, "new sequences"), world.grammar, n, world.train, name="sequences")
    # Of networks that are told labels, the branch without is measured, as by most questions.
    world = dataclasses.replace(world, held_out=fresh, held_out_labels=None, about={}, key=key)
    inputs = world.inputs(MeasureConfig(held_out=n, members=members, noise=levels, onset_noise=levels[0]))
    of_weights, along = laboratory.make_measure(world), {"step": run.steps, "noise": list(levels)}
    return Work(
        lambda weights: to_host(of_weights(weights, inputs)),
        lambda measured: laboratory.label(along, world, world.references(inputs), measured),
    )


def summarise(found: Statistics) -> Answer:
    last = found.curves().isel(step=-1)
    most = last.isel(last.data_dependent.argmax(("noise", "height")))
    sentence = (
        f"At step {int(last.step):,} the data-dependent part is largest at height {int(most.height)} and t/T = "
        f"{float(most.noise):g}, {with_interval(most, 'data_dependent', 3)} squared units a sequence."
    )
    return Answer(sentence, {"largest": {"height": int(most.height), "noise": float(most.noise)}})


def table(curves: xr.Dataset) -> list[str]:
    columns = {
        **{f"KL(BP_{k} || f)": column("divergence", 3, filtered=k) for k in curves.filtered.values},
        "split": column("split", 3),
        **{f"data, height {h}": column("data_dependent", 3, height=h) for h in curves.height.values[1:]},
    }
    return [
        f"at step {int(curves.step[-1]):,}, at the noise level t/T; nats a sequence, and the data-dependent part of "
        "each height in squared units a sequence",
        *lines_over("noise", curves.isel(step=-1), columns),
    ]


# Its statistics are those of an onset run.
NOISE = Question(
    "noise", work, summarise, table, means=lambda run, results: laboratory.statistics(type(run.world), results)
)
