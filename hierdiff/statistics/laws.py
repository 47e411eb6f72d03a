"""Power laws of landmarks: step = c P^b, over runs of several grammars and several sizes P of the training sets.

Each run has its own error of log(step). Beside it two things spread: a grammar moves all its landmarks by one factor,
which is free, as three grammars tell no variance; and runs vary further, by as much as the scatter about the law says.
The errors of the runs, with that spread, say how much each weighs, and the scatter alone how wide the intervals are
(as Knapp and Hartung, Statistics in Medicine 22:2693, 2003, for random effects of few studies). A landmark that is not
reached is known to lie beyond the end of its run: such a run enters with the tail of the normal law.
"""

import dataclasses
import math
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtri, stdtrit

from hierdiff.statistics.landmarks import Landmark, nowhere

# A law is asked of so many values of the option at least, at which the landmark is reached.
VALUES = 3
# The variance of log(step) below which nothing is told apart: that of the places at which curves are fitted.
ROUNDING = 0.01**2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """Where a landmark lies in one run: of a `grammar`, with the `value` of the option that is swept.

    It is `reached` at `step`, with its 95% interval, of which an end is open (0 or inf) or not estimated (nan); or it
    comes `later` than `step`, as far as the run tells, or `earlier`.
    """

    value: float
    grammar: Hashable
    step: float
    low: float = math.nan
    high: float = math.nan
    state: Literal["reached", "later", "earlier"] = "reached"

    @property
    def reached(self) -> bool:
        return self.state == "reached"

    @property
    def error(self) -> float:
        """The standard error of log(step), from the ends that are not open; nan where there are none."""
        ends = [abs(math.log(end / self.step)) for end in (self.low, self.high) if 0 < end < math.inf]
        return float(np.mean(ends) / ndtri(0.975)) if ends and self.reached else math.nan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """A censored regression: its coefficients, their covariance, and how many degrees of freedom this has."""

    value: Float[np.ndarray, " coefficients"]
    covariance: Float[np.ndarray, "coefficients coefficients"]
    freedom: int

    def half_width(self, at: Float[np.ndarray, "*at coefficients"]) -> np.ndarray:
        """Half the width of the 95% intervals of sums of the coefficients."""
        return np.asarray(stdtrit(self.freedom, 0.975) * np.sqrt(np.einsum("...i,ij,...j", at, self.covariance, at)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Law:
    """The exponent of a power law with its 95% interval, and the law itself at some values: its step, low and high.

    The band is that of the mean law of these grammars. Where it is not estimated, `why` says so and all else is nan.
    """

    exponent: float = math.nan
    low: float = math.nan
    high: float = math.nan
    line: tuple[tuple[float, float, float, float], ...] = ()
    why: str = ""

    def compatible(self, exponent: float) -> bool:
        """Whether the interval holds an exponent."""
        return self.low <= exponent <= self.high


def power_law(readings: Sequence[Reading], places: int = 17) -> Law:
    """The power law of a landmark, with the exponent as it is within each grammar."""
    there = {reading.grammar for reading in readings if reading.reached}
    used = [reading for reading in readings if reading.grammar in there]
    reached = [reading for reading in used if reading.reached]
    values = sorted({reading.value for reading in reached})
    if len(values) < VALUES:
        return Law(why=f"reached at {len(values)} values, needs {VALUES}")
    if len(reached) <= len(there) + 1:
        return Law(why="no more runs have reached it than the law has numbers")
    grammars = sorted(there, key=str)
    middle = float(np.mean(np.log(values)))
    slope = np.log([reading.value for reading in used]) - middle
    offsets = np.array([[reading.grammar == grammar for grammar in grammars] for reading in used], float)
    design = np.column_stack([slope, offsets])
    if np.linalg.matrix_rank(design[[reading.reached for reading in used]]) < design.shape[1]:
        return Law(why="no grammar has reached it at several values")
    fit, low, high = _regression(design, used, 0)
    at = np.geomspace(values[0], values[-1], places)
    sums = np.column_stack([np.log(at) - middle, np.full((places, len(grammars)), 1 / len(grammars))])
    level, half = sums @ fit.value, fit.half_width(sums)
    line = np.exp(np.stack([np.log(at), level, level - half, level + half], 1))
    return Law(exponent=float(fit.value[0]), low=low, high=high, line=tuple(map(tuple, line.tolist())))


def means(readings: Sequence[Reading]) -> dict[float, Landmark]:
    """The mean of log(step) over the runs at each value, as a step; how far runs spread is the same at all values.

    Where one run at each value has reached it, that is its own interval. Where none has, it is not located, but
    `from_start` where all are earlier.
    """
    there = sorted({reading.value for reading in readings if reading.reached})
    used = [reading for reading in readings if reading.value in there]
    reached = [reading for reading in used if reading.reached]
    found = {
        value: nowhere(from_start=all(each.state == "earlier" for each in readings if each.value == value))
        for value in sorted({reading.value for reading in readings})
    }
    if len(reached) == len(there):
        known = {each.value: (each.step, each.low, each.high) for each in reached}
    else:
        design = np.array([[reading.value == value for value in there] for reading in used], float)
        fits = [_regression(design, used, column) for column in range(len(there))]
        known = {
            value: np.exp([fit.value[column], *ends]).tolist()
            for column, (value, (fit, *ends)) in enumerate(zip(there, fits, strict=True))
        }
    return found | {
        value: Landmark(step, low, high, math.nan, not math.isnan(low), False)
        for value, (step, low, high) in known.items()
    }


def ends_of_phases(begins: Sequence[float]) -> list[float]:
    """Where each phase ends, of phases in order, of which all but the first begin at a step each.

    Where several hold, the last counts: a phase that begins after a later one never comes, and ends where that begins.
    """
    return [min(begins[number:]) for number in range(len(begins))]


def _regression(design: np.ndarray, readings: Sequence[Reading], column: int) -> tuple[Fit, float, float]:
    """The regression of log(step), and the 95% interval of one coefficient, by its profile likelihood.

    The likelihood ratio is held against what it is where Student's t is at its quantile: without censored readings the
    interval is Student's.
    """
    log_steps = np.log([reading.step for reading in readings])
    side = np.array([{"reached": 0, "later": 1, "earlier": -1}[reading.state] for reading in readings])
    scale = np.sqrt(_variances(design, log_steps, side == 0, np.array([reading.error for reading in readings])))
    x, y = design / scale[:, None], log_steps / scale
    number, columns = int((side == 0).sum()), design.shape[1]
    best, top, curvature = _maximum(x, y, side)
    coefficients, width = best[:-1] / best[-1], 1 / best[-1]
    freedom = number - columns
    covariance = width**2 * number / freedom * np.linalg.inv(curvature[:-1, :-1])
    fit = Fit(value=coefficients, covariance=covariance, freedom=freedom)
    allowed = 0.5 * number * math.log1p(stdtrit(freedom, 0.975) ** 2 / freedom)

    def beyond(value):
        return top - allowed - _maximum(np.delete(x, column, 1), y - value * x[:, column], side)[1]

    def end(sign: int) -> float:
        step = sign * float(fit.half_width(np.eye(columns)[column]))
        for far in 2.0 ** np.arange(12):
            if beyond(coefficients[column] + far * step) > 0:
                before = coefficients[column] + (far / 2 if far > 1 else 0) * step
                found: Any = brentq(beyond, before, coefficients[column] + far * step, xtol=1e-4 * abs(step))
                return float(found)
        return sign * math.inf

    return fit, end(-1), end(1)


def _variances(design: np.ndarray, log_steps: np.ndarray, reached: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """What each run's variance is in proportion to: that of its own error, and how far runs spread beside.

    The spread is what the scatter about a plain fit has beyond the runs' errors (Hedges and Olkin, Statistical methods
    for meta-analysis, 1985). A run without a known error has the median of the others'.
    """
    known = np.isfinite(errors)
    middle = float(np.median(errors[known])) if known.any() else 0.0
    own = np.where(known, errors, middle) * middle
    hat = design[reached] @ np.linalg.pinv(design[reached])
    residual = log_steps[reached] - hat @ log_steps[reached]
    freedom = reached.sum() - design.shape[1]
    spread = (np.square(residual).sum() - own[reached] @ (1 - np.diag(hat))) / freedom
    return own + max(float(spread), 0.0) + ROUNDING


def _maximum(
    x: Float[np.ndarray, "runs coefficients"], y: Float[np.ndarray, " runs"], side: Int[np.ndarray, " runs"]
) -> tuple[np.ndarray, float, np.ndarray]:
    """Where the likelihood of a censored regression is largest: coefficients / width and 1 / width, it, its curvature.

    In these parameters its logarithm is concave (Olsen, Econometrica 46:1211, 1978). The width cannot fall below a
    share of a thousandth of what the runs' variances say.
    """
    rows, number = np.column_stack([-x, y]), int((side == 0).sum())

    def terms(parameters):
        z, inverse_width = rows @ parameters, parameters[-1]
        tail = np.where(side == 0, 0.0, -side * z)
        log_tail = log_ndtr(tail)
        mills = np.exp(-0.5 * tail**2 - 0.5 * math.log(2 * math.pi) - log_tail)
        value = np.where(side == 0, -0.5 * z**2, log_tail).sum() + number * math.log(inverse_width)
        slope = rows.T @ np.where(side == 0, -z, -side * mills)
        curvature = (rows.T * np.where(side == 0, 1.0, mills * (tail + mills))) @ rows
        slope[-1] += number / inverse_width - number * inverse_width * 1e-6
        curvature[-1, -1] += number / inverse_width**2 + number * 1e-6
        return value - 0.5e-6 * number * inverse_width**2, slope, curvature

    reached = side == 0
    start = np.linalg.lstsq(x[reached], y[reached], rcond=None)[0]
    width = max(float(np.sqrt(np.mean(np.square(y[reached] - x[reached] @ start)))), 1e-3)
    parameters = np.append(start, 1.0) / width
    value, slope, curvature = terms(parameters)
    for _ in range(100):
        move = np.linalg.solve(curvature, slope)
        gain = float(slope @ move)
        if gain < 1e-10:
            break
        length = 1.0
        while length > 1e-8:
            there = parameters + length * move
            if there[-1] > 0:
                found = terms(there)
                if found[0] >= value + 0.25 * length * gain:
                    parameters, (value, slope, curvature) = there, found
                    break
            length /= 2
        else:
            break
    return parameters, float(value), curvature
