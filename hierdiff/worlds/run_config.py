"""What a run may be told: the configs of the experiments on sequences and on images."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from hierdiff.errors import OptionError, kind, option, require, require_counts, require_seed
from hierdiff.grammar import GrammarConfig
from hierdiff.learning.network import NETWORKS, NetworkConfig, TreeConfig, UNetConfig
from hierdiff.learning.train_config import TrainConfig
from hierdiff.noising import PROCESSES, Gaussian
from hierdiff.noising.process import require_levels, require_noise
from hierdiff.statistics.groups import GROUPS, require_groups


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """Measurement."""

    held_out: int = option(800, f"held-out samples on which the networks are measured, at least {2 * GROUPS}")
    members: int = option(
        1000, "training samples of each set on which the networks are measured, or as many as there are"
    )
    noise: tuple[float, ...] = option((0.05, 0.08, 0.1, 0.15, 0.2, 0.3), "noise levels, as shares t/T")
    onset_noise: float = option(0.15, "the noise level t/T at which the distance of networks defines the turning point")
    slope_noise: float = option(
        0.0, "the noise level t/T at which the memorization slope is read; 0: that of the turning point"
    )
    slope_level: float = option(0.01, "the memorization slope that defines the onset of memorization")

    def __post_init__(self):
        require_groups("held_out", self.held_out, each=2)
        require_counts(self, "members")
        require_noise(self.noise, self.onset_noise)
        slope, need = self.slope_noise, f"0, or one of the noise levels {self.noise}"
        require(slope in (0, *self.noise), "slope_noise", slope, need)
        require(0 < self.slope_level < 1, "slope_level", self.slope_level, "a number between 0 and 1")


def require_size(name: str, samples: int, size: int) -> None:
    """Raise `OptionError` unless a data set of `size` samples holds so many."""
    require(samples <= size, name, samples, f"at most the size of a data set, {size}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Experiment."""

    seed: int = option(0, "seed of the data, the networks and the noise")
    sets: int = option(4, "disjoint data sets")
    seeds_per_set: int = option(1, "networks trained on each data set, from different weights and with different noise")
    size: int = option(1000, "samples in each data set (P)")
    noise_levels: int = option(500, "noise levels (T)")
    common_start: bool = option(False, "start all networks from the same weights")
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    measure: MeasureConfig = dataclasses.field(default_factory=MeasureConfig)

    def __post_init__(self):
        require_seed("seed", self.seed)
        require(self.sets >= 2, "sets", self.sets, "an integer of at least 2")
        require_counts(self, "seeds_per_set", "size")
        try:
            self.make_process()
        except OptionError as error:
            raise OptionError("noise_levels", error.got, error.need) from None
        require_levels("noise", self.measure.noise, self.noise_levels)

    @property
    def set_of(self) -> np.ndarray:
        """The data set of each network."""
        return np.repeat(np.arange(self.sets), self.seeds_per_set)

    def make_process(self) -> Gaussian:
        return Gaussian(levels=self.noise_levels)


def defaults_of(process: str) -> Mapping[str, Any]:
    """What a process changes of the options that are not given."""
    return PROCESSES[process].defaults if process in PROCESSES else {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnsetConfig(RunConfig):
    """Experiment."""

    split: int = option(0, "which draw of the data, the networks and the noise, for the grammar of the seed")
    process: str = option("gaussian", f"noise: {', '.join(PROCESSES)}", moves=defaults_of)
    loss: Literal["cross-entropy", "bound"] = option(
        "cross-entropy", "of what x_t does not show, or T times the term at t of the bound on -log p"
    )
    grammar: GrammarConfig = dataclasses.field(default_factory=GrammarConfig)
    network: NetworkConfig = kind(TreeConfig, NETWORKS, "architecture")

    def __post_init__(self):
        require_seed("split", self.split)
        require(self.process in PROCESSES, "process", self.process, f"one of {', '.join(PROCESSES)}")
        super().__post_init__()

    def make_process(self):
        return PROCESSES[self.process](vocab=self.grammar.vocab, levels=self.noise_levels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """Images."""

    data_dir: str = option(
        "",
        "folder of images, of IDX files or of an npz, or one such file, or FILE.npz:ARRAY; empty: Fashion-MNIST; a run "
        "knows its images by their pixels, so that they may be moved",
        compare=False,
    )
    side: int = option(16, "pixels along each side, after a centred square is cut out")
    colour: bool = option(False, "keep the colours: three channels in place of one")

    def __post_init__(self):
        require(2 <= self.side <= 1024, "side", self.side, "an integer from 2 to 1,024")

    @property
    def channels(self) -> int:
        return 3 if self.colour else 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageMeasureConfig(MeasureConfig):
    """Measurement."""

    held_out: int = option(200, f"held-out images on which the networks are measured, at least {2 * GROUPS}")
    members: int = option(200, "images of each set on which the networks are measured, or as many as there are")
    noise: tuple[float, ...] = option((0.05, 0.1, 0.2), "noise levels, as shares t/T")
    onset_noise: float = option(0.1, "the noise level t/T at which the distance of networks defines the turning point")
    draws: int = option(4, "noise levels at which the loss of each image is read")

    def __post_init__(self):
        super().__post_init__()
        require_counts(self, "draws")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplesConfig:
    """Samples."""

    samples: int = option(1000, f"samples that each network generates at each snapshot, at least {GROUPS}")
    reverse_steps: int = option(50, "steps of the reverse diffusion")

    def __post_init__(self):
        require_groups("samples", self.samples)
        require_counts(self, "reverse_steps")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesConfig(RunConfig):
    """Experiment."""

    size: int = option(128, "images in each set (P)")
    noise_levels: int = option(1000, "noise levels (T)")
    images: ImageConfig = dataclasses.field(default_factory=ImageConfig)
    network: UNetConfig = dataclasses.field(default_factory=UNetConfig)
    measure: ImageMeasureConfig = dataclasses.field(default_factory=ImageMeasureConfig)
    samples: SamplesConfig = dataclasses.field(default_factory=lambda: SamplesConfig(samples=50))

    def __post_init__(self):
        super().__post_init__()
        self.network.require_side(self.images.side)
