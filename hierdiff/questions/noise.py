"""At which noise levels and heights are the networks wrong, and which part of it depends on their data?

All that an onset run measures, at more noise levels and for its snapshots, on sequences that are in no training set.
"""

import dataclasses
from collections.abc import Callable

import xarray as xr

from hierdiff.keys import key_for
from hierdiff.noising.process import require_levels
from hierdiff.questions.configs import NoiseConfig
from hierdiff.questions.snapshots import Answer, Question
from hierdiff.sampling import sample_unseen
from hierdiff.statistics.groups import GROUPS
from hierdiff.statistics.replicates import Statistics
from hierdiff.statistics.words import cell, lines_over, with_interval
from hierdiff.worlds.finished import Run, at_snapshots
from hierdiff.worlds.run_config import MeasureConfig
from hierdiff.worlds.sequences import label, make_inputs, make_measure
from hierdiff.worlds.sequences import statistics as statistics_of


def measure(run: Run, config: NoiseConfig, done: Callable[[], object]) -> xr.Dataset:
    """The measures of an onset run at other noise levels, on sequences that are in no training set."""
    setting, n = run.setting, config.sequences
    require_levels("levels", config.levels, setting.process.levels)
    key = key_for(setting.key, "noise question")
    fresh = sample_unseen(key_for(key, "new sequences"), setting.grammar, n, setting.data.train, name="sequences")
    data = dataclasses.replace(setting.data, held_out=fresh, coincidences=0)
    setting = dataclasses.replace(setting, data=data, key=key)
    levels = config.levels
    inputs = make_inputs(setting, MeasureConfig(held_out=n, members=GROUPS, noise=levels, onset_noise=levels[0]))
    of_weights = make_measure(setting)
    measured = at_snapshots(run, lambda weights: of_weights(weights, inputs), done)
    return label(run.steps, levels, setting, inputs, measured)


def statistics(_: Run, results: xr.Dataset) -> Statistics:
    """As those of an onset run."""
    return statistics_of(results)


def summarise(found: Statistics) -> Answer:
    """Where the data-dependent part is largest, at the last step."""
    last = found.curves().isel(step=-1)
    most = last.isel(last.data_dependent.argmax(("noise", "height")))
    sentence = (
        f"At step {int(last.step):,} the data-dependent part is largest at height {int(most.height)} and t/T = "
        f"{float(most.noise):g}, {with_interval(most, 'data_dependent', 3)} squared units a sequence."
    )
    return Answer(sentence, {"largest": {"height": int(most.height), "noise": float(most.noise)}})


def table(found: Statistics) -> str:
    """A row for each noise level at the last snapshot."""
    curves = found.curves()
    columns: dict[str, Callable[[xr.Dataset], str]] = {
        f"KL(BP_{k} || f)": lambda at, k=k: cell(at.sel(filtered=k), "divergence", 3) for k in curves.filtered.values
    }
    columns["split"] = lambda at: cell(at, "split", 3)
    columns |= {
        f"data, height {h}": lambda at, h=h: cell(at.sel(height=h), "data_dependent", 3)
        for h in curves.height.values[1:]
    }
    lines = [
        f"at step {int(curves.step[-1]):,}, at the noise level t/T; nats a sequence, and the data-dependent part of "
        "each height in squared units a sequence",
        *lines_over("noise", curves.isel(step=-1), columns, 15),
    ]
    return "\n".join(lines)


QUESTION = Question("noise", measure, statistics, summarise, table)
answer = QUESTION.answer
