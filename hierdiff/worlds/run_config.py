"""What a run may be told: the configs of the experiments on sequences and on images."""

import dataclasses

from hierdiff.errors import OptionError, kind, option, require, require_seed
from hierdiff.grammar import GrammarConfig
from hierdiff.learning.network import NETWORKS, NetworkConfig, TreeConfig, UNetConfig
from hierdiff.learning.train_config import TrainConfig
from hierdiff.noising import PROCESSES, Gaussian
from hierdiff.noising.process import (
    require_levels,
    require_noise,
)
from hierdiff.statistics.groups import GROUPS, require_groups


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """Measurement."""

    held_out: int = option(800, f"held-out sequences on which the networks are measured, a multiple of {GROUPS}")
    members: int = option(
        100, f"training sequences of each set on which the networks are measured, a multiple of {GROUPS}"
    )
    noise: tuple[float, ...] = option((0.05, 0.08, 0.1, 0.15, 0.2, 0.3), "noise levels, as shares t/T")
    onset_noise: float = option(0.15, "the noise level t/T at which the sample split defines the onset")

    def __post_init__(self):
        require_groups("held_out", self.held_out, each=2)
        require_groups("members", self.members)
        require_noise(self.noise, self.onset_noise)


def require_size(name: str, sequences: int, size: int) -> None:
    """Raise `OptionError` unless a data set of `size` sequences holds so many."""
    require(sequences <= size, name, sequences, f"at most the size of a data set, {size}")


def require_process(kind: type, **sizes: int) -> None:
    """Raise `OptionError` unless there is such a process."""
    try:
        kind(**sizes)
    except OptionError as error:
        raise OptionError("noise_levels", error.got, error.need) from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnsetConfig:
    """Experiment."""

    seed: int = option(0, "seed of the grammar, the data, the networks and the noise")
    split: int = option(0, "which draw of the data, the networks and the noise, for the grammar of the seed")
    sets: int = option(4, "disjoint data sets")
    seeds_per_set: int = option(1, "networks trained on each data set, from different weights and with different noise")
    size: int = option(1000, "sequences in each data set (P)")
    process: str = option("gaussian", f"noise: {', '.join(PROCESSES)}")
    noise_levels: int = option(500, "noise levels (T)")
    common_start: bool = option(False, "start all networks from the same weights")
    grammar: GrammarConfig = dataclasses.field(default_factory=GrammarConfig)
    network: NetworkConfig = kind(TreeConfig, NETWORKS, "architecture")
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    measure: MeasureConfig = dataclasses.field(default_factory=MeasureConfig)

    def __post_init__(self):
        require_seed("seed", self.seed)
        require_seed("split", self.split)
        require(self.sets >= 2, "sets", self.sets, "an integer of at least 2")
        require(self.seeds_per_set >= 1, "seeds_per_set", self.seeds_per_set, "an integer of at least 1")
        require(self.size >= 1, "size", self.size, "an integer of at least 1")
        require(self.process in PROCESSES, "process", self.process, f"one of {', '.join(PROCESSES)}")
        require_process(PROCESSES[self.process], vocab=self.grammar.vocab, levels=self.noise_levels)
        require_size("members", self.measure.members, self.size)
        require_levels("noise", self.measure.noise, self.noise_levels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """Images."""

    data_dir: str = option("", "folder of images, of IDX files or of an npz, or one such file; empty: Fashion-MNIST")
    side: int = option(16, "pixels along each side, after a centred square is cut out")

    def __post_init__(self):
        require(2 <= self.side <= 1024, "side", self.side, "an integer from 2 to 1,024")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageMeasureConfig:
    """Measurement."""

    held_out: int = option(200, f"held-out images on which the networks are measured, a multiple of {GROUPS}")
    members: int = option(50, f"images of each set on which the networks are measured, a multiple of {GROUPS}")
    draws: int = option(4, "noise levels at which the loss of each image is read")
    noise: tuple[float, ...] = option((0.05, 0.1, 0.2), "noise levels, as shares t/T")
    onset_noise: float = option(0.1, "the noise level t/T at which the distance of two networks defines the onset")
    samples: int = option(50, f"images that each network generates at each snapshot, a multiple of {GROUPS}")
    reverse_steps: int = option(50, "steps of the reverse diffusion")

    def __post_init__(self):
        require_groups("held_out", self.held_out, each=2)
        require_groups("members", self.members)
        require_groups("samples", self.samples)
        require(self.draws >= 1, "draws", self.draws, "an integer of at least 1")
        require(self.reverse_steps >= 1, "reverse_steps", self.reverse_steps, "an integer of at least 1")
        require_noise(self.noise, self.onset_noise)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Experiment."""

    seed: int = option(0, "seed of the choice of images, the networks and the noise")
    sets: int = option(4, "disjoint sets of images, each with a network of its own")
    size: int = option(128, "images in each set (P)")
    noise_levels: int = option(1000, "noise levels (T)")
    images: ImageConfig = dataclasses.field(default_factory=ImageConfig)
    network: UNetConfig = dataclasses.field(default_factory=UNetConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    measure: ImageMeasureConfig = dataclasses.field(default_factory=ImageMeasureConfig)

    def __post_init__(self):
        require_seed("seed", self.seed)
        require(self.sets >= 2, "sets", self.sets, "an integer of at least 2")
        require_process(Gaussian, levels=self.noise_levels)
        require_size("members", self.measure.members, self.size)
        require_levels("noise", self.measure.noise, self.noise_levels)
        self.network.require_side(self.images.side)
