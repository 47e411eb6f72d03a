"""Noise: processes that take tokens to states x_t at levels t = 1..T, and back."""

from hierdiff.noising.gaussian import (
    Gaussian,
    Schedule,
    corrupt,
    leaf_log_likelihood,
    linear_schedule,
    posterior_mean,
    score,
    score_factor,
)
from hierdiff.noising.process import Denoiser, Process
from hierdiff.noising.reverse import respaced, reverse, u_turn

# The processes that a run may be asked for, by name.
PROCESSES: dict[str, type] = {"gaussian": Gaussian}

__all__ = [
    "PROCESSES",
    "Denoiser",
    "Gaussian",
    "Process",
    "Schedule",
    "corrupt",
    "leaf_log_likelihood",
    "linear_schedule",
    "posterior_mean",
    "respaced",
    "reverse",
    "score",
    "score_factor",
    "u_turn",
]
