"""What each question may be told; read before anything heavy is imported."""

import dataclasses
from typing import Any, ClassVar, Literal

from hierdiff.errors import COUNTED, Options, kind, option, require
from hierdiff.grammar_config import GrammarConfig
from hierdiff.learning.network import NETWORKS, NetworkConfig, TreeConfig
from hierdiff.learning.train_config import TrainConfig
from hierdiff.noising import PROCESSES
from hierdiff.noising.levels import MOST_LEVELS, SHARE, noise_level, require_levels
from hierdiff.runs.options import rebuild
from hierdiff.runs.sweep import FORM, Point, axis, grid
from hierdiff.statistics.groups import GROUPS
from hierdiff.worlds.run_config import (
    MANY,
    SEED,
    ImageConfig,
    MeasureConfig,
    OnsetConfig,
    SamplesConfig,
    require_noise_levels,
    require_size,
)

# What seeds may be that stand for `--seed`.
SEEDS: dict[str, Any] = {"gives": lambda _: ["seed"], **SEED}


class AskedOfRun(Options):
    """What the configs of questions to a run have in common."""

    def require_run(self, training: Any) -> None:
        """Raise `OptionError` unless the question can be put to a run of this config."""
        kept = training.train.snapshots
        require(kept >= 1, "snapshots", kept, "at least 1, of which the question is asked")

    def fitted(self, training: Any) -> Any:
        """The question with no more samples of a data set than such a run has."""
        kinds = ("starts", "targets")
        return rebuild(self, {name: min(x, training.size) for name, x in vars(self).items() if name in kinds})


