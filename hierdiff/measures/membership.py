"""Membership inference: how well the loss of a sequence tells whether the network was trained on it.

Members belong to a data set, and vary with it; the others are the same for all networks, and are what is in groups.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from hierdiff.errors import require
from hierdiff.statistics.groups import group_sizes, in_groups


def area_under_curve(
    members: Float[np.ndarray, " a"], others: Float[np.ndarray, " b"], *, groups: int
) -> Float[np.ndarray, " groups"]:
    """The area under the ROC curve of a score, as one value for each group of others.

    Their mean is the area: P(score of a member > that of another), ties counting half. Their spread is that of the
    others alone; that of the members shows where one data set is left out.
    """
    require(len(members) >= 1, "members", len(members), "at least 1")
    require(len(others) >= groups, "others", len(others), f"at least {groups}, one in each group")
    a = len(members)
    ranks = rankdata(np.concatenate([members, others]))
    below = 1 - (ranks[a:] - rankdata(others)) / a
    return in_groups(below, groups)


class Highest(NamedTuple):
    """The others with the highest scores, from the highest on: their groups, and what share of members lies above each.

    `n` is the number of all others.
    """

    group: Int[np.ndarray, " highest"]
    hits: Float[np.ndarray, " highest"]
    n: int


def highest_others(
    members: Float[np.ndarray, " a"], others: Float[np.ndarray, " b"], most: int, *, groups: int
) -> Highest:
    """The `most` others, or all, that are nearest to be taken for members."""
    require(len(members) >= 1, "members", len(members), "at least 1")
    order = np.argsort(-others)[:most]
    group = np.repeat(np.arange(groups), group_sizes(len(others), groups))[order]
    hits = 1 - np.searchsorted(np.sort(members), others[order], side="right") / len(members)
    return Highest(group, hits, len(others))


def true_positive_rate(
    highest: Highest, weight: Float[np.ndarray, "R groups"], *, false_positive_rate: float
) -> Float[np.ndarray, " R"]:
    """The share of members whose score lies above a threshold that this share of others is expected to pass.

    In each replicate the groups of others have the weights of one row. It is nan with too few others: above the highest
    of n lies 1 / (n + 1) of all.
    """
    n, hits = highest.n, highest.hits
    # Above the k-th highest of n lies k / (n + 1) of all, on average; between two ranks the rate is interpolated.
    rank = false_positive_rate * (n + 1)
    first = math.floor(rank + 1e-9)
    if first == 0:
        return np.full(len(weight), np.nan)
    each = weight * (n / (weight @ group_sizes(n, weight.shape[1])))[:, None]
    count = np.cumsum(each[:, highest.group], axis=1)
    # Of a replicate that has drawn too few of the highest, the threshold is the last of them.
    count[:, -1] = np.inf
    at_first, at_next = (hits[np.argmax(count > k - 1e-9 * n, axis=1)] for k in (first, first + 1))
    return at_first + (rank - first) * (at_next - at_first)
