"""hierdiff: where biased generalization sets in, by diffusion networks on hierarchical data and their exact scores."""

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hierdiff import compare
    from hierdiff.adapters import torch_denoiser
    from hierdiff.compare import Comparison
    from hierdiff.errors import OptionError
    from hierdiff.grammar import (
        Grammar,
        grammar_from_rules,
        grammar_from_tensor,
        load_grammar,
        random_grammar,
        save_grammar,
    )
    from hierdiff.layouts import as_tokens
    from hierdiff.noising import Gaussian, Masking, Process, Uniform, respaced, reverse, u_turn
    from hierdiff.posterior import (
        check_data,
        class_posterior,
        exact_denoiser,
        leaf_posterior,
        log_evidence,
        memorizer,
        node_posteriors,
        window_posterior,
    )
    from hierdiff.sampling import complete, posterior_sample, sample

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "Gaussian",
    "Grammar",
    "Masking",
    "OptionError",
    "Process",
    "Uniform",
    "as_tokens",
    "check_data",
    "class_posterior",
    "compare",
    "complete",
    "exact_denoiser",
    "grammar_from_rules",
    "grammar_from_tensor",
    "leaf_posterior",
    "load_grammar",
    "log_evidence",
    "memorizer",
    "node_posteriors",
    "posterior_sample",
    "random_grammar",
    "respaced",
    "reverse",
    "sample",
    "save_grammar",
    "torch_denoiser",
    "u_turn",
    "window_posterior",
]


def __getattr__(name: str):
    # What is heavy, JAX too, is imported when it is used: options are read without it.
    if name in _rooms():
        return importlib.import_module(f"hierdiff.{name}")
    for module in ("errors", "layouts", "grammar", "noising", "posterior", "sampling", "adapters", "compare"):
        if name in __all__ and hasattr(found := importlib.import_module(f"hierdiff.{module}"), name):
            return getattr(found, name)
    raise AttributeError(f"module 'hierdiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_rooms(), "__version__"})


def _rooms() -> set[str]:
    return {module.name for module in pkgutil.iter_modules(__path__)} - {"__main__"}
