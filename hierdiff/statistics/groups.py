"""Groups of test sequences, over which measurements are means, and which a bootstrap resamples."""

from typing import Any

import numpy as np
from jaxtyping import Int

from hierdiff.errors import require

# Measurements are kept as means over so many groups of sequences, which are what a bootstrap resamples.
GROUPS = 50


def require_groups(name: str, sequences: int, *, each: int = 1) -> None:
    """Raise `OptionError` unless the sequences make groups of at least `each` sequences."""
    require(sequences >= each * GROUPS, name, sequences, f"at least {each * GROUPS}")


def group_sizes(n: int, groups: int = GROUPS) -> Int[np.ndarray, " groups"]:
    """The sizes of the groups of n sequences in order: the first n % groups are one larger."""
    return n // groups + (np.arange(groups) < n % groups)


def split_groups(x: Any, groups: int, axis: int) -> list[Any]:
    """The groups of sequences along an axis, which becomes two, `(groups, size)`: one array for each of their sizes."""
    n = x.shape[axis]
    size, larger = divmod(n, groups)
    of_larger = larger * (size + 1)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    parts = ((0, of_larger, larger, size + 1), (of_larger, n, groups - larger, size))
    return [
        x[(*axis * (slice(None),), slice(start, end))].reshape(*before, number, each, *after)
        for start, end, number, each in parts
        if number
    ]


def in_groups(x: Any, groups: int = GROUPS) -> Any:
    """Means over the groups of sequences, the last axis: `(..., n)` becomes `(..., groups)`.

    Where the sizes differ, a group's distance from the mean has the weight of its size: the mean over groups is that
    over sequences, and varies under a bootstrap of groups, to first order, as that over the sequences drawn.
    """
    means = [of_size.mean(-1) for of_size in split_groups(x, groups, x.ndim - 1)]
    if len(means) == 1:
        return means[0]
    xp: Any = x.__array_namespace__()
    mean = x.mean(-1, keepdims=True)
    distance, sizes = xp.concatenate(means, -1) - mean, group_sizes(x.shape[-1], groups)
    weight = xp.asarray(sizes / sizes.mean(), dtype=distance.dtype)
    return mean + xp.broadcast_to(weight, distance.shape) * distance
