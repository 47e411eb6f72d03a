"""Groups of test sequences, over which measurements are means, and which a bootstrap resamples."""

from typing import Any

import numpy as np
from jaxtyping import Array

from hierdiff.errors import require

# Measurements are kept as means over so many groups of sequences, which are what a bootstrap resamples.
GROUPS = 50


def require_groups(name: str, sequences: int, *, each: int = 1) -> None:
    """Raise `OptionError` unless the sequences make groups of one size, of at least `each` sequences."""
    good = sequences >= each * GROUPS and sequences % GROUPS == 0
    require(good, name, sequences, f"a multiple of {GROUPS}, and at least {each * GROUPS}")


def in_groups(x: Array | np.ndarray) -> Any:
    """Means over the groups of sequences, the last axis: `(..., n)` becomes `(..., groups)`."""
    return x.reshape(*x.shape[:-1], GROUPS, -1).mean(-1)