class MakesRuns(AskedOfRun):
    """What the configs of questions that make several runs have in common: these, a sweep; each is asked `then`."""

    def points(self, training: OnsetConfig) -> list[Point]:
        raise NotImplementedError

    def require_run(self, training: OnsetConfig) -> None:
        # All are checked, where they are made, before the first one is trained.
        self.points(training)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UTurnConfig(AskedOfRun):
    """U-turns."""

    starts: int = option(200, "sequences of each kind from which each network starts", least=GROUPS, most=MANY)
    turns: tuple[float, ...] = option((0.1, 0.2, 0.3, 0.5), "noise levels t/T at which to turn", **SHARE)
    reverse_steps: int = option(50, "steps of the way back", least=1, most=MOST_LEVELS)

    def require_run(self, training: Any) -> None:
        super().require_run(training)
        require_size("starts", self.starts, training.size)
        require_levels("turns", self.turns, training.noise_levels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeighboursConfig(SamplesConfig, AskedOfRun):
    """Samples."""

    order: Literal["level", "random", "confidence"] = option(
        "level", "masked symbols are shown as the noise level says, or as many in each step, by this order"
    )

    def require_run(self, training: Any) -> None:
        super().require_run(training)
        need = f"level: noise that is {training.process} shows no symbols one after another"
        require(self.order == "level" or training.process == "masking", "order", self.order, need)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CopyingConfig(AskedOfRun):
    """Samples."""

    samples: int = option(1000, "samples that each network generates at each snapshot", least=GROUPS, most=MANY)
    reverse_steps: tuple[int, ...] = option(
        (5, 20, 100), "numbers of steps of the reverse diffusion", least=1, most=MOST_LEVELS
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrajectoriesConfig(AskedOfRun):
    """Trajectories."""

    sequences: int = option(
        300,
        "states of each kind at each noise level; as many training sequences of each set, or as many as there are",
        least=2 * GROUPS,
        most=MANY,
    )
    levels: tuple[float, ...] = option(
        (0.1, 0.15, 0.3, 0.5), "noise levels t/T at which trajectories are looked at", above=0, below=1
    )
    reverse_steps: int = option(500, "steps of the whole reverse diffusion", least=1, most=MOST_LEVELS)

    def require_run(self, training: Any) -> None:
        super().require_run(training)
        require_levels("levels", self.levels, training.noise_levels)
        below = noise_level(max(self.levels), training.noise_levels) < training.noise_levels
        require(below, "levels", self.levels, "levels below the last, where reverse diffusion starts")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuidanceConfig(AskedOfRun):
    """Guidance."""

    sequences: int = option(800, "sequences on which the networks are measured", least=2 * GROUPS, most=MANY)
    levels: tuple[float, ...] = option(
        (0.15, 0.3), "noise levels t/T at which to measure; the landmarks are read at the first", **SHARE
    )
    weights: tuple[float, ...] = option((0.0, 1.0, 2.0, 4.0), "weights of guidance, 0 the first", least=0, most=100)
    scheduled: float = option(2.0, "the weight that is switched on in parts of the way", above=0, most=100)
    samples: int = option(200, "samples that each network generates in each way", least=2 * GROUPS, most=MANY)
    reverse_steps: int = option(50, "steps of the reverse diffusion", least=1, most=MOST_LEVELS)

    def __post_init__(self):
        super().__post_init__()
        require(self.weights[0] == 0, "weights", self.weights, "0 as the first, to which the others are compared")
        require(self.samples % 2 == 0, "samples", self.samples, "an even number: two of each label are compared")

    def require_run(self, training: Any) -> None:
        super().require_run(training)
        labels = training.labels.labels
        require(
            labels == "level", "labels", labels, "a run with --labels level: there is no exact guided reference else"
        )
        require(training.labels.label_drop > 0, "label_drop", 0.0, "a run that was shown sequences without labels too")
        require_levels("levels", self.levels, training.noise_levels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessesConfig(MakesRuns):
    """Processes."""

    then: ClassVar[tuple[str, ...]] = ("copying",)
    processes: tuple[str, ...] = option(
        ("gaussian", "masking", "uniform"),
        "noises; the others are compared to the first",
        gives=lambda _: ["process"],
        among=PROCESSES,
    )

    def points(self, training: OnsetConfig) -> list[Point]:
        return grid(training, [[{"process": name} for name in self.processes]], [training.seed])


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossesConfig(AskedOfRun):
    """Sequences."""

    targets: int = option(500, "training sequences of each set, and as many others", least=GROUPS, most=MANY)

    def require_run(self, training: Any) -> None:
        super().require_run(training)
        require_size("targets", self.targets, training.size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MembershipConfig(AskedOfRun):
    """Attack."""

    targets: int = option(1000, "training sequences of each set", least=GROUPS, most=MANY)
    others: int = option(0, "sequences that no network has seen; 0: as many", least=GROUPS, most=MANY, also=(0,))
    draws: int = option(
        8, "draws of the noise, at a uniform level, over which a sequence's loss is averaged", least=1, most=10_000
    )
    references: int = option(
        0, "other data sets, at most, whose networks are references for own against other and LiRA", least=0, most=1000
    )
    published: bool = option(
        False, "attack as published for this noise too: SimA and SecMI, or, with references, SAMA for masking"
    )

    def require_run(self, training: Any) -> None:
        super().require_run(training)
        require_size("targets", self.targets, training.size)

    def fitted(self, training: Any) -> Any:
        """With as many others as members: of several runs areas are read, which need no more."""
        return dataclasses.replace(super().fitted(training), others=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditConfig(AskedOfRun):
    """Audit."""

    draws: int = option(
        16, "draws of the noise, at a uniform level, over which a canary's loss is averaged", least=1, most=10_000
    )

    def require_run(self, training: Any) -> None:
        super().require_run(training)
        need = "a run with --canaries: samples of an ordinary run were included by no coin, and say nothing of epsilon"
        require(training.canaries >= 2, "canaries", training.canaries, need)
        need = "one network on each data set, so that each canary is met by one"
        require(training.seeds_per_set == 1, "seeds_per_set", training.seeds_per_set, need)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstConfig(AskedOfRun):
    """Memorization."""

    targets: int = option(
        1000, "training sequences of each set, or as many distinct ones as it has", least=GROUPS, most=MANY
    )
    draws: int = option(
        8,
        "draws of the noise, at levels spread over all, over which a sequence's loss is averaged; their halves tell "
        "how reliable it is",
        least=2,
        most=10_000,
    )
    level: float = option(
        0.5,
        "nats of memorization; at which step those that are in a set several times pass it is told",
        above=0,
        most=1000,
    )

    def __post_init__(self):
        super().__post_init__()
        require(self.draws % 2 == 0, "draws", self.draws, "an even number: two halves are compared")

    def require_run(self, training: Any) -> None:
        super().require_run(training)
        require_size("targets", self.targets, training.size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseConfig(AskedOfRun):
    """Noise."""

    sequences: int = option(800, "sequences on which the networks are measured", least=2 * GROUPS, most=MANY)
    levels: tuple[float, ...] = option(
        (0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7), "noise levels, as shares t/T", **SHARE
    )

    def require_run(self, training: Any) -> None:
        super().require_run(training)
        require_levels("levels", self.levels, training.noise_levels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig(MakesRuns):
    """Sweep."""

    over: tuple[str, ...] = option(
        ("size,steps=300:3000,1000:10000,3000:30000",),
        f"options of the runs, each with the values that it has: {FORM} (0.1+0.2 is a value of an option that has "
        "several)",
        gives=lambda over: [name.replace("-", "_") for text in over for name in text.partition("=")[0].split(",")],
    )
    seeds: tuple[int, ...] = option((0, 1, 2), "a grammar, with its data and networks, for each", **SEEDS)
    epochs: int = option(
        0,
        "epochs for which each run is trained, in place of --steps; 0: as many steps as that says",
        gives=lambda epochs: ["steps"] if epochs else [],
        least=0,
        most=COUNTED,
    )
    then: tuple[str, ...] = option(("neighbours",), "questions that are put to each run after its training, or none")

    def axes(self, training: OnsetConfig) -> list[list[dict[str, Any]]]:
        """What is swept: the values of options at each place of each axis."""
        found = [axis(training, text) for text in self.over]
        names = [name for each in found for name in each[0]]
        for name in names:
            require(names.count(name) == 1, "over", name, "an option that is swept once")
            require(name != "seed", "over", name, "another option: --seeds gives the seeds")
            require(name != "steps" or not self.epochs, "over", name, "another option: --epochs gives the steps")
        return found

    def points(self, training: OnsetConfig) -> list[Point]:
        return grid(training, self.axes(training), self.seeds, self.epochs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoppingConfig(MakesRuns):
    """Stopping."""

    then: ClassVar[tuple[str, ...]] = ("neighbours", "membership")
    seeds: tuple[int, ...] = option((0, 1, 2), "a grammar, with its data and networks, for each", **SEEDS)
    # As many are attacked.
    sizes: tuple[int, ...] = option(
        (300, 1000), "training-set sizes", gives=lambda _: ["size"], least=GROUPS, most=MANY
    )
    train_epochs: int = option(
        1024, "epochs for which each run is trained", gives=lambda _: ["steps"], least=1, most=COUNTED
    )
    epochs: int = option(200, "epochs after which the fixed rule stops", least=1, most=COUNTED)

    def points(self, training: OnsetConfig) -> list[Point]:
        return grid(training, [[{"size": size} for size in self.sizes]], self.seeds, self.train_epochs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemediesConfig(MakesRuns):
    """Remedies."""

    then: ClassVar[tuple[str, ...]] = ("neighbours", "membership")
    remedies: tuple[str, ...] = option(
        (
            "average-width=0,0.25",
            "weight-decay=3",
            "dropout=0.1,0.3",
            "learning-rate=0.0003",
            "batch=512",
            "noise-draws=100",
            "clip-each,epsilon,batch,steps=1:2:300:200,1:8:300:200,1:32:300:200",
        ),
        f"what is done against memorizing: options of the runs, each with the values that it has: {FORM}",
        gives=lambda texts: [name.replace("-", "_") for text in texts for name in text.partition("=")[0].split(",")],
    )
    seeds: tuple[int, ...] = option((0, 1, 2), "a grammar, with its data and networks, for each", **SEEDS)
    # As many are attacked.
    size: int = option(300, "training-set size", gives=lambda _: ["size"], least=GROUPS, most=MANY)
    train_epochs: int = option(
        1280, "epochs for which each run is trained", gives=lambda _: ["steps"], least=1, most=COUNTED
    )
    excess: tuple[float, ...] = option(
        (0.8, 0.65, 0.5), "excess losses, in nats a sequence, at which remedies are compared", above=0, most=1e6
    )
    law: str = option("", "record of a sweep over sizes, by whose law a rule says when networks memorize", path=True)

    def points(self, training: OnsetConfig) -> list[Point]:
        places = [{}, *(place for text in self.remedies for place in axis(training, text))]
        return grid(training, [[{"size": self.size}], places], self.seeds, self.train_epochs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherConfig(Options):
    """Random features."""

    seed: int = option(0, "seed of the choice of images, the features and the noise", **SEED)
    size: int = option(200, "images in each of the two sets", least=1, most=MANY)
    held_out: int = option(500, "held-out images", least=2 * GROUPS, most=MANY)
    copies: int = option(10, "noised copies of each image to learn from", least=1, most=100_000)
    features: int = option(800, "random features", least=1, most=100_000)
    noise: float = option(0.15, "noise level t/T", **SHARE)
    images: ImageConfig = dataclasses.field(default_factory=lambda: ImageConfig(side=8))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributionConfig(Options):
    """Attribution."""

    seed: int = option(0, "seed of the grammar, the data, the networks and the noise", **SEED)
    size: int = option(256, "sequences in the training set (P)", least=2, most=MANY)
    steps: int = option(
        1000,
        "training steps; the derivative needs least where they have a divisor near their root",
        least=4,
        most=COUNTED,
    )
    batch: int = option(64, "sequences in a batch, drawn with replacement", least=1, most=1_000_000)
    learning_rate: float = option(1e-3, "the learning rate of Adam, whose eps_root is above zero", above=0, below=1)
    checkpoints: int = option(8, "checkpoints at which all is measured, spaced evenly in log(step)", least=3, most=1000)
    held_out: int = option(200, "held-out sequences on which the heights are measured", least=2 * GROUPS, most=MANY)
    targets: int = option(20, "held-out sequences whose losses are attributed", least=2, most=MANY)
    draws: int = option(16, "draws of the noise in each loss that is attributed or attributed to", least=1, most=10_000)
    noise: float = option(0.15, "noise level t/T at which the heights are measured", **SHARE)
    left_out: tuple[float, ...] = option(
        (0.5, 0.1, 0.01), "shares of the training set that retrained networks are not shown", above=0, below=1
    )
    subsets: int = option(
        100, "networks that are retrained without the first share; without each other, half as many", least=6, most=MANY
    )
    alone: int = option(18, "high-scored sequences, each of which is left out alone", least=2, most=MANY)
    projections: int = option(512, "random projections of the gradients, for TRAK", least=1, most=1_000_000)
    grammar: GrammarConfig = dataclasses.field(default_factory=lambda: GrammarConfig(depth=3))
    network: NetworkConfig = kind(TreeConfig, NETWORKS, "architecture")

    def __post_init__(self):
        super().__post_init__()
        require_levels("noise", (self.noise,), self.training.noise_levels)
        require(self.targets <= self.held_out, "targets", self.targets, f"at most held_out, {self.held_out}")
        require(self.alone <= self.size, "alone", self.alone, f"at most the size of the training set, {self.size}")
        for share in self.left_out:
            need = f"a share that leaves out at least one of {self.size} sequences, and not all"
            require(1 <= round(share * self.size) < self.size, "left_out", share, need)

    @property
    def training(self) -> OnsetConfig:
        """Two networks on disjoint sets, of which the first is retrained."""
        return OnsetConfig(
            seed=self.seed,
            sets=2,
            size=self.size,
            grammar=self.grammar,
            network=self.network,
            train=TrainConfig(
                steps=self.steps,
                batch=self.batch,
                learning_rate=self.learning_rate,
                optimizer="smooth_adam",
                first_checkpoint=1,
            ),
            measure=MeasureConfig(held_out=self.held_out, noise=(self.noise,), onset_noise=self.noise),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationConfig(AskedOfRun):
    """Calibration."""

    experiments: int = option(
        2000, "experiments of each kind, synthetic ones and draws from the pool", least=1, most=1_000_000
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Options):
    """Data."""

    seed: int = option(0, "seed of the grammar, the data and the noise, as that of a run", **SEED)
    split: int = option(0, "which draw of the data and the noise, for the grammar of the seed", **SEED)
    sets: int = option(2, "disjoint training sets", least=1, most=1000)
    size: int = option(1000, "sequences in each training set (P)", least=1, most=COUNTED)
    held_out: int = option(800, "held-out sequences", least=1, most=COUNTED)
    noise: tuple[float, ...] = option(
        (0.0,), "noise levels t/T of held-out sequences, with exact posteriors; 0: none", **SHARE, also=(0,)
    )
    process: str = option("gaussian", "noise", among=PROCESSES)
    noise_levels: int = option(500, "noise levels (T)", least=1, most=MOST_LEVELS)
    format: Literal["npz", "parquet"] = option("npz", "files of NumPy, or those that data-set libraries read")
    grammar: GrammarConfig = dataclasses.field(default_factory=GrammarConfig)

    def __post_init__(self):
        super().__post_init__()
        most = (COUNTED - self.held_out) // self.sets
        need = f"at most {most:,}: all sets and the held-out one are of one stream, of {COUNTED:,} sequences"
        require(self.size <= most, "size", self.size, need)
        require_noise_levels(self.process, self.noise_levels)
        if self.shares:
            require_levels("noise", self.shares, self.noise_levels)

    @property
    def shares(self) -> tuple[float, ...]:
        """The noise levels, as shares t/T, at which held-out sequences are noised."""
        return tuple(share for share in self.noise if share)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(Options):
    """Benchmark."""

    json: str = option("", "file to write the figures to; empty: none", path=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Both:
    """The configs of a training and of the question that goes on from it."""

    training: Any
    own: Any

    def __post_init__(self):
        if isinstance(self.own, AskedOfRun):
            self.own.require_run(self.training)
