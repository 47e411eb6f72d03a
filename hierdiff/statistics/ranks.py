"""Ranks, whose mean products are Spearman's rank correlations."""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata


def standard_ranks(x: Float[np.ndarray, "*rows n"]) -> Float[np.ndarray, "*rows n"]:
    """Ranks along the last axis, with mean 0 and mean square 1; nan where all are alike."""
    ranks = np.asarray(rankdata(x, axis=-1), float)
    ranks -= ranks.mean(-1, keepdims=True)
    spread = ranks.std(-1, keepdims=True)
    return ranks / np.where(spread > 0, spread, np.nan)
