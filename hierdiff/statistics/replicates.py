"""Replicates of an experiment, over data sets and test sequences together, and the errors that they give."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy.special import stdtrit


@dataclasses.dataclass(frozen=True)
class Curve:
    """A curve along training, and what it is in each of R replicates of the experiment."""

    steps: Float[np.ndarray, " steps"]
    mean: Float[np.ndarray, " steps"]
    replicates: Float[np.ndarray, "R steps"]

    def at(self, step: float) -> "Curve":
        """The curve at one step, between checkpoints by a straight line in log(step); it may be nan elsewhere."""
        weight = np.array([[np.interp(np.log(step), np.log(self.steps), one)] for one in np.eye(len(self.steps))])
        near = weight[:, 0] != 0
        return Curve(np.array([step]), self.mean[near] @ weight[near], self.replicates[:, near] @ weight[near])

    @property
    def positive(self) -> bool:
        return bool((self.mean > 0).all() and (self.replicates > 0).all())

    def to_fit(self) -> "Curve":
        """Its logarithm, if it is positive: such a curve may fall over orders of magnitude."""
        return Curve(self.steps, np.log(self.mean), np.log(self.replicates)) if self.positive else self

    def part(self, part: slice) -> "Curve":
        """Some checkpoints of it."""
        return Curve(self.steps[part], self.mean[part], self.replicates[:, part])


@dataclasses.dataclass(frozen=True)
class Resampling:
    """Replicates of an experiment: each leaves data sets out, and draws the groups of test sequences anew.

    Replicate r leaves out the data sets `left_out[r]`: one and -1, two, or, of an experiment with two data sets, none.
    It gives group g the weight `weight[r, g]`. Each data set is left out with the same weights, so that leaving it out
    is all that differs, and two are with the mean of these weights.
    """

    left_out: Int[np.ndarray, "R 2"]
    weight: Float[np.ndarray, "R groups"]
    sets: int

    def means(self, x: Float[np.ndarray, "*shape unit groups"], sets_of: Int[np.ndarray, "unit _"]) -> np.ndarray:
        """Mean over units and groups in each replicate, `(R, *shape)`; unit u uses the data sets `sets_of[u]`."""
        means = np.empty((len(self.weight), *x.shape[:-2]))
        for left_out in np.unique(self.left_out, axis=0):
            kept = ~np.isin(sets_of, left_out).any(1)
            rows = (self.left_out == left_out).all(1)
            means[rows] = np.moveaxis(x[..., kept, :].mean(-2) @ self.weight[rows].T, -1, 0)
        return means

    def by_set(self, replicates: Float[np.ndarray, "R ..."]) -> Float[np.ndarray, "choices draws ..."]:
        """The replicates that leave out one data set (of two: none), in turn."""
        single = replicates[self.left_out[:, 1] < 0]
        choices = len(np.unique(self.left_out[:, 0]))
        return single.reshape(choices, len(single) // choices, *replicates.shape[1:])

    def variance(
        self, replicates: Float[np.ndarray, "R ..."], *, of_pairs: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Variance of a statistic over data sets (jackknife) and test sequences (bootstrap), and degrees of freedom.

        These are Satterthwaite's. What data sets and sequences make together is in both, and is taken from the second.
        What pairs of data sets have beside the sum of two sets' effects counts twice in a jackknife; of four sets and
        more it is counted once (Efron and Stein, Annals of Statistics 9:586, 1981), unless the statistic is far from a
        mean over pairs. With two data sets only the test sequences count.
        """
        n, single = self.sets, self.by_set(replicates)
        means, of_draws = single.mean(1), single.mean(0)
        sequences = of_draws.var(0, ddof=1)
        if n == 2:
            return np.asarray(sequences), np.full(np.shape(sequences), self.weight.shape[1] - 1.0)
        together = single - means[:, None] - of_draws + means.mean(0)
        sequences = np.maximum(sequences - (n - 1) * together.var(1, ddof=1).mean(0), 0)
        sets = (n - 1) * means.var(0)
        if of_pairs and n >= 4:
            residual = self._of_pairs_alone(means, replicates[self.left_out[:, 1] >= 0])
            sets = np.maximum(sets - 2 * residual / ((n - 1) * (n - 2)), 2 * residual / (n * (n - 1)))
        total = sets + sequences
        with np.errstate(invalid="ignore"):
            freedom = total**2 / (sets**2 / (n - 1) + sequences**2 / (self.weight.shape[1] - 1))
        return np.asarray(total), np.asarray(np.nan_to_num(freedom, nan=n - 1))

    def _of_pairs_alone(self, one: Float[np.ndarray, "sets ..."], two: Float[np.ndarray, "pairs ..."]) -> np.ndarray:
        """Mean square of what pairs have beside the effects of their two sets, from leaving out one set and two."""
        n, (a, b) = self.sets, self.left_out[self.left_out[:, 1] >= 0].T

        def pairs_of(sets: int) -> float:
            return sets * (sets - 1) / 2

        # Sums over pairs: of all, and, of those with either set, by what is missing without it.
        whole = pairs_of(n - 1) * one.sum(0) / (n - 2)
        of_pair = whole - pairs_of(n - 1) * (one[a] + one[b]) + pairs_of(n - 2) * two
        mean = whole / pairs_of(n)
        effect = ((whole - pairs_of(n - 1) * one) / (n - 1) - mean) * (n - 1) / (n - 2)
        return np.asarray(np.square(of_pair - mean - effect[a] - effect[b]).sum(0) / (n * (n - 3) / 2))

    def error(self, replicates: Float[np.ndarray, "R ..."]) -> np.ndarray:
        """The standard error of a statistic; with two data sets that of the test sequences alone, nan without these."""
        variance = self.variance(replicates)[0]
        if self.sets == 2:
            # Rounding is no spread.
            variance = np.where(variance <= np.square(1e-12 * np.abs(replicates).max(0)), np.nan, variance)
        return np.asarray(np.sqrt(variance))

    def half_width(self, replicates: Float[np.ndarray, "R ..."], *, of_pairs: bool = True) -> np.ndarray:
        """Half the width of the 95% interval of a statistic, by Student's quantile; nan with two data sets.

        Of two sets nothing is known of how the choice of the data moves a statistic.
        """
        variance, freedom = self.variance(replicates, of_pairs=of_pairs)
        return np.asarray(stdtrit(freedom, 0.975) * np.sqrt(variance) * (np.nan if self.sets == 2 else 1))

    def significant(self, mean: Float[np.ndarray, "..."], replicates: Float[np.ndarray, "R ..."]) -> np.ndarray:
        """Whether a statistic lies above zero: its 95% interval does."""
        return np.asarray(mean > self.half_width(replicates))

    def noise(self, replicates: Float[np.ndarray, "R ..."]) -> Float[np.ndarray, "draws ..."]:
        """What a statistic without noise would be, were its own noise added: so many draws of it.

        The noise of the test sequences is that of the bootstrap, and that of the data sets a sum of the jackknife's
        deviations with normal weights, whose variance is the jackknife's (a multiplier bootstrap).
        """
        single = self.by_set(replicates)
        means = single.mean(1)
        choices, draws = single.shape[:2]
        weights = np.random.default_rng(0).standard_normal((choices * draws, choices))
        sequences = (single - means[:, None]).reshape(choices * draws, *replicates.shape[1:])
        scale = np.sqrt((choices - 1) / choices)
        return sequences + scale * np.tensordot(weights, means - means.mean(0), 1)


