"""Every question by the name of its command: what is known of it before anything heavy is imported.

To add one: a file here, with a `Question` or an `answer`; an entry below, with its options in `configs`; and
`experiments/NAME.py`. Commands, help, parts of a run's folder, figures and their jobs follow.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from hierdiff.errors import require
from hierdiff.grammar_config import GrammarConfig
from hierdiff.learning.network import TransformerConfig, TreeConfig, UNetConfig
from hierdiff.learning.train_config import PrivacyConfig, TrainConfig
from hierdiff.questions.configs import (
    AskedOfRun,
    AttributionConfig,
    AuditConfig,
    BenchmarkConfig,
    Both,
    CalibrationConfig,
    CopyingConfig,
    DataConfig,
    FirstConfig,
    GuidanceConfig,
    LossesConfig,
    MembershipConfig,
    NeighboursConfig,
    NoiseConfig,
    OtherConfig,
    ProcessesConfig,
    RemediesConfig,
    StoppingConfig,
    SweepConfig,
    TrajectoriesConfig,
    UTurnConfig,
)
from hierdiff.worlds.run_config import (
    ImageConfig,
    ImageMeasureConfig,
    ImagesConfig,
    LabelConfig,
    MeasureConfig,
    OnsetConfig,
    SamplesConfig,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A question: the module, or `MODULE:QUESTION`, that has its `answer(config, options)`; its text and its presets.

    The first sentence of the text stands in the list of all questions.

    It goes on from nothing; or is a `training`, of a world, named by `MODULE:CLASS`, after which other questions are
    asked, `then`; or goes on from a `run` of a `training`, or from several `runs` that it makes, the sweep that its
    config is. A training, and what `plans`, can say what it will cost. `pictures` are the names of its figures,
    functions in the module `album`, and `minutes` what it takes on two cores.
    """

    module: str
    asks: str
    presets: Mapping[str, Any]
    of: Literal["nothing", "training", "run", "runs"] = "nothing"
    world: str = ""
    then: tuple[str, ...] = ()
    training: str = "onset"
    plans: bool = False
    pictures: tuple[str, ...] = ()
    album: str = ""
    minutes: float = 0.0

    def asked(self, own: Any, training: Any, preset: str) -> dict[str, Any]:
        """The questions to each of several runs: those that are put to one of this config."""
        known = {
            name: each.presets[preset]
            for name, each in QUESTIONS.items()
            if each.of == "run" and each.training == self.training and preset in each.presets
        }
        then = () if own.then == ("none",) else own.then
        for name in then:
            require(name in known, "then", name, f"none, or questions of {', '.join(known)}")
        found = {name: known[name] for name in then}
        return {name: each.fitted(training) if isinstance(each, AskedOfRun) else each for name, each in found.items()}


