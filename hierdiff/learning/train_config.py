"""How an ensemble is trained, and when it is measured."""

import dataclasses
from typing import Any, Literal

import numpy as np

from hierdiff.errors import option, require, require_counts

# The optimizers, by the names of their options: a function of the learning rate, or where it is found.
OPTIMIZERS: dict[str, Any] = {"adam": "optax.adam", "adamw": "optax.adamw", "sgd": "optax.sgd"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training."""

    steps: int = option(10_000, "training steps")
    batch: int = option(128, "samples in a batch, drawn with replacement")
    optimizer: str = option("adam", "what follows the gradient: adam, adamw, sgd, or one that has been added")
    learning_rate: float = option(1e-3, "the optimizer's learning rate at the start")
    decay: Literal["constant", "paper"] = option(
        "constant", "learning rate: constant, or the paper's (1 to 0.5 over 50 epochs, then cosine to 0.1)"
    )
    average_width: float = option(0.1, "width of the weights' average, as a share of the steps done (0: none)")
    checkpoints: int = option(32, "checkpoints, spaced evenly in log(step)")
    first_checkpoint: int = option(40, "step of the first checkpoint")
    snapshots: int = option(16, "checkpoints whose weights are kept, spread evenly over all (0: none)")

    def __post_init__(self):
        require(1 <= self.steps < 2**31, "steps", self.steps, "an integer from 1 to 2,147,483,647")
        require_counts(self, "batch")
        require(self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, f"one of {', '.join(OPTIMIZERS)}")
        require(0 < self.learning_rate < 1, "learning_rate", self.learning_rate, "a number between 0 and 1")
        # The average is of finite order only up to this width (arXiv 2312.02696, section 3.1).
        good = self.average_width == 0 or 1e-3 <= self.average_width < 0.28
        require(good, "average_width", self.average_width, "0, or a number from 0.001 to below 0.28")
        require(2 <= self.checkpoints <= 10_000, "checkpoints", self.checkpoints, "an integer from 2 to 10,000")
        require(self.snapshots >= 0, "snapshots", self.snapshots, "an integer of at least 0")
        need = f"an integer from 1 to below the number of steps, {self.steps}"
        require(1 <= self.first_checkpoint < self.steps, "first_checkpoint", self.first_checkpoint, need)

    def checkpoint_steps(self) -> list[int]:
        """The steps at which the ensemble is measured; the last is `steps`."""
        spaced = np.geomspace(self.first_checkpoint, self.steps, self.checkpoints)
        return sorted({int(step) for step in np.rint(spaced)})

    def snapshot_steps(self) -> list[int]:
        """The checkpoints whose weights are kept; the last is among them."""
        steps = self.checkpoint_steps()
        kept = np.rint(np.linspace(len(steps) - 1, 0, min(self.snapshots, len(steps)))).astype(int)
        return sorted(steps[i] for i in kept)
