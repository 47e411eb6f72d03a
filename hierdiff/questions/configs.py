"""What each question may be told; read before anything heavy is imported."""

import dataclasses
from typing import Any, Literal

from hierdiff.errors import option, require, require_counts, require_seed
from hierdiff.noising import PROCESSES
from hierdiff.noising.process import require_shares
from hierdiff.statistics.groups import GROUPS, require_groups
from hierdiff.worlds.run_config import ImageConfig, SamplesConfig, require_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class UTurnConfig:
    """U-turns."""

    starts: int = option(200, f"sequences of each kind from which each network starts, at least {GROUPS}")
    turns: tuple[float, ...] = option((0.1, 0.2, 0.3, 0.5), "noise levels t/T at which to turn")
    reverse_steps: int = option(50, "steps of the way back")

    def __post_init__(self):
        require_groups("starts", self.starts)
        require_shares("turns", self.turns)
        require_counts(self, "reverse_steps")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeighboursConfig(SamplesConfig):
    """Samples."""

    order: Literal["level", "random", "confidence"] = option(
        "level", "masked symbols are shown as the noise level says, or as many in each step, by this order"
    )


def require_order(order: str, process: str) -> None:
    """Raise `OptionError` if an order is asked for of noise that does not mask."""
    need = f"level: noise that is {process} shows no symbols one after another"
    require(order == "level" or process == "masking", "order", order, need)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CopyingConfig:
    """Samples."""

    samples: int = option(1000, f"samples that each network generates at each snapshot, at least {GROUPS}")
    reverse_steps: tuple[int, ...] = option((5, 20, 100), "numbers of steps of the reverse diffusion")

    def __post_init__(self):
        require_groups("samples", self.samples)
        good = len(set(self.reverse_steps)) == len(self.reverse_steps) and min(self.reverse_steps) >= 1
        require(good, "reverse_steps", self.reverse_steps, "distinct integers of at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessesConfig:
    """Processes."""

    processes: tuple[str, ...] = option(
        ("gaussian", "masking", "uniform"), "noises; the others are compared to the first"
    )

    def __post_init__(self):
        good = len(set(self.processes)) == len(self.processes) and set(self.processes) <= set(PROCESSES)
        require(good, "processes", self.processes, f"distinct ones of {', '.join(PROCESSES)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossesConfig:
    """Sequences."""

    targets: int = option(500, f"training sequences of each set, and as many others, at least {GROUPS}")

    def __post_init__(self):
        require_groups("targets", self.targets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MembershipConfig:
    """Attack."""

    targets: int = option(1000, f"training sequences of each set, and as many others, at least {GROUPS}")
    draws: int = option(8, "draws of the noise, at a uniform level, over which a sequence's loss is averaged")

    def __post_init__(self):
        require_groups("targets", self.targets)
        require_counts(self, "draws")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """Noise."""

    sequences: int = option(800, f"sequences on which the networks are measured, at least {2 * GROUPS}")
    levels: tuple[float, ...] = option(
        (0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7), "noise levels, as shares t/T"
    )

    def __post_init__(self):
        require_groups("sequences", self.sequences, each=2)
        require_shares("levels", self.levels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoppingConfig:
    """Stopping."""

    seeds: tuple[int, ...] = option((0, 1, 2), "a grammar, with its data and networks, for each")
    sizes: tuple[int, ...] = option((300, 1000), "training-set sizes")
    train_epochs: int = option(1024, "epochs for which each run is trained")
    epochs: int = option(200, "epochs after which the fixed rule stops")

    def __post_init__(self):
        for name, values in (("seeds", self.seeds), ("sizes", self.sizes)):
            require(len(set(values)) == len(values), name, values, "distinct integers")
        require(min(self.seeds) >= 0, "seeds", self.seeds, "integers of at least 0")
        # As many are attacked.
        require(min(self.sizes) >= GROUPS, "sizes", self.sizes, f"integers of at least {GROUPS}")
        require_counts(self, "train_epochs", "epochs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherConfig:
    """Random features."""

    seed: int = option(0, "seed of the choice of images, the features and the noise")
    size: int = option(200, "images in each of the two sets")
    held_out: int = option(500, "held-out images")
    copies: int = option(10, "noised copies of each image to learn from")
    features: int = option(800, "random features")
    noise: float = option(0.15, "noise level t/T")
    images: ImageConfig = dataclasses.field(default_factory=lambda: ImageConfig(side=8))

    def __post_init__(self):
        require_counts(self, "size", "copies", "features")
        require_seed("seed", self.seed)
        require_groups("held_out", self.held_out, each=2)
        require(0 < self.noise <= 1, "noise", self.noise, "a number above 0 and up to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """Calibration."""

    experiments: int = option(2000, "experiments of each kind, synthetic ones and draws from the pool")

    def __post_init__(self):
        require_counts(self, "experiments")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Benchmark."""

    json: str = option("", "file to write the figures to")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Both:
    """The configs of a training and of the question that goes on from it."""

    training: Any
    own: Any

    def __post_init__(self):
        require_counts(self.training.train, "snapshots")
        for name in {"targets", "starts"} & set(vars(self.own)):
            require_size(name, getattr(self.own, name), self.training.size)
        if isinstance(self.own, NeighboursConfig):
            require_order(self.own.order, self.training.process)
