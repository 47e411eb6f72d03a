"""hierdiff: where biased generalization sets in, by diffusion networks on hierarchical data and their exact scores."""

import importlib
import importlib.metadata

from hierdiff.errors import OptionError
from hierdiff.grammar import Grammar, grammar_from_tensor, random_grammar
from hierdiff.noising import Gaussian, Masking, Process, Uniform, respaced, reverse, u_turn
from hierdiff.posterior import (
    exact_denoiser,
    leaf_posterior,
    log_evidence,
    memorizer,
    node_posteriors,
    window_posterior,
)
from hierdiff.sampling import complete, sample

__version__ = importlib.metadata.version("hierdiff")
__all__ = [
    "Gaussian",
    "Grammar",
    "Masking",
    "OptionError",
    "Process",
    "Uniform",
    "complete",
    "exact_denoiser",
    "grammar_from_tensor",
    "leaf_posterior",
    "log_evidence",
    "memorizer",
    "node_posteriors",
    "random_grammar",
    "respaced",
    "reverse",
    "sample",
    "u_turn",
    "window_posterior",
]


def __getattr__(name: str):
    # What it imports takes longer than all the rest.
    if name == "compare":
        return importlib.import_module("hierdiff.compare")
    raise AttributeError(f"module 'hierdiff' has no attribute {name!r}")