ONSET = {
    "smoke": OnsetConfig(
        sets=2,
        size=200,
        grammar=GrammarConfig(depth=3),
        network=TreeConfig(width=24),
        train=TrainConfig(steps=600, checkpoints=12, batch=64, first_checkpoint=10),
        measure=MeasureConfig(held_out=200, members=100, noise=(0.1, 0.15, 0.3)),
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
}
# The training-set sizes of the laws; of each preset the smallest and the largest are those of the figures.
SIZES = {"smoke": (150, 200, 300), "laptop": (300, 600, 1200, 2400), "paper": (5000, 12_000, 70_000)}


def as_many_epochs(config: OnsetConfig, *sizes: int) -> str:
    """What a sweep is over: sizes, and for each the steps that make as many epochs as those of a run."""
    places = (f"{size}:{math.ceil(config.train.steps * size / config.size)}" for size in sizes)
    return f"size,steps={','.join(places)}"


# Large batches and few steps, which need less noise for each.
PRIVATE = {
    "smoke": dataclasses.replace(
        ONSET["smoke"],
        canaries=100,
        train=dataclasses.replace(
            ONSET["smoke"].train, steps=100, batch=100, privacy=PrivacyConfig(clip_each=1.0, epsilon=8.0)
        ),
    ),
    "laptop": OnsetConfig(
        canaries=500,
        train=TrainConfig(steps=200, batch=500, first_checkpoint=10, privacy=PrivacyConfig(clip_each=1.0, epsilon=8.0)),
    ),
}
LABELS = LabelConfig(labels="level", label_drop=0.2)
# Many networks on small sets.
POOL = {
    "smoke": OnsetConfig(
        sets=8,
        size=100,
        grammar=GrammarConfig(depth=2),
        network=TreeConfig(width=16),
        train=TrainConfig(steps=600, checkpoints=16, batch=64, first_checkpoint=10, snapshots=1),
        measure=MeasureConfig(held_out=200, members=100, noise=(0.15,)),
    ),
    "laptop": OnsetConfig(
        sets=48,
        size=250,
        grammar=GrammarConfig(depth=3),
        network=TreeConfig(width=24),
        train=TrainConfig(steps=8000, checkpoints=32, batch=64, first_checkpoint=20, snapshots=1),
        measure=MeasureConfig(held_out=1600, members=250, noise=(0.15,), slope_level=0.05),
    ),
}
IMAGES = {
    "smoke": ImagesConfig(
        sets=2,
        size=64,
        images=ImageConfig(side=8),
        network=UNetConfig(channels=8, grids=2),
        train=TrainConfig(steps=300, checkpoints=8, batch=32, first_checkpoint=10, snapshots=3),
        measure=ImageMeasureConfig(held_out=100, members=50, draws=2),
        samples=SamplesConfig(samples=50, reverse_steps=10),
    ),
    "laptop": ImagesConfig(train=TrainConfig(steps=4000, batch=32, checkpoints=24, first_checkpoint=50, snapshots=10)),
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
        measure=ImageMeasureConfig(held_out=2000, members=500),
        samples=SamplesConfig(samples=1000, reverse_steps=1000),
    ),
}

