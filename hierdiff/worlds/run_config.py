"""What a run may be told: the configs of the experiments on sequences and on images."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from hierdiff.errors import Options, kind, option, require
from hierdiff.grammar_config import GrammarConfig
from hierdiff.learning.network import NETWORKS, NetworkConfig, TreeConfig, UNetConfig
from hierdiff.learning.train_config import TrainConfig
from hierdiff.noising import PROCESSES
from hierdiff.noising.levels import LEAST_GAUSSIAN, MOST_LEVELS, SHARE, require_levels
from hierdiff.statistics.groups import GROUPS

# What a seed may be: it names a key.
SEED: dict[str, Any] = {"least": 0, "most": 2**32 - 1}
# How many samples there may be of a kind.
MANY = 10_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasureConfig(Options):
    """Measurement."""

    held_out: int = option(800, "held-out samples on which the networks are measured", least=2 * GROUPS, most=MANY)
    members: int = option(
        1000,
        "training samples of each set on which the networks are measured, or as many as there are",
        least=1,
        most=MANY,
    )
    noise: tuple[float, ...] = option((0.05, 0.08, 0.1, 0.15, 0.2, 0.3), "noise levels, as shares t/T", **SHARE)
    onset_noise: float = option(
        0.15, "the noise level t/T, one of these, at which the distance of networks defines the turning point", **SHARE
    )
    slope_noise: float = option(
        0.0,
        "the noise level t/T, one of these, at which the memorization slope is read; 0: that of the turning point",
        **SHARE,
        also=(0,),
    )
    slope_level: float = option(0.01, "the memorization slope that defines the onset of memorization", above=0, below=1)

    def __post_init__(self):
        super().__post_init__()
        need = f"one of the noise levels {self.noise}"
        require(self.onset_noise in self.noise, "onset_noise", self.onset_noise, need)
        require(self.slope_noise in (0, *self.noise), "slope_noise", self.slope_noise, f"0, or {need}")


def require_size(name: str, samples: int, size: int) -> None:
    """Raise `OptionError` unless a data set of `size` samples holds so many."""
    require(samples <= size, name, samples, f"at most the size of a data set, {size}")


def require_noise_levels(process: str, levels: int) -> None:
    """Raise `OptionError` unless the process of this name can have so many levels."""
    least = getattr(PROCESSES[process], "least_levels", 1)
    need = f"an integer from {least} to {MOST_LEVELS:,} for {process} noise"
    require(levels >= least, "noise_levels", levels, need)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(Options):
    """Experiment."""

    seed: int = option(0, "seed of the data, the networks and the noise", **SEED)
    sets: int = option(4, "disjoint data sets", least=2, most=1000)
    seeds_per_set: int = option(
        1, "networks trained on each data set, from different weights and with different noise", least=1, most=1000
    )
    size: int = option(1000, "samples in each data set (P)", least=1, most=MANY)
    noise_levels: int = option(500, "noise levels (T)", least=1, most=MOST_LEVELS)
    common_start: bool = option(False, "start all networks from the same weights")
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    measure: MeasureConfig = dataclasses.field(default_factory=MeasureConfig)

    def __post_init__(self):
        super().__post_init__()
        require_noise_levels(self.noised_by, self.noise_levels)
        require_levels("noise", self.measure.noise, self.noise_levels)
        privacy, size = self.train.privacy, self.size
        most = f"at most the size of a data set, {size}, of which Poisson sampling takes that many on average"
        require(not privacy.clip_each or self.train.batch <= size, "batch", self.train.batch, most)
        below = f"less than one in the size of a data set, {size}: one of them could be published else"
        require(not privacy.epsilon or privacy.delta * size < 1, "delta", privacy.delta, below)

    @property
    def noised_by(self) -> str:
        """The name of the process."""
        return "gaussian"

    @property
    def set_of(self) -> np.ndarray:
        """The data set of each network."""
        return np.repeat(np.arange(self.sets), self.seeds_per_set)

    def make_process(self) -> Any:
        """The noise, on data that are no symbols."""
        return PROCESSES[self.noised_by](levels=self.noise_levels)


def defaults_of(process: str) -> Mapping[str, Any]:
    """What a process changes of the options that are not given."""
    return getattr(PROCESSES.get(process), "defaults", {})


def with_labels(labels: str) -> Mapping[str, Any]:
    """What labels change of the options that are not given."""
    return {} if labels == "none" else {"label_drop": 0.2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelConfig(Options):
    """Labels."""

    labels: Literal["none", "level", "random", "unique"] = option(
        "none",
        "what networks are told of a sequence: the symbols of one level of its derivation, random ones in their place, "
        "or a label of its own; of the last, which held-out sequences have not, the branch without labels is measured",
        moves=with_labels,
    )
    label_level: int = option(0, "the level whose nodes have a label each; 0 is the root", least=0, most=19)
    label_drop: float = option(
        0.0,
        "the share of sequences that are shown without labels in training (0.2 where there are labels)",
        least=0,
        below=1,
    )

    def __post_init__(self):
        super().__post_init__()
        kinds = {"label_level": ("level", "random"), "label_drop": ("level", "random", "unique")}
        for name, of in kinds.items():
            value = getattr(self, name)
            require(not value or self.labels in of, name, value, f"--labels {' or '.join(of)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnsetConfig(RunConfig):
    """Experiment."""

    split: int = option(0, "which draw of the data, the networks and the noise, for the grammar of the seed", **SEED)
    repeat: tuple[int, ...] = option(
        (1,),
        "how often a sequence may be in a set: 1, and for each other number so often is an equal part of a tenth of "
        "the distinct ones; P counts copies",
        least=1,
        most=MANY,
    )
    process: str = option("gaussian", "noise", among=PROCESSES, moves=defaults_of)
    loss: Literal["cross-entropy", "bound"] = option(
        "cross-entropy", "of what x_t does not show, or T times the term at t of the bound on -log p"
    )
    predicts: Literal["x0", "noise", "v"] = option(
        "x0",
        "what networks answer: x_0, by log-probabilities of symbols, or, under Gaussian noise, the noise or v, whose "
        "squared error is then the loss",
    )
    grammar: GrammarConfig = dataclasses.field(default_factory=GrammarConfig)
    canaries: int = option(
        0,
        "further sequences of each data set, for an audit: a fair coin says of each whether networks are trained on it",
        least=0,
        most=MANY,
    )
    labels: LabelConfig = dataclasses.field(default_factory=LabelConfig)
    network: NetworkConfig = kind(TreeConfig, NETWORKS, "architecture")

    def __post_init__(self):
        super().__post_init__()
        unlabelled = self.labels.labels == "none"
        require(unlabelled or not self.canaries, "canaries", self.canaries, "0 with labels, which canaries have not")
        require(1 in self.repeat, "repeat", self.repeat, "1 among the numbers: most sequences are there once")
        need = f"at least {self._room:,}, for --repeat {' '.join(map(str, self.repeat))}"
        require(self.size >= self._room, "size", self.size, need)
        level, depth = self.labels.label_level, self.grammar.depth
        require(level < depth, "label_level", level, f"a level above the leaves, which are at level {depth}")
        of_numbers = self.predicts != "x0"
        good = not of_numbers or hasattr(self.make_process(), "prediction_of")
        require(good, "predicts", self.predicts, f"x0 under {self.process} noise, which is not Gaussian")
        need = f"cross-entropy: networks that predict {self.predicts} learn by its squared error"
        require(not of_numbers or self.loss == "cross-entropy", "loss", self.loss, need)

    @property
    def noised_by(self) -> str:
        return self.process

    @property
    def _room(self) -> int:
        """How much of a set one sequence for each number of copies needs, with the nine that are there once."""
        return sum(9 + number for number in self.repeat if number > 1)

    @property
    def places(self) -> np.ndarray:
        """Which sequence of a set stands at each of its places: first each one once, then their further copies.

        Every tenth is there more than once, as often as the numbers say by turns: the first are a fair part of all.
        """
        numbers = [number for number in self.repeat if number > 1]
        each = self.size // self._room if numbers else 0
        distinct = np.arange(self.size - each * sum(number - 1 for number in numbers))
        more = np.zeros_like(distinct)
        more[: 10 * each * len(numbers) : 10] = np.tile(numbers, each) - 1
        return np.concatenate([distinct, np.repeat(distinct, more)])

    def make_process(self) -> Any:
        return PROCESSES[self.process](vocab=self.grammar.vocab, levels=self.noise_levels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonConfig(Options):
    """Comparison."""

    seed: int = option(0, "seed of the noise, if it was one", **SEED)
    sets: int = option(2, "disjoint data sets, with a denoiser for each", least=2, most=1000)
    size: int = option(1000, "samples in the smallest data set", least=1, most=MANY)
    process: str = option("gaussian", "noise")
    noise_levels: int = option(500, "noise levels (T)", least=1, most=MOST_LEVELS)
    measure: MeasureConfig = dataclasses.field(default_factory=MeasureConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageConfig(Options):
    """Images."""

    data_dir: str = option(
        "",
        "folder of images, of IDX files or of an npz, or one such file, or FILE.npz:ARRAY; empty: Fashion-MNIST; a run "
        "knows its images by their pixels, so that they may be moved",
        compare=False,
        path=True,
    )
    side: int = option(16, "pixels along each side, after a centred square is cut out", least=2, most=1024)
    colour: bool = option(False, "keep the colours: three channels in place of one")

    @property
    def channels(self) -> int:
        return 3 if self.colour else 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageMeasureConfig(MeasureConfig):
    """Measurement."""

    held_out: int = option(200, "held-out images on which the networks are measured", least=2 * GROUPS, most=MANY)
    members: int = option(
        200, "images of each set on which the networks are measured, or as many as there are", least=1, most=MANY
    )
    noise: tuple[float, ...] = option((0.05, 0.1, 0.2), "noise levels, as shares t/T", **SHARE)
    onset_noise: float = option(
        0.1, "the noise level t/T, one of these, at which the distance of networks defines the turning point", **SHARE
    )
    draws: int = option(4, "noise levels at which the loss of each image is read", least=1, most=10_000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplesConfig(Options):
    """Samples."""

    samples: int = option(1000, "samples that each network generates at each snapshot", least=GROUPS, most=MANY)
    reverse_steps: int = option(50, "steps of the reverse diffusion", least=1, most=MOST_LEVELS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesConfig(RunConfig):
    """Experiment."""

    size: int = option(128, "images in each set (P)", least=1, most=MANY)
    noise_levels: int = option(1000, "noise levels (T)", least=LEAST_GAUSSIAN, most=MOST_LEVELS)
    images: ImageConfig = dataclasses.field(default_factory=ImageConfig)
    network: UNetConfig = dataclasses.field(default_factory=UNetConfig)
    measure: ImageMeasureConfig = dataclasses.field(default_factory=ImageMeasureConfig)
    samples: SamplesConfig = dataclasses.field(default_factory=lambda: SamplesConfig(samples=50))

    def __post_init__(self):
        super().__post_init__()
        self.network.require_side(self.images.side)
