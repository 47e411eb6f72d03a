"""Networks that learn images, through training."""

from matplotlib.axes import Axes

from hierdiff.pictures import style
from hierdiff.pictures.records import IMAGES, SAMPLES, Need, Records, needs
from hierdiff.pictures.run import split_and_loss
from hierdiff.worlds.images import Images


@needs(Need(SAMPLES, IMAGES))
@style.panels(2, 1, figsize=(3.4, 4.6), sharex=True)
def image_training(records: Records, above: Axes, below: Axes) -> None:
    """Distance of two networks and test loss through training, on images (arXiv 2603.03469, figure 1a, left).

    Above how far the images lie apart that two networks make of the same noise, their mean and the paper's median, and
    the noises that they predict; below the loss of held-out and of training images.
    """
    samples, summary = records.read(SAMPLES, IMAGES), records.summary(IMAGES)
    style.curve(above, samples, "apart", "samples, mean", color="C2", marker=".")
    above.plot(samples.step, samples.median_apart, "+", color="C2", label="samples, median")
    at = records.read(IMAGES, IMAGES).sel(noise=summary["onset_noise"])
    split_and_loss(above, below, at, summary, Images)
    above.set_xlabel("")
    style.legend_above([above], 1, 1.0)


@needs(Need(IMAGES, IMAGES))
@style.panels(figsize=(3.4, 2.7))
def image_noise(records: Records, axes: Axes) -> None:
    """How far the noises that two networks predict lie apart, for several t (arXiv 2603.03469, figure 2).

    A curve for each noise level: held-out images solid, training images dashed.
    """
    style.curves(axes, records.read(IMAGES, IMAGES), "distance", "noise", "t/T = {:g}".format, dashed="member_distance")
    style.over_training(
        axes,
        records.summary(IMAGES),
        title="held-out (solid), training images (dashed)",
        yscale="log",
        ylabel="1 - cosine of the predicted noises",
    )


@needs(Need(IMAGES, IMAGES))
@style.panels(figsize=(3.4, 2.9))
def image_scales(records: Records, axes: Axes) -> None:
    """How far two networks lie apart at coarser and finer scales of the image, through training.

    The image counterpart of the level spectrum: the squared difference of the predicted noises at each Haar scale,
    against the sum of their squares there.
    """
    summary = records.summary(IMAGES)
    at = records.read(IMAGES, IMAGES).sel(noise=summary["onset_noise"])
    style.curves(axes, at, "scale_distance", "scale", str)
    style.over_training(
        axes,
        summary,
        None,
        title=f"predicted noises, t/T = {summary['onset_noise']:g}, held-out",
        yscale="log",
        ylabel="relative squared difference",
    )
    axes.figure.legend(loc="outside upper center", ncols=at.sizes["scale"], title="scale  [pixels]")