QUESTIONS: dict[str, Entry] = {
    "onset": Entry(
        module="hierdiff.questions.training",
        asks="When do networks on different data begin to part? And how much does each lean to its own training "
        "samples?",
        presets=ONSET,
        of="training",
        world="hierdiff.worlds.sequences:Sequences",
        pictures=("training", "set_sizes", "spectrum"),
        minutes=5.0,
    ),
    "noise": Entry(
        module="hierdiff.questions.noise:NOISE",
        asks="At which noise levels and heights are networks wrong? And which part of it depends on their data?",
        presets={
            "smoke": NoiseConfig(sequences=100, levels=(0.1, 0.3)),
            "laptop": NoiseConfig(),
            "paper": NoiseConfig(sequences=4000),
        },
        of="run",
        pictures=("noise", "heights_and_noise"),
        minutes=2.0,
    ),
    "neighbours": Entry(
        module="hierdiff.questions.samples:NEIGHBOURS",
        asks="Do networks generate near their own training set? Nearer than to another's, and since when?",
        presets={
            "smoke": NeighboursConfig(samples=200, reverse_steps=10),
            "laptop": NeighboursConfig(),
            "paper": NeighboursConfig(samples=50_000, reverse_steps=500),
        },
        of="run",
        pictures=("samples",),
        minutes=1.5,
    ),
    "copying": Entry(
        module="hierdiff.questions.copying:COPYING",
        asks="How much of its training set does a network generate? With few reverse steps, and with many.",
        presets={
            "smoke": CopyingConfig(samples=200, reverse_steps=(4, 8)),
            "laptop": CopyingConfig(),
            "paper": CopyingConfig(samples=50_000, reverse_steps=(10, 50, 500)),
        },
        of="run",
    ),
    "membership": Entry(
        module="hierdiff.questions.membership:MEMBERSHIP",
        asks="Can one tell what a network was trained on? From its loss, beside the exact one, beside those of other "
        "networks; since which step?",
        presets={
            "smoke": MembershipConfig(targets=200, others=400, draws=4, references=2, published=True),
            "laptop": MembershipConfig(others=20_000, references=8, published=True),
            "paper": MembershipConfig(targets=10_000, others=100_000, draws=16, references=8, published=True),
        },
        of="run",
        pictures=("memorization", "attacks"),
        minutes=2.5,
    ),
    "private": Entry(
        module="hierdiff.questions.training",
        asks="What does privacy cost? The run by DP-SGD, with canaries for an audit.",
        presets=PRIVATE,
        of="training",
        world="hierdiff.worlds.sequences:Sequences",
        minutes=7.0,
    ),
    "audit": Entry(
        module="hierdiff.questions.audit:AUDIT",
        asks="What does a run give away for certain? A lower bound on epsilon, by canaries, beside the upper one.",
        presets={"smoke": AuditConfig(draws=4), "laptop": AuditConfig()},
        of="run",
        training="private",
        minutes=0.5,
    ),
    "first": Entry(
        module="hierdiff.questions.first:FIRST",
        asks="Which training sequences are memorized first? Typical ones or isolated ones, by height; and how much "
        "sooner those that are in the set several times.",
        presets={
            "smoke": FirstConfig(targets=200, draws=4),
            "laptop": FirstConfig(),
            "paper": FirstConfig(targets=4000, draws=16),
        },
        of="run",
        pictures=("first",),
        minutes=1.5,
    ),
    "losses": Entry(
        module="hierdiff.questions.losses:LOSSES",
        asks="What is a training loss made of? What the network lacks of the exact posterior, and what it knows of the"
        " sequence.",
        presets={"smoke": LossesConfig(targets=200), "laptop": LossesConfig(), "paper": LossesConfig(targets=4000)},
        of="run",
        pictures=("losses",),
        minutes=0.6,
    ),
    "uturn": Entry(
        module="hierdiff.questions.uturn:UTURN",
        asks="How much of a sequence comes back from noise? It is noised to level t and reversed, with a network and "
        "with the exact score.",
        presets={
            "smoke": UTurnConfig(starts=100, turns=(0.2, 0.4), reverse_steps=10),
            "laptop": UTurnConfig(),
            "paper": UTurnConfig(starts=5000, turns=(0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7), reverse_steps=500),
        },
        of="run",
        pictures=("uturns", "random_strings", "other_sizes"),
        minutes=2.3,
    ),
    "trajectories": Entry(
        module="hierdiff.questions.trajectories:TRAJECTORIES",
        asks="Do networks lean where they go themselves? They are measured on what they make of noise in reverse "
        "diffusion, beside held-out sequences.",
        presets={
            "smoke": TrajectoriesConfig(sequences=100, levels=(0.15, 0.3), reverse_steps=10),
            "laptop": TrajectoriesConfig(),
            "paper": TrajectoriesConfig(sequences=4000),
        },
        of="run",
        pictures=("trajectories",),
        minutes=1.2,
    ),
    "labels": Entry(
        module="hierdiff.questions.training",
        asks="What do labels change? The default run with networks that are told the root of a sequence, or not.",
        presets={preset: dataclasses.replace(config, labels=LABELS) for preset, config in ONSET.items()},
        of="training",
        world="hierdiff.worlds.sequences:Sequences",
        minutes=6.0,
    ),
    "guidance": Entry(
        module="hierdiff.questions.guidance:GUIDANCE",
        asks="Does guidance make networks lean on their sample? A run with labels, at every weight, beside what "
        "guidance makes of the exact model.",
        presets={
            "smoke": GuidanceConfig(sequences=100, levels=(0.15,), weights=(0.0, 2.0), samples=100, reverse_steps=8),
            "laptop": GuidanceConfig(),
            "paper": GuidanceConfig(sequences=4000, samples=5000, reverse_steps=500),
        },
        of="run",
        training="labels",
        pictures=("guidance", "guided_samples"),
        minutes=4.0,
    ),
    "sweep": Entry(
        module="hierdiff.questions.sweep",
        asks="How do the landmarks move with an option? The run at every combination of some values, and the laws.",
        presets={preset: SweepConfig(over=(as_many_epochs(ONSET[preset], *sizes),)) for preset, sizes in SIZES.items()},
        of="runs",
        pictures=("laws", "phases", "windows"),
        album="hierdiff.pictures.laws",
        minutes=65.0,
    ),
    "stopping": Entry(
        module="hierdiff.questions.stopping",
        asks="What does it cost to stop late? Rules that need no oracle, compared where each of them stops.",
        presets={
            "smoke": StoppingConfig(seeds=(0, 1), sizes=(200,), train_epochs=192, epochs=50),
            "laptop": StoppingConfig(),
            "paper": StoppingConfig(sizes=(5000, 12_000), train_epochs=30_000),
        },
        of="runs",
        pictures=("stopping",),
        minutes=20.0,
    ),
    "remedies": Entry(
        module="hierdiff.questions.remedies",
        asks="What does it cost to keep the sample? Remedies against memorization, by exact excess loss and by what is "
        "given away.",
        presets={
            "smoke": RemediesConfig(
                remedies=("weight-decay=1",), seeds=(0, 1), size=200, train_epochs=192, excess=(1.0, 0.7)
            ),
            "laptop": RemediesConfig(),
            "paper": RemediesConfig(size=5000, train_epochs=30_000),
        },
        of="runs",
        pictures=("remedies",),
        minutes=60.0,
    ),
    "processes": Entry(
        module="hierdiff.questions.processes",
        asks="Do networks copy more under masking or uniform noise? More, that is, of their training sets than under "
        "Gaussian noise.",
        presets=dict.fromkeys(("smoke", "laptop", "paper"), ProcessesConfig()),
        of="runs",
        pictures=("processes", "copies"),
        minutes=20.0,
    ),
    "pool": Entry(
        module="hierdiff.questions.training",
        asks="How much do landmarks differ between draws of data? Many small networks, of which calibration draws "
        "experiments.",
        presets=POOL,
        of="training",
        world="hierdiff.worlds.sequences:Sequences",
        minutes=15.0,
    ),
    "calibration": Entry(
        module="hierdiff.questions.calibration",
        asks="How often do the intervals hold the truth? And how often is a minimum claimed where there is none?",
        presets={"smoke": CalibrationConfig(experiments=12), "laptop": CalibrationConfig()},
        of="run",
        training="pool",
        minutes=30.0,
    ),
    "images": Entry(
        module="hierdiff.questions.training",
        asks="When do networks on different images begin to part? And how much does each lean to its own training "
        "images? Without --data-dir the images are those of Fashion-MNIST.",
        presets=IMAGES,
        of="training",
        world="hierdiff.worlds.images:Images",
        then=("samples",),
        pictures=("image_training", "image_noise", "image_scales"),
        minutes=17.0,
    ),
    "samples": Entry(
        module="hierdiff.questions.samples:SAMPLES",
        asks="Do networks generate images that lie near their own? Nearer to their own training images than to "
        "others'.",
        presets={preset: config.samples for preset, config in IMAGES.items()},
        of="run",
        training="images",
        pictures=("image_samples",),
    ),
    "attribution": Entry(
        module="hierdiff.questions.attribution",
        asks="Which training sequences make what a network shows? And which method tells it, judged by networks that "
        "are retrained without some of them.",
        presets={
            "smoke": AttributionConfig(
                size=64,
                steps=100,
                batch=32,
                checkpoints=4,
                held_out=100,
                targets=6,
                draws=8,
                subsets=20,
                left_out=(0.5, 0.1, 0.02),
                alone=9,
                projections=128,
                grammar=GrammarConfig(depth=2),
                network=TreeConfig(width=16),
            ),
            "laptop": AttributionConfig(network=TreeConfig(width=24)),
            "paper": AttributionConfig(
                size=1000,
                steps=10_000,
                batch=128,
                held_out=800,
                targets=100,
                grammar=GrammarConfig(),
                network=TreeConfig(width=48),
            ),
        },
        plans=True,
        pictures=("attribution",),
        minutes=5.0,
    ),
    "data": Entry(
        module="hierdiff.questions.data",
        asks="What data would a run see? Sequences and exact posteriors as files, for a training elsewhere.",
        presets={
            preset: DataConfig(
                sets=config.sets, size=config.size, held_out=config.measure.held_out, grammar=config.grammar
            )
            for preset, config in ONSET.items()
        },
    ),
    "other_models": Entry(
        module="hierdiff.questions.other_models",
        asks="How does a model fare that is not hierdiff's? Random features, trained by gradient descent, in plain "
        "NumPy.",
        presets={"laptop": OtherConfig()},
    ),
    "benchmark": Entry(
        module="hierdiff.questions.benchmark",
        asks="How fast is it on this machine? The exact posterior, reverse diffusion and a training step, and what "
        "they need.",
        presets={preset: Both(training=config, own=BenchmarkConfig()) for preset, config in ONSET.items()},
    ),
}
