"""What the networks make of other noise levels."""

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from hierdiff.pictures import style
from hierdiff.pictures.records import SIZES, Need, Records, needs
from hierdiff.pictures.run import heights_and_levels


@needs(*(Need("noise", size) for size in SIZES))
@style.panels(1, 3, figsize=(7.0, 2.6), sharey=True)
def noise(records: Records, *panels: Axes) -> None:
    """Oracle divergences against the noise level, for three training-set sizes (arXiv 2603.03469, figure 3b).

    A curve for each k, at the snapshot nearest to the smallest test loss, or the last where there is none, on sequences
    that are in no training set. The more data, the nearer the networks come to the exact posterior (k = 0), and the
    farther they move from those that ignore the top levels.
    """
    for axes, size in zip(panels, SIZES, strict=True):
        summary = records.summary(size)
        at = records.read("noise", size).sel(step=summary["read_at"]["best"], method="nearest")
        style.curves(axes, at, "divergence", "filtered", "k = {}".format, along="noise", marker=".")
        when = "step" if style.located(summary, "best") else "last step"
        axes.set(
            title=f"P = {records.sizes[size]:,}, {when} {int(at.step):,}",
            xscale="log",
            yscale="log",
            xlabel="noise level t/T",
        )
        style.ticks(axes, [0.02, 0.05, 0.1, 0.2, 0.5])
    panels[0].set_ylabel("KL(BP_k || f)  [nats / sequence]")
    panels[0].legend(ncols=2)


@needs(Need("noise"))
def heights_and_noise(records: Records) -> Figure:
    """Where the bias is: the data-dependent part of the error over height and noise level, at three steps.

    Ours; no figure of the paper. A column for each of the snapshots nearest to the turning point, to best and to the
    end. Above the part itself, below its share of the squared error, where the error of that height is told from zero.
    """
    curves, steps = records.read("noise").isel(height=slice(1, None)), records.read_at()
    figure, rows = style.subplots(2, len(steps), figsize=(7.0, 4.2), squeeze=False)
    top = float(curves.data_dependent.max())
    norms = LogNorm(1e-3 * top, top), Normalize(0, 1)
    for (name, step), column in zip(steps.items(), rows.T, strict=True):
        at = curves.sel(step=step, method="nearest").transpose(..., "height", "noise")
        values = at.data_dependent.clip(min=1e-3 * top), at.share.clip(0, 1)
        for axes, each, norm in zip(column, values, norms, strict=True):
            axes.imshow(each, norm=norm, origin="lower", aspect="auto")
            heights_and_levels(axes, at, rotation=90, xlabel="noise level t/T", ylabel="height")
        column[0].set_title(f"{name}, step {int(at.step):,}")
    words = "data-dependent part\n[squared units / sequence]", "its share"
    for row, norm, label in zip(rows, norms, words, strict=True):
        figure.colorbar(ScalarMappable(norm), ax=row[-1], label=label)
    return figure