def resampling(*, sets: int, groups: int, replicates: int = 1000, seed: int = 0) -> Resampling:
    """About `replicates` replicates, spread evenly over the data sets to leave out, and one for each two of them."""
    choices = np.arange(sets) if sets > 2 else np.array([-1])
    draws = -(-replicates // len(choices))
    weight = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=draws) / groups
    one = np.stack([np.repeat(choices, draws), np.full(len(choices) * draws, -1)], 1)
    two = np.stack(np.triu_indices(sets if sets >= 4 else 0, 1), 1)
    of_two = np.broadcast_to(weight.mean(0), (len(two), groups))
    return Resampling(np.concatenate([one, two]), np.concatenate([np.tile(weight, (len(choices), 1)), of_two]), sets)


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Means over networks or pairs and test sequences, and the same in each replicate (dimension `replicate`)."""

    mean: xr.Dataset
    replicates: xr.Dataset
    resampling: Resampling

    def curves(self) -> xr.Dataset:
        """Every statistic with its standard error, `NAME_error`, and half of its 95% interval, `NAME_half`."""
        errors = {}
        for name, x in self.replicates.data_vars.items():
            errors[f"{name}_error"] = x.dims[1:], self.resampling.error(x.values)
            errors[f"{name}_half"] = x.dims[1:], self.resampling.half_width(x.values)
        return self.mean.assign(errors)

    def derive(self, function: Callable[[xr.Dataset], xr.Dataset]) -> "Statistics":
        """`function` of the means, and of those of each replicate."""
        return Statistics(function(self.mean), function(self.replicates), self.resampling)

    def curve(self, name: str, **where: Any) -> Curve:
        """One curve along training; `where` gives the other coordinates."""
        mean, replicates = (each[name].sel(where) for each in (self.mean, self.replicates))
        return Curve(mean.step.values.astype(float), mean.values, replicates.values)


def replicate(variables: Mapping[Any, xr.DataArray], sets_of: Mapping[str, Int[np.ndarray, "unit _"]]) -> Statistics:
    """The means of `variables`, whose dimensions are one of those in `sets_of`, `group`, and any others.

    `sets_of["network"]` are the data sets of each network, and so on for pairs of networks. A variable without groups
    was measured on what belongs to the data sets, and varies with these alone.
    """
    sets = np.unique(np.concatenate([of_unit.ravel() for of_unit in sets_of.values()]))
    groups = next(x.sizes["group"] for x in variables.values() if "group" in x.dims)
    resample = resampling(sets=len(sets), groups=groups)
    means, replicates, coordinates = {}, {}, {}
    for name, x in variables.items():
        unit = next(str(dim) for dim in x.dims if dim in sets_of)
        grouped = x if "group" in x.dims else x.expand_dims(group=groups)
        values = grouped.transpose(..., unit, "group").values.astype(float)
        dims = [str(dim) for dim in x.dims if dim not in (unit, "group")]
        means[name] = dims, values.mean((-1, -2))
        replicates[name] = ["replicate", *dims], resample.means(values, np.searchsorted(sets, sets_of[unit]))
        coordinates |= {dim: x[dim].values for dim in dims}
    return Statistics(xr.Dataset(means, coordinates), xr.Dataset(replicates, coordinates), resample)
