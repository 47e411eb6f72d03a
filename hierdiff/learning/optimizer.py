"""The optimizer, its learning rate, and the power of the weights' average."""

import pkgutil

import numpy as np
import optax

from hierdiff.learning.train_config import OPTIMIZERS, TrainConfig


def optimizer(config: TrainConfig, size: int) -> optax.GradientTransformation:
    """The one that `config` names, at its learning rate; an epoch is `size / batch` steps."""
    make = OPTIMIZERS[config.optimizer]
    return (pkgutil.resolve_name(make) if isinstance(make, str) else make)(learning_rate(config, size))


def learning_rate(config: TrainConfig, size: int) -> optax.Schedule:
    if config.decay == "constant":
        return optax.constant_schedule(config.learning_rate)
    ramp = max(1, min(round(50 * size / config.batch), config.steps - 1))
    linear = optax.linear_schedule(config.learning_rate, 0.5 * config.learning_rate, ramp)
    cosine = optax.cosine_decay_schedule(0.5 * config.learning_rate, max(1, config.steps - ramp), alpha=0.2)
    return optax.join_schedules([linear, cosine], [ramp])


def average_exponent(width: float) -> float:
    """The power p of the average that keeps `(1 - 1/i)**p` at step i, for a relative width (arXiv 2312.02696)."""
    if width == 0:
        return float("inf")
    return float(np.roots([1, 7, 16 - width**-2, 12 - width**-2]).real.max()) + 1
