"""Networks where they go themselves."""

from matplotlib.axes import Axes

from hierdiff.pictures import style
from hierdiff.pictures.records import Need, Records, needs

# Of each kind of states its colour, and where it stands beside the noise level, so that none hides another.
STATES = {"held-out": (style.LOSS, 0.955), "exact": ("0.4", 0.985), "own": (style.SPLIT, 1.015), "other": ("C2", 1.045)}
# What is drawn, and what it is compared with.
SHOWN = {"data_dependent": None, "share": "held-out", "beyond_exact": "exact"}


@needs(Need("trajectories"))
@style.panels(2, 3, figsize=(7.0, 4.4))
def trajectories(records: Records, *panels: Axes) -> None:
    """Networks on their own trajectories of reverse diffusion, beside noised held-out sequences.

    Ours; no figure of the paper. A row for each of the snapshots nearest to the turning point and to best, or to the
    end where one is not reached. States are those of held-out sequences, and those of trajectories of the exact
    denoiser, of the networks that are measured and of others, from the same starts with the same noise. Left the
    data-dependent part, in the middle over that on held-out sequences, right the log-evidence of the states minus that
    of the exact denoiser's: error that accumulates. Bars are 95% intervals.
    """
    curves, steps = records.read("trajectories"), list(records.read_at().items())[:2]
    for row, (when, step) in zip((panels[:3], panels[3:]), steps, strict=False):
        at = curves.sel(step=step, method="nearest").sortby("noise")
        for axes, (name, reference) in zip(row, SHOWN.items(), strict=True):
            for kind, (colour, beside) in STATES.items():
                if kind != reference:
                    here = at.sel(states=kind)
                    line = {"color": colour, "label": kind, "capsize": 2, "linewidth": 0.8}
                    value, half = here[name].values, here[f"{name}_half"].values
                    axes.errorbar(beside * here.noise.values, value, yerr=half, fmt=".-", **line)
            axes.set(xscale="log", xlabel="noise level t/T", title=f"{when}, step {int(at.step):,}")
            style.ticks(axes, at.noise.values.tolist())
        part, share, evidence = row
        part.set(yscale="log", ylabel="data-dependent part\n[squared units / sequence]")
        share.axhline(1, color="0.5", linewidth=0.8)
        share.set_ylabel("over that on held-out")
        evidence.axhline(0, color="0.5", linewidth=0.8)
        evidence.set_ylabel("log-evidence, minus\nexact's  [nats / sequence]")
        part.legend()
