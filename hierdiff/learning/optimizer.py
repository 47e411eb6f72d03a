"""The optimizer, its learning rate, and the power of the weights' average."""

import pkgutil
from typing import Any

import numpy as np
import optax

from hierdiff.learning.train_config import OPTIMIZERS, TrainConfig


def optimizer(config: TrainConfig, size: int) -> optax.GradientTransformation:
    """The one that `config` names, at its learning rate; an epoch is `size / batch` steps.

    The gradient is clipped first. Weight decay, of all parameters, is decoupled from it (arXiv 1711.05101), and makes
    Adam AdamW; it takes the updates to be proportional to the learning rate.
    """
    named, rate = OPTIMIZERS[config.optimizer], learning_rate(config, size)
    make = pkgutil.resolve_name(named) if isinstance(named, str) else named
    made = make(rate)
    if config.weight_decay:
        decay = optax.add_decayed_weights(-config.weight_decay)
        made = optax.chain(make(optax.constant_schedule(1.0)), decay, optax.scale_by_schedule(rate))
    if config.momentum:
        made = optax.chain(optax.trace(config.momentum), made)
    if config.clip:
        made = optax.chain(optax.clip_by_global_norm(config.clip), made)
    return made


# What is added to the mean square of a gradient.
SMOOTH = 1e-8


def smooth_adam(rate: Any) -> optax.GradientTransformation:
    """Adam with eps_root above zero: its square root has a derivative at zero, so that a training has one too."""
    return optax.adam(rate, eps_root=SMOOTH)


def learning_rate(config: TrainConfig, size: int) -> optax.Schedule:
    """The learning rate at each step, counted from 0."""
    if not config.warm_up:
        return _after_warm_up(config, size)
    rising = optax.linear_schedule(config.learning_rate / config.warm_up, config.learning_rate, config.warm_up - 1)
    return optax.join_schedules([rising, _after_warm_up(config, size)], [config.warm_up])


def _after_warm_up(config: TrainConfig, size: int) -> optax.Schedule:
    rate, steps = config.learning_rate, config.steps - config.warm_up
    match config.decay:
        case "constant":
            return optax.constant_schedule(rate)
        case "cosine":
            return optax.cosine_decay_schedule(rate, steps)
    ramp = max(1, min(round(50 * size / config.batch), steps - 1))
    linear = optax.linear_schedule(rate, 0.5 * rate, ramp)
    cosine = optax.cosine_decay_schedule(0.5 * rate, max(1, steps - ramp), alpha=0.2)
    return optax.join_schedules([linear, cosine], [ramp])


def average_exponent(width: float) -> float:
    """The power p of the average that keeps `(1 - 1/i)**p` at step i, for a relative width (arXiv 2312.02696)."""
    if width == 0:
        return float("inf")
    return float(np.roots([1, 7, 16 - width**-2, 12 - width**-2]).real.max()) + 1
