"""Groups of test sequences, over which measurements are means, and which a bootstrap resamples."""

from typing import Any

import numpy as np
from jaxtyping import Array, Int

from hierdiff.errors import require

# Measurements are kept as means over so many groups of sequences, which are what a bootstrap resamples.
GROUPS = 50


def require_groups(name: str, sequences: int, *, each: int = 1) -> None:
    """Raise `OptionError` unless the sequences make groups of one size, of at least `each` sequences."""
    good = sequences >= each * GROUPS and sequences % GROUPS == 0
    require(good, name, sequences, f"a multiple of {GROUPS}, and at least {each * GROUPS}")


def group_sizes(n: int, groups: int = GROUPS) -> Int[np.ndarray, " groups"]:
    """The sizes of the groups of n sequences in order: the first n % groups are one larger."""
    return n // groups + (np.arange(groups) < n % groups)


def in_groups(x: Array | np.ndarray, groups: int = GROUPS) -> Any:
    """Means over the groups of sequences, the last axis: `(..., n)` becomes `(..., groups)`.

    Where the sizes differ, a group's distance from the mean has the weight of its size, so that the mean over groups is
    that over sequences.
    """
    n = x.shape[-1]
    if n % groups == 0:
        return x.reshape(*x.shape[:-1], groups, -1).mean(-1)
    sizes = group_sizes(n, groups)
    member_of = np.repeat(np.arange(groups), sizes)[:, None] == np.arange(groups)
    mean = x.mean(-1, keepdims=True)
    return mean + (x - mean) @ member_of * (groups / n)
