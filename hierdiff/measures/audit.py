"""A lower bound on epsilon from one training, by canaries that fair coins included (arXiv 2305.08846).

Whoever guesses the coins from what came of the training guesses no better than epsilon allows. Samples of an ordinary
training set were included by no coin, and prove nothing.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom

from hierdiff.errors import require

# Shares of the canaries of which it is guessed whether they were included; the others are left open.
SHARES = (0.02, 0.05, 0.1, 0.25, 1.0)


class Audited(NamedTuple):
    """A lower bound on epsilon, and the guesses that gave the highest: how many, and how many of them are right."""

    epsilon: float
    guesses: int
    right: int


def audit(
    score: Float[np.ndarray, " m"],
    included: Bool[np.ndarray, " m"],
    *,
    delta: float,
    confidence: float = 0.95,
    shares: tuple[float, ...] = SHARES,
) -> Audited:
    """The lower bound on epsilon of a mechanism that was given each of m canaries if a fair coin said so.

    Half of the guesses are that the canaries of the highest scores were included, half that those of the lowest were
    not. The best of several numbers of guesses counts, each at its share of what may go wrong (Bonferroni); a score may
    be whatever is made of the mechanism's output and the canaries, but not of the coins.
    """
    m = len(score)
    require(m >= 2, "canaries", m, "at least 2")
    order, wrong = np.argsort(-score, kind="stable"), (1 - confidence) / len(shares)

    def at(share: float) -> Audited:
        half = max(1, int(share * m / 2))
        right = int(included[order[:half]].sum() + (~included[order[m - half :]]).sum())
        return Audited(lower_bound(m, 2 * half, right, delta, 1 - wrong), 2 * half, right)

    return max(map(at, shares), key=lambda found: (found.epsilon, found.guesses))


@functools.cache
def lower_bound(canaries: int, guesses: int, right: int, delta: float, confidence: float) -> float:
    """The largest epsilon that so many right guesses refute, at this delta and confidence; 0 if they refute none.

    The number of guesses must not depend on the coins.
    """

    def above(epsilon: float) -> float:
        return p_value(canaries, guesses, right, epsilon, delta) - (1 - confidence)

    if above(0.0) >= 0:
        return 0.0
    high = 1.0
    while above(high) < 0:
        high *= 2
    epsilon: Any = brentq(above, 0.0, high)
    return float(epsilon)


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """At most the probability of so many right guesses or more, if the mechanism is (epsilon, delta)-private.

    It is that of as many guesses by randomized response, and what delta adds (arXiv 2305.08846, theorem 5.2).
    """
    chance = expit(epsilon)
    below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
    added = (below / np.arange(1, right + 1)).max(initial=0.0)
    return float(min(1.0, binom.sf(right - 1, guesses, chance) + 2 * canaries * delta * added))
