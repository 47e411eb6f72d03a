"""At which training step does a diffusion network start to lean towards its own training samples?

Trains networks on disjoint data sets of one random hierarchical grammar, compares them with each other and with
the exact scores, and writes a run's folder.

    python -m experiments.onset --depth 4
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from figures.onset import draw
from hierdiff import record
from hierdiff.devices import set_up_devices
from hierdiff.grammar import GrammarConfig
from hierdiff.laboratory import OnsetConfig, experiment, label, make_inputs, set_up
from hierdiff.measures.divergence import pairs
from hierdiff.measures.probe import MeasureConfig
from hierdiff.networks import NetworkConfig
from hierdiff.options import Parser, parse_config
from hierdiff.plan import describe, plan
from hierdiff.run import RESUME, carry_out, in_folder, reporting
from hierdiff.summary import statistics, summarise, table
from hierdiff.training import TrainConfig

PRESETS = {
    "smoke": OnsetConfig(
        sets=2,
        size=200,
        grammar=GrammarConfig(depth=3),
        network=NetworkConfig(width=24),
        train=TrainConfig(steps=600, checkpoints=12, batch=64, first_checkpoint=10),
        measure=MeasureConfig(held_out=200, members=50, noise=(0.1, 0.15, 0.3)),
    ),
    "laptop": OnsetConfig(),
    "paper": OnsetConfig(
        sets=2,
        size=12_000,
        network=NetworkConfig(network="transformer", width=512, expansion=2, layers=8, heads=4, dropout=0.1),
        # 30,000 epochs of 12,000 sequences in batches of 512.
        train=TrainConfig(
            steps=703_125,
            batch=512,
            learning_rate=3e-4,
            decay="paper",
            average_width=0.0,
            checkpoints=80,
            first_checkpoint=100,
        ),
        measure=MeasureConfig(held_out=4000, members=2000),
    ),
}


def command_line(name: str, doc: str | None, default_folder: str) -> Parser:
    """The options that are not fields of the config."""
    parser = Parser(prog=f"python -m experiments.{name}", description=(doc or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, help=f"folder of the run (default: {default_folder})")
    meaning = "go on with a run that was left (auto: if there is one; never: start anew, and discard it)"
    parser.add_argument("--resume", choices=RESUME, default="auto", help=meaning)
    meaning = "join the processes of this Slurm job, TPU slice or Kubernetes JobSet, which share the folder of the run"
    parser.add_argument("--distributed", action="store_true", help=meaning)
    parser.add_argument("--plan", action="store_true", help="say what the run will cost, and do not carry it out")
    return parser


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = command_line("onset", __doc__, "runs/PRESET-SEED")
    config, options = parse_config(parser, PRESETS, "laptop", argv)
    folder = options.out or Path("runs") / f"{options.preset}-{config.seed}"
    with parser.one_sentence():
        set_up_devices(distributed=options.distributed)
        if options.plan:
            setting = set_up(config)
            inputs = jax.eval_shape(lambda: make_inputs(setting, config.measure))
            planned = plan(experiment(config, setting, inputs), folder)
            if jax.process_index() == 0:
                print(describe(planned))
        else:
            train(config, folder, resume=options.resume)


def train(config: OnsetConfig, folder: Path, *, resume: str = "auto") -> None:
    """Do the experiment of `config` in `folder`, or what is left of it."""
    in_folder(folder, config, resume, lambda: run(config, folder), lambda: show(folder))


def run(config: OnsetConfig, folder: Path) -> None:
    """Train and measure, and leave the record in `folder`; the summary is written last."""
    setting = set_up(config)
    if jax.process_index() == 0:
        print(
            f"{len(setting.set_of)} networks on {config.sets} disjoint sets of {config.size} sequences of "
            f"{setting.grammar.leaves} symbols; {setting.data.coincidences} of them are in two sets by chance"
        )
    focus = config.measure.noise.index(config.measure.onset_noise)
    across = [setting.set_of[a] != setting.set_of[b] for a, b in pairs(len(setting.set_of))]

    def row(measured: dict[str, np.ndarray]) -> dict[str, float]:
        means = {name: float(np.mean(measured[name])) for name in ("excess", "test_loss", "train_loss")}
        return {**means, "split": float(np.mean(measured["split"][focus][across]))}

    with reporting(folder, config.train.steps, row, ("excess", "split")) as report:
        inputs = make_inputs(setting, config.measure)
        measured, seconds = carry_out(experiment(config, setting, inputs), folder, report)
    results = label(config.train.checkpoint_steps(), config.measure.noise, setting, inputs, measured)
    origin = record.origin(config)
    record.write_results(folder / "results.nc", results.assign_attrs(origin | seconds))
    found = statistics(results)
    record.write_results(folder / "curves.nc", found.curves().assign_attrs(origin))
    summary = summarise(
        found,
        onset_noise=config.measure.onset_noise,
        epoch=config.size / config.train.batch,
        attributes={"coincidences": setting.data.coincidences, **seconds},
    )
    record.write_json(folder / "summary.json", summary)


def show(folder: Path) -> None:
    """Draw the picture of a finished run and print what was found."""
    draw(folder)
    say(record.read_json(folder / "summary.json"), table)


def say(summary: dict[str, Any], table: Callable[[dict[str, Any]], str]) -> None:
    """Print the table and the verdict of a summary, and the time that the run took."""
    print(f"\n{table(summary)}\n\n{summary['verdict']}\n")
    print(f"training {summary['seconds_training']:.0f} s, measuring {summary['seconds_measuring']:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
