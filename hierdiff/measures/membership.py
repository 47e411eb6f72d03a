"""Membership inference: how well the loss of a sequence tells whether the network was trained on it."""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata


def area_under_curve(
    members: Float[np.ndarray, " a"], others: Float[np.ndarray, " b"], *, groups: int
) -> Float[np.ndarray, " groups"]:
    """The area under the ROC curve of a score, as one value for each group of members and of others.

    Their mean is the area: P(score of a member > that of another), ties counting half. Group g counts the placements of
    its own members among all others, and of its own others among all members, and so carries its part of the area's
    variance (DeLong et al., Biometrics 44:837, 1988).
    """
    a, b = len(members), len(others)
    ranks = rankdata(np.concatenate([members, others]))
    above = (ranks[:a] - rankdata(members)) / b
    below = 1 - (ranks[a:] - rankdata(others)) / a
    by_group = above.reshape(groups, -1).mean(1) + below.reshape(groups, -1).mean(1)
    return by_group - above.mean()


def true_positive_rate(
    members: Float[np.ndarray, " a"],
    others: Float[np.ndarray, " b"],
    weight: Float[np.ndarray, "R groups"],
    *,
    false_positive_rate: float,
) -> Float[np.ndarray, " R"]:
    """The share of members whose score lies above the threshold that this share of others passes.

    In each replicate the groups of members and of others have the weights of one row, in threshold and share alike.
    """
    groups = weight.shape[1]
    order = np.argsort(-others)
    group_of = np.repeat(np.arange(groups), len(others) // groups)[order]
    passed = np.cumsum(weight[:, group_of], axis=1) * groups / len(others)
    # The highest score that may not pass: that of the first other by which the share exceeds the rate.
    first = np.argmax(passed > false_positive_rate + 1e-9, axis=1)
    hits = members[None] > others[order][first][:, None]
    return (hits.reshape(len(weight), groups, -1).mean(2) * weight).sum(1)
