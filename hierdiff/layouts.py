"""Sequences as others keep them: integers, or one-hot with the symbols on either axis."""

from typing import Literal

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from hierdiff.errors import OptionError, require
from hierdiff.noising.process import require_range


def as_tokens(
    data: ArrayLike, vocab: int, *, symbols: Literal["last", "first"] | None = None, name: str = "data"
) -> Int[np.ndarray, "n L"]:
    """The symbols of sequences: of integers `(n, L)`, or of one-hot rows, `(n, L, v)` or `(n, v, L)`.

    Where L = v, both may fit: then it is the content that tells, for one axis alone has a single 1 in each row. Where
    it does not, `symbols` says whether they are on the last axis of a sample or on the first.

    Raises:
      ValueError: they are something else: soft, of other symbols, or both would fit.

    Examples:
      >>> hd.as_tokens(np.array([[[0, 1, 0], [0, 0, 1]]]), 3)
      array([[1, 2]])
    """
    x = np.asarray(data)
    if x.ndim == 2 and np.issubdtype(x.dtype, np.integer):
        require(len(x) >= 1, name, x.shape, "at least one sequence")
        require_range(name, x, vocab - 1)
        return x
    need = f"integers (n, L), or one-hot rows (n, L, {vocab}) or (n, {vocab}, L)"
    require(x.ndim == 3 and vocab in x.shape[1:] and len(x) >= 1, name, f"{x.dtype} {x.shape}", need)
    hard = bool(((x == 0) | (x == 1)).all())
    got = f"numbers from {x.min():.4g} to {x.max():.4g}"
    require(hard, name, got, "symbols: one-hot rows of 0 and 1, or integers; soft ones have none")
    axes = {"last": 2, "first": 1}
    fit = [side for side, axis in axes.items() if x.shape[axis] == vocab and bool((x.sum(axis) == 1).all())]
    if symbols is not None:
        require(symbols in fit, name, f"{x.shape} with symbols={symbols!r}", "a single 1 in each row of that axis")
        fit = [symbols]
    if not fit:
        raise OptionError(name, f"{x.shape}", f"a single 1 in each row of {vocab} symbols")
    both = f"{x.shape}, one-hot along both axes"
    require(len(fit) == 1, name, both, "as_tokens(..., symbols='last') or symbols='first', which says where they are")
    return x.argmax(axes[fit[0]])
