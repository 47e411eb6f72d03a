"""Networks where they go themselves."""

from matplotlib.axes import Axes

from hierdiff.pictures import style
from hierdiff.pictures.records import Need, Records, needs

STATES = {"held-out": style.LOSS, "exact": "0.4", "own": style.SPLIT, "other": "C2"}


@needs(Need("trajectories"))
@style.panels(2, 3, figsize=(7.0, 4.4))
def trajectories(records: Records, *panels: Axes) -> None:
    """Networks on their own trajectories of reverse diffusion, beside noised held-out sequences.

    Ours; no figure of the paper. A row for each of the snapshots nearest to the turning point and to best, or to the
    end where one is not reached. States are those of held-out sequences, and those of trajectories of the exact
    denoiser, of the networks that are measured and of others, from the same starts with the same noise. Left the
    data-dependent part, in the middle over that on held-out sequences, right the log-evidence of the states minus that
    of the exact denoiser's: error that accumulates. Bands are 95% intervals.
    """
    curves, steps = records.read("trajectories"), list(records.read_at().items())[:2]
    for row, (when, step) in zip((panels[:3], panels[3:]), steps, strict=False):
        at = curves.sel(step=step, method="nearest").sortby("noise")
        for axes, name, reference in zip(
            row, ("data_dependent", "share", "beyond_exact"), (None, "held-out", "exact"), strict=True
        ):
            colours = {kind: colour for kind, colour in STATES.items() if kind != reference}
            style.curves(axes, at, name, "states", str, colours, along="noise", marker=".")
            axes.set(xscale="log", xlabel="noise level t/T", title=f"{when}, step {int(at.step):,}")
            style.ticks(axes, at.noise.values.tolist())
        part, share, evidence = row
        part.set(yscale="log", ylabel="data-dependent part\n[squared units / sequence]")
        share.axhline(1, color="0.5", linewidth=0.8)
        share.set_ylabel("over that on held-out")
        evidence.axhline(0, color="0.5", linewidth=0.8)
        evidence.set_ylabel("log-evidence, minus\nexact's  [nats / sequence]")
        part.legend()
