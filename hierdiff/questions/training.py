"""Training is a question too, of any world: networks on disjoint data sets are compared at every checkpoint."""

import argparse
import pkgutil
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hierdiff.errors import in_one_line
from hierdiff.learning.devices import failing_together
from hierdiff.pictures.command import drawing
from hierdiff.runs import record, saying
from hierdiff.runs.laboratory import label, statistics, training_set
from hierdiff.runs.plan import say_plan
from hierdiff.runs.run import carry_out, in_folder, reporting
from hierdiff.runs.world import World
from hierdiff.statistics import words
from hierdiff.statistics.story import Looked, summarise


def answer(config: Any, options: argparse.Namespace) -> None:
    # The data are drawn or read first: where they are not as they should be, no run is begun.
    world, folder, then = pkgutil.resolve_name(options.entry.world).set_up(config), options.out, options.entry.then
    if options.plan:
        notes = [f"{each}, which follow, are not counted" for each in then]
        if config.sets == 2:
            notes.append(
                f"intervals: {words.NOT_ESTIMATED} with two data sets, nor since when anything is told from zero; "
                "--sets 4 would do"
            )
        say_plan(config, world, folder, *notes)
    else:
        train(config, world, folder, resume=options.resume, say=saying.answer)


def train(
    config: Any,
    world: World,
    folder: Path,
    *,
    resume: str = "auto",
    say: Callable[[Sequence[str]], None] = saying.aside,
) -> None:
    """Do the experiment of `config` in `folder`, or what is left of it, and `say` what is found.

    The summary is written last; the state to go on from is dropped then. `resume` is `auto`, `never` or `must`.

    Raises:
      ValueError: the folder will not do, or holds nothing to go on with where it must.
    """
    with in_folder(folder, config, world, resume) as ended:
        if not ended:
            run(config, world, folder)
        if jax.process_index() == 0:
            shutil.rmtree(folder / "state", ignore_errors=True)
            show(folder, world, say)
            saying.remark(*(path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "report."))))


def run(config: Any, world: World, folder: Path) -> None:
    """Train and measure, and leave the record in `folder`; the summary is written last."""
    saying.remark(world.describe())
    story, measure = world.STORY, config.measure
    focus = measure.noise.index(measure.onset_noise)
    first, second = world.pairs
    across = world.set_of[first] != world.set_of[second]

    def row(measured: dict[str, np.ndarray]) -> dict[str, float]:
        means = {name: float(np.mean(measured[name])) for name in (story.loss, "test_loss", "train_loss")}
        return {**means, story.split: float(np.mean(measured[story.split][focus][across]))}

    with reporting(folder, config.train.steps, row, (story.loss, story.split)) as report:
        inputs = world.inputs(measure)
        measured, seconds = carry_out(config, world, inputs, folder, report)
    along = {"step": config.train.checkpoint_steps(), "noise": list(measure.noise)}
    results, origin = label(along, world, world.references(inputs), measured), record.origin(config)
    found = statistics(type(world), results)
    looked = Looked(
        onset_noise=measure.onset_noise,
        slope_noise=measure.slope_noise or measure.onset_noise,
        slope_level=measure.slope_level,
        members=min(measure.members, config.size),
        networks=len(world.set_of),
    )
    rows = training_set(world).x_0.shape[1]
    about = {**world.about, **seconds}
    epoch = rows / config.train.batch
    summary = summarise(story, found, looked=looked, epoch=epoch, about=about)
    said = {"table": words.table(story, summary).splitlines(), "verdict": words.verdict(story, summary)}
    if config.train.privacy.clip_each:
        from hierdiff.learning.private import spent

        said["privacy"], sentence = spent(config.train, rows)
        said["table"] += ["", sentence]
    with failing_together():
        record.write_results(folder / "results.nc", results.assign_attrs(origin | seconds))
        record.write_results(folder / "curves.nc", found.curves().assign_attrs(origin))
        record.write_json(folder / "summary.json", {**summary.content(), **said})


def show(folder: Path, world: World, say: Callable[[Sequence[str]], None] = saying.answer) -> None:
    """Say what was found in a finished run, and draw its picture; where that fails, the run is as good."""
    summary = record.read_json(folder / "summary.json")
    # Older records have no table.
    say([*summary.get("table", []), "", summary["verdict"]])
    saying.remark("", f"training {summary['seconds_training']:.0f} s, measuring {summary['seconds_measuring']:.0f} s")
    try:
        draw(folder, type(world))
    # What somebody's installation of what draws may raise is not known.
    except Exception as error:
        print(f"the picture cannot be drawn: {in_one_line(error)}; the results are whole", file=sys.stderr)


def draw(folder: Path, world: type[World]) -> None:
    """Draw the picture of a run; what draws is imported now, when all results are there."""
    drawing("run").draw(folder, world)
