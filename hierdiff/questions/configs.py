"""What each question may be told, and its presets; read before anything heavy is imported."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from hierdiff.errors import option, require, require_seed
from hierdiff.grammar import GrammarConfig
from hierdiff.learning.network import TransformerConfig, TreeConfig, UNetConfig
from hierdiff.learning.train_config import TrainConfig
from hierdiff.noising.process import require_shares
from hierdiff.statistics.groups import GROUPS, require_groups
from hierdiff.worlds.run_config import (
    ImageConfig,
    ImageMeasureConfig,
    ImagesConfig,
    MeasureConfig,
    OnsetConfig,
    require_size,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeighboursConfig:
    """Samples."""

    samples: int = option(1000, f"sequences that each network generates at each snapshot, a multiple of {GROUPS}")
    reverse_steps: int = option(50, "steps of the reverse diffusion")

    def __post_init__(self):
        require_groups("samples", self.samples)
        require(self.reverse_steps >= 1, "reverse_steps", self.reverse_steps, "an integer of at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class UTurnConfig:
    """U-turns."""

    starts: int = option(200, f"sequences of each kind from which each network starts, a multiple of {GROUPS}")
    turns: tuple[float, ...] = option((0.1, 0.2, 0.3, 0.5), "noise levels t/T at which to turn")
    reverse_steps: int = option(50, "steps of the way back")

    def __post_init__(self):
        require_groups("starts", self.starts)
        require_shares("turns", self.turns)
        require(self.reverse_steps >= 1, "reverse_steps", self.reverse_steps, "an integer of at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossesConfig:
    """Sequences."""

    targets: int = option(500, f"training sequences of each set, and as many others, a multiple of {GROUPS}")

    def __post_init__(self):
        require_groups("targets", self.targets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MembershipConfig:
    """Attack."""

    targets: int = option(1000, f"training sequences of each set, and as many others, a multiple of {GROUPS}")
    draws: int = option(8, "draws of the noise, at a uniform level, over which a sequence's loss is averaged")

    def __post_init__(self):
        require_groups("targets", self.targets)
        require(self.draws >= 1, "draws", self.draws, "an integer of at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """Noise."""

    sequences: int = option(800, f"sequences on which the networks are measured, a multiple of {GROUPS}")
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
        for name in ("train_epochs", "epochs"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of at least 1")


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
        for name in ("size", "copies", "features"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of at least 1")
        require_seed("seed", self.seed)
        require_groups("held_out", self.held_out, each=2)
        require(0 < self.noise <= 1, "noise", self.noise, "a number above 0 and up to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Both:
    """The configs of an onset run and of the question that goes on from it."""

    onset: OnsetConfig
    own: Any

    def __post_init__(self):
        require(self.onset.train.snapshots > 0, "snapshots", self.onset.train.snapshots, "an integer of at least 1")
        for name in {"targets", "starts"} & set(vars(self.own)):
            require_size(name, getattr(self.own, name), self.onset.size)


# Of each question, by the name of its command, its presets.
PRESETS: dict[str, Mapping[str, Any]] = {
    "onset": {
        "smoke": OnsetConfig(
            sets=2,
            size=200,
            grammar=GrammarConfig(depth=3),
            network=TreeConfig(width=24),
            train=TrainConfig(steps=600, checkpoints=12, batch=64, first_checkpoint=10),
            measure=MeasureConfig(held_out=200, members=50, noise=(0.1, 0.15, 0.3)),
        ),
        "laptop": OnsetConfig(),
        "paper": OnsetConfig(
            sets=2,
            size=12_000,
            network=TransformerConfig(width=512, expansion=2, layers=8, heads=4, dropout=0.1),
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
    },
    "images": {
        "smoke": ImagesConfig(
            sets=2,
            size=64,
            images=ImageConfig(side=8),
            network=UNetConfig(channels=8, grids=2),
            train=TrainConfig(steps=300, checkpoints=8, batch=32, first_checkpoint=10, snapshots=3),
            measure=ImageMeasureConfig(held_out=100, members=50, draws=2, samples=50, reverse_steps=10),
        ),
        "laptop": ImagesConfig(
            train=TrainConfig(steps=4000, batch=32, checkpoints=24, first_checkpoint=50, snapshots=10)
        ),
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
    },
    "neighbours": {
        "smoke": NeighboursConfig(samples=200, reverse_steps=10),
        "laptop": NeighboursConfig(),
        "paper": NeighboursConfig(samples=50_000, reverse_steps=500),
    },
    "uturn": {
        "smoke": UTurnConfig(starts=100, turns=(0.2, 0.4), reverse_steps=10),
        "laptop": UTurnConfig(),
        "paper": UTurnConfig(starts=5000, turns=(0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7), reverse_steps=500),
    },
    "losses": {"smoke": LossesConfig(targets=200), "laptop": LossesConfig(), "paper": LossesConfig(targets=4000)},
    "membership": {
        "smoke": MembershipConfig(targets=200, draws=4),
        "laptop": MembershipConfig(),
        "paper": MembershipConfig(targets=10_000, draws=16),
    },
    "noise": {
        "smoke": NoiseConfig(sequences=100, levels=(0.1, 0.3)),
        "laptop": NoiseConfig(),
        "paper": NoiseConfig(sequences=4000),
    },
    "stopping": {
        "smoke": StoppingConfig(seeds=(0, 1), sizes=(200,), train_epochs=192, epochs=50),
        "laptop": StoppingConfig(),
        "paper": StoppingConfig(sizes=(5000, 12_000, 70_000), train_epochs=30_000),
    },
    "other_models": {"laptop": OtherConfig()},
}
