"""How an ensemble is trained, and when it is measured."""

import dataclasses
import importlib.util
from typing import Any, Literal

import numpy as np

from hierdiff.errors import COUNTED, Options, option, require

# The optimizers, by the names of their options: a function of the learning rate, or where it is found.
OPTIMIZERS: dict[str, Any] = {
    "adam": "optax.adam",
    "adamw": "optax.adamw",
    "sgd": "optax.sgd",
    "smooth_adam": "hierdiff.learning.optimizer.smooth_adam",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyConfig(Options):
    """Privacy."""

    clip_each: float = option(
        0.0,
        "norm to which the gradient of each single sample is scaled down where it is larger, in batches drawn by "
        "Poisson sampling, for DP-SGD (0: ordinary training)",
        least=0,
        most=10**6,
    )
    epsilon: float = option(
        0.0,
        "of the (epsilon, delta)-differential privacy of the whole training, from which the noise on the gradients "
        "follows (0: no noise, and no privacy)",
        least=0.01,
        most=100,
        also=(0,),
    )
    delta: float = option(1e-5, "of the same, below one in as many as there are samples", above=0, below=0.1)
    draws_each: int = option(
        1,
        "draws of noise and level of each sample, whose mean gradient is clipped (arXiv 2210.09929)",
        least=1,
        most=1000,
    )

    def __post_init__(self):
        super().__post_init__()
        for name, without in (("epsilon", 0), ("draws_each", 1)):
            value = getattr(self, name)
            require(self.clip_each > 0 or value == without, name, value, f"--clip-each above 0, or {without}")

    def require_installed(self) -> None:
        """Raise `OptionError` where what DP-SGD takes is not installed."""
        installed = all(importlib.util.find_spec(name) for name in ("jax_privacy", "dp_accounting"))
        need = "0, or an installation of jax-privacy and dp-accounting, which come with hierdiff[privacy]"
        require(installed or not self.clip_each, "clip_each", self.clip_each, need)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(Options):
    """Training."""

    steps: int = option(10_000, "training steps", least=2, most=COUNTED)
    batch: int = option(128, "samples in a batch, drawn with replacement", least=1, most=1_000_000)
    noise_draws: int = option(
        0,
        "fixed draws of the noise of each sample, one of which it has at any level; 0: fresh noise each time",
        least=0,
        most=10**6,
    )
    optimizer: str = option("adam", "what follows the gradient", among=OPTIMIZERS)
    learning_rate: float = option(1e-3, "the optimizer's learning rate at the start", above=0, below=1)
    warm_up: int = option(
        0, "first steps, over which the learning rate rises from nothing to this one", least=2, most=COUNTED, also=(0,)
    )
    decay: Literal["constant", "cosine", "paper"] = option(
        "constant",
        "learning rate, after the warm-up: constant, cosine to 0 at the last step, or the paper's (1 to 0.5 over 50 "
        "epochs, then cosine to 0.1)",
    )
    momentum: float = option(0.0, "share of its last direction that sgd keeps at each step", least=0, below=1)
    weight_decay: float = option(
        0.0,
        "share of every weight that a step takes away, in units of the learning rate (arXiv 1711.05101)",
        least=0,
        most=100,
    )
    clip: float = option(
        0.0, "norm to which a larger gradient of a batch is scaled down (0: none)", least=0, most=10**6
    )
    # The average is of finite order only up to this width (arXiv 2312.02696, section 3.1).
    average_width: float = option(
        0.1, "width of the weights' average, as a share of the steps done (0: none)", least=1e-3, below=0.28, also=(0,)
    )
    checkpoints: int = option(24, "checkpoints, spaced evenly in log(step)", least=2, most=10_000)
    first_checkpoint: int = option(40, "step of the first checkpoint, below the number of steps", least=1, most=COUNTED)
    snapshots: int = option(
        16, "checkpoints whose weights are kept, spread evenly over all (0: none)", least=0, most=10_000
    )
    privacy: PrivacyConfig = dataclasses.field(default_factory=PrivacyConfig)

    def __post_init__(self):
        super().__post_init__()
        first, below = self.first_checkpoint, f"to below the number of steps, {self.steps}"
        require(first < self.steps, "first_checkpoint", first, f"an integer from 1 {below}")
        require(self.warm_up < self.steps, "warm_up", self.warm_up, f"0, or an integer from 2 {below}")
        require(not self.momentum or self.optimizer == "sgd", "momentum", self.momentum, "--optimizer sgd, or 0")
        need = "0 with adamw, whose own is 0.0001; adam with another is AdamW too"
        require(not self.weight_decay or self.optimizer != "adamw", "weight_decay", self.weight_decay, need)
        need = "0 with --clip-each, where each sample has fresh noise: --draws-each of it"
        require(not (self.noise_draws and self.privacy.clip_each), "noise_draws", self.noise_draws, need)

    def checkpoint_steps(self) -> list[int]:
        """The steps at which the ensemble is measured; the last is `steps`."""
        spaced = np.geomspace(self.first_checkpoint, self.steps, self.checkpoints)
        return sorted({int(step) for step in np.rint(spaced)})

    def snapshot_steps(self) -> list[int]:
        """The checkpoints whose weights are kept; the last is among them."""
        steps = self.checkpoint_steps()
        kept = np.rint(np.linspace(len(steps) - 1, 0, min(self.snapshots, len(steps)))).astype(int)
        return sorted(steps[i] for i in kept)
