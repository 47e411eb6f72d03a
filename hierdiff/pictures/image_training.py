"""Distance of two networks and test loss through training, on images (arXiv 2603.03469, figure 1a, left).

Above how far the images lie apart that two networks make of the same noise, and the noises that they predict; below the
loss of held-out and of training images.
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import IMAGES, ONSET, SAMPLES, Need, Records
from hierdiff.runs import record

NEEDS = {Need(ONSET, IMAGES), Need(SAMPLES, IMAGES)}


def draw(records: Records) -> Figure:
    """Above the distances, below the losses."""
    curves, summary = records.curves(IMAGES), records.summary(IMAGES)
    figure, (above, below) = plt.subplots(2, 1, figsize=(3.4, 3.8), sharex=True)
    of_samples(above, records.curves(IMAGES, SAMPLES))
    distance_and_loss(above, below, curves, summary)
    return figure


def draw_run(folder: Path) -> None:
    """Draw `onset.png` into the folder of a run on images."""
    curves, summary = record.read_results(folder / "curves.nc"), record.read_json(folder / "summary.json")
    with style.in_style():
        figure, (above, below) = plt.subplots(2, 1, figsize=(3.4, 3.8), sharex=True)
        distance_and_loss(above, below, curves, summary)
        style.save(figure, [folder / "onset.png"], [style.origin(folder / "curves.nc", curves.attrs)])
        plt.close(figure)


def of_samples(axes: Axes, curves: xr.Dataset) -> None:
    """How far the samples of two networks lie apart that began with the same noise: mean, and the paper's median."""
    style.curve(axes, curves, "apart", "samples, mean", color="C2", marker=".")
    axes.plot(curves.step, curves.median_apart, "+", color="C2", label="samples, median")


def distance_and_loss(above: Axes, below: Axes, curves: xr.Dataset, summary: dict[str, Any]) -> None:
    """Above how far the predicted noises lie apart, below the losses."""
    noise = summary["onset_noise"]
    label = f"predicted noises, t/T = {noise:g}"
    style.curve(above, curves.sel(noise=noise), "distance", label, color=style.SPLIT)
    above.set(xscale="log", yscale="log", ylabel="1 - cosine")
    style.curve(below, curves, "test_loss", "held-out", color=style.LOSS)
    style.curve(below, curves, "train_loss", "training images", color="C7", linestyle="--")
    below.set(xscale="log", yscale="log", xlabel="training step", ylabel="squared error / pixel")
    for axes in (above, below):
        style.mark_steps(axes, summary)
        axes.legend()
