"""A question of one's own: how far do the weights of two networks lie apart?

hierdiff weights --plugin weights --run runs/laptop-0
"""

import dataclasses

import jax.flatten_util
import numpy as np

from hierdiff.errors import option
from hierdiff.questions import Entry
from hierdiff.questions.snapshots import Answer, Question, Work
from hierdiff.statistics.groups import GROUPS
from hierdiff.statistics.words import column, lines_over, with_interval
from hierdiff.worlds.finished import label_steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """Weights."""

    power: float = option(2.0, "of the norm")


def work(run, config):
    """The distance between the weights of each pair of networks, at each snapshot."""
    flat = run.of_networks(lambda params: jax.flatten_util.ravel_pytree(params)[0], stacked=1)
    first, second = run.pairs

    def measure(params):
        apart = np.abs(flat(params)[first] - flat(params)[second]) ** config.power
        # No test sequences: all groups are alike.
        return {"apart": np.repeat((apart.sum(-1) ** (1 / config.power))[:, None], GROUPS, 1)}

    return Work(measure, lambda measured: label_steps(run, measured, {"apart": ("pair", "group")}))


def summarise(found):
    """The distance at the end."""
    apart = with_interval(found.curves().isel(step=-1), "apart", 2)
    return Answer(f"At the last step the weights of two networks lie {apart} apart.", {"apart": apart})


def table(curves):
    """A row for each snapshot."""
    return lines_over("step", curves, {"apart": column("apart", 2)})


WEIGHTS = Question("weights", work, summarise, table)
QUESTIONS = {
    "weights": Entry(
        module=f"{__name__}:WEIGHTS",
        asks="How far do weights lie apart?",
        presets={"laptop": WeightsConfig()},
        of="run",
    )
}
