"""Noise: processes that take tokens to states x_t at levels t = 1..T, and back."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hierdiff.noising.levels import LEAST_GAUSSIAN

if TYPE_CHECKING:
    from hierdiff.noising.discrete import Masking, Uniform
    from hierdiff.noising.gaussian import Gaussian, corrupt, leaf_log_likelihood, linear_schedule, score
    from hierdiff.noising.guidance import Guidance, guided
    from hierdiff.noising.process import Denoiser, GuidedMean, Process
    from hierdiff.noising.reversal import respaced, reverse, u_turn

__all__ = [
    "PROCESSES",
    "Denoiser",
    "Gaussian",
    "Guidance",
    "GuidedMean",
    "Masking",
    "Process",
    "Uniform",
    "corrupt",
    "guided",
    "leaf_log_likelihood",
    "linear_schedule",
    "respaced",
    "reverse",
    "score",
    "u_turn",
]


def __getattr__(name: str):
    # All of these import JAX; what options are made of does not.
    for module in ("gaussian", "discrete", "process", "guidance", "reversal"):
        if name in __all__ and hasattr(found := importlib.import_module(f"{__name__}.{module}"), name):
            return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named:
    """What is known of a process before it is imported; called, it makes one, as the class does.

    `defaults` are options of a run, by their names, that this noise changes where they are not given.
    """

    where: str
    least_levels: int = 1
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self, **sizes: Any) -> Any:
        return pkgutil.resolve_name(self.where)(**sizes)


# The processes that a run may be asked for, by name: each of these, or a class that may have `defaults`.
PROCESSES: dict[str, Any] = {
    "gaussian": Named(where="hierdiff.noising.gaussian:Gaussian", least_levels=LEAST_GAUSSIAN),
    # Of the default grammar, a mask rate of 0.4 leaves as many bits as t/T = 0.15 does under Gaussian noise.
    "masking": Named(
        where="hierdiff.noising.discrete:Masking",
        defaults={"noise": (0.1, 0.2, 0.4, 0.6, 0.8, 0.9), "onset_noise": 0.4, "slope_noise": 0.8},
    ),
    # Here 0.2 does.
    "uniform": Named(
        where="hierdiff.noising.discrete:Uniform",
        defaults={"noise": (0.02, 0.1, 0.2, 0.4, 0.6, 0.8), "onset_noise": 0.2},
    ),
}
