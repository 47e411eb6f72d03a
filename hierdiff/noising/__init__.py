"""Noise: processes that take tokens to states x_t at levels t = 1..T, and back."""

from hierdiff.noising.discrete import Masking, Uniform
from hierdiff.noising.gaussian import Gaussian, corrupt, leaf_log_likelihood, linear_schedule, score
from hierdiff.noising.process import Denoiser, Process
from hierdiff.noising.reverse import respaced, reverse, u_turn

# The processes that a run may be asked for, by name.
PROCESSES: dict[str, type] = {each.name: each for each in (Gaussian, Masking, Uniform)}

__all__ = [
    "PROCESSES",
    "Denoiser",
    "Gaussian",
    "Masking",
    "Process",
    "Uniform",
    "corrupt",
    "leaf_log_likelihood",
    "linear_schedule",
    "respaced",
    "reverse",
    "score",
    "u_turn",
]
