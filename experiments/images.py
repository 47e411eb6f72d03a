"""At which training step do diffusion networks on real images start to lean towards their own training images?

Trains U-Nets on disjoint sets of images, compares the noises they predict and the images they make of the same noise,
and writes a run's folder. Without --data-dir the images are those of Fashion-MNIST.

    python -m experiments.images
"""

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from tqdm import tqdm

from experiments.onset import command_line, say
from figures.image_training import draw_run
from hierdiff import record
from hierdiff.devices import failing_together, of_first_process, set_up_devices
from hierdiff.image_laboratory import (
    ImageMeasureConfig,
    ImagesConfig,
    ImageSetting,
    experiment,
    label,
    label_samples,
    make_generator,
    make_inputs,
    measure_samples,
    set_up,
)
from hierdiff.image_summary import median_apart, sample_statistics, statistics, summarise, table
from hierdiff.images import ImageConfig, ImageSets
from hierdiff.options import parse_config, require
from hierdiff.plan import describe, plan
from hierdiff.run import carry_out, in_folder, read_snapshot, reporting
from hierdiff.training import TrainConfig
from hierdiff.unet import UNetConfig

PRESETS = {
    "smoke": ImagesConfig(
        sets=2,
        size=64,
        images=ImageConfig(side=8),
        network=UNetConfig(channels=8, grids=2),
        train=TrainConfig(steps=300, checkpoints=8, batch=32, first_checkpoint=10, snapshots=3),
        measure=ImageMeasureConfig(held_out=100, members=50, draws=2, samples=50, reverse_steps=10),
    ),
    "laptop": ImagesConfig(train=TrainConfig(steps=4000, batch=32, checkpoints=24, first_checkpoint=50, snapshots=10)),
    # arXiv 2603.03469: CelebA at 32 x 32, fifteen sets of 1,024 images; the U-Net's sizes as in arXiv 2505.17638.
    "paper": ImagesConfig(
        sets=15,
        size=1024,
        images=ImageConfig(side=32),
        network=UNetConfig(channels=32, grids=3, blocks=2, heads=4),
        train=TrainConfig(
            steps=200_000,
            batch=512,
            learning_rate=1e-4,
            average_width=0.0,
            checkpoints=60,
            first_checkpoint=100,
            snapshots=30,
        ),
        measure=ImageMeasureConfig(held_out=2000, members=500, samples=1000, reverse_steps=1000),
    ),
}


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = command_line("images", __doc__, "runs/images-PRESET-SEED")
    config, options = parse_config(parser, PRESETS, "laptop", argv)
    folder = options.out or Path("runs") / f"images-{options.preset}-{config.seed}"
    with parser.one_sentence():
        set_up_devices(distributed=options.distributed)
        # The images are read first: where they are not as they should be, no run is begun.
        setting = set_up(config)
        if options.plan:
            inputs = jax.eval_shape(lambda: make_inputs(setting, config.measure))
            planned = plan(experiment(config, setting, inputs), folder)
            if jax.process_index() == 0:
                print(describe(planned))
                print("what the networks generate in the end is not counted")
        else:
            in_folder(folder, config, options.resume, lambda: run(config, setting, folder), lambda: show(folder))


def run(config: ImagesConfig, setting: ImageSetting, folder: Path) -> None:
    """Train, measure and generate, and leave the record in `folder`; the summary is written last."""
    with failing_together():
        about = keep_to_the_same_images(setting.data, folder)
    if jax.process_index() == 0:
        print(
            f"{config.sets} disjoint sets of {config.size} images, {config.images.side} pixels a side; of the images "
            f"seen, {about['duplicates']} repeat others and {about['unreadable']} cannot be read"
        )
    focus = config.measure.noise.index(config.measure.onset_noise)

    def row(measured: dict[str, np.ndarray]) -> dict[str, float]:
        means = {name: float(np.mean(measured[name])) for name in ("test_loss", "train_loss")}
        return {**means, "distance": float(np.mean(measured["distance"][focus]))}

    inputs = make_inputs(setting, config.measure)
    whole = experiment(config, setting, inputs)
    weights = jax.eval_shape(lambda: whole.training.state.average)
    with reporting(folder, config.train.steps, row, ("test_loss", "distance")) as report:
        measured, seconds = carry_out(whole, folder, report)
    results = label(config.train.checkpoint_steps(), config.measure.noise, setting, inputs, measured)
    found, origin = statistics(results), record.origin(config) | about
    with failing_together():
        record.write_results(folder / "results.nc", results.assign_attrs(origin | seconds))
        record.write_results(folder / "curves.nc", found.curves().assign_attrs(origin))
    of_samples = None
    if config.train.snapshots:
        samples = generate(config, setting, folder, weights)
        of_samples = sample_statistics(samples)
        curves = of_samples.curves().assign(median_apart=median_apart(samples))
        record.write_results(folder / "samples.results.nc", samples.assign_attrs(origin))
        record.write_results(folder / "samples.curves.nc", curves.assign_attrs(origin))
    summary = summarise(
        found,
        of_samples,
        onset_noise=config.measure.onset_noise,
        epoch=config.size / config.train.batch,
        attributes=about | seconds,
    )
    record.write_json(folder / "summary.json", summary)


def keep_to_the_same_images(data: ImageSets, folder: Path) -> dict[str, Any]:
    """Write down which images a run is begun with, or see that it goes on with the same."""
    pixels = hashlib.sha256(data.train.tobytes() + data.held_out.tobytes()).hexdigest()
    about = {"sha256": pixels, "duplicates": data.duplicates, "unreadable": data.unreadable}
    path = folder / "images.json"
    if path.exists():
        good = record.read_json(path) == about
        require(good, "data_dir", str(path), "the images that this run was begun with; they have changed since")
    else:
        record.write_json(path, about)
    return about


def generate(config: ImagesConfig, setting: ImageSetting, folder: Path, weights: Any) -> xr.Dataset:
    """Let the networks of each snapshot generate, and compare what they make with each other and with the images.

    What is measured of a snapshot is kept until the run has ended, and not measured again if it is left before.
    """
    steps, generator, place = config.train.snapshot_steps(), make_generator(setting, config.measure), folder / "samples"
    place.mkdir(exist_ok=True)
    files = {step: place / f"{step:08d}.nc" for step in steps}
    done = steps[: of_first_process(sum(file.exists() for file in files.values()))]
    found: list[xr.Dataset] = []
    with tqdm(total=len(steps), desc="samples", disable=jax.process_index() > 0 or None, dynamic_ncols=True) as bar:
        for step, file in files.items():
            if step in done:
                found.append(record.read_results(file))
            else:
                images = generator(read_snapshot(folder, step, weights, setting.mesh))
                found.append(label_samples(step, measure_samples(images, setting.data.train)))
                with failing_together():
                    record.write_results(file, found[-1])
            bar.update()
    return xr.concat(found, "step", data_vars="minimal", coords="minimal", compat="override", join="override")


def show(folder: Path) -> None:
    """Draw the picture of a finished run and print what was found."""
    shutil.rmtree(folder / "samples", ignore_errors=True)
    draw_run(folder)
    say(record.read_json(folder / "summary.json"), table)


if __name__ == "__main__":
    main(sys.argv[1:])
