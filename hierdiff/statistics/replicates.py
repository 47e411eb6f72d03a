"""Replicates of an experiment, over data sets and test sequences together, and the errors that they give."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy.special import ndtri, stdtrit

# A minimum is fitted to its smallest checkpoint and so many on each side.
NEIGHBOURS = 2


@dataclasses.dataclass(frozen=True)
class Curve:
    """A curve along training, and what it is in each of R replicates of the experiment."""

    steps: Float[np.ndarray, " steps"]
    mean: Float[np.ndarray, " steps"]
    replicates: Float[np.ndarray, "R steps"]

    def at(self, step: float) -> "Curve":
        """The curve at one step, between checkpoints by a straight line in log(step)."""
        weight = np.array([[np.interp(np.log(step), np.log(self.steps), one)] for one in np.eye(len(self.steps))])
        return Curve(np.array([step]), self.mean @ weight, self.replicates @ weight)


@dataclasses.dataclass(frozen=True)
class Resampling:
    """Replicates of an experiment: each leaves one data set out and draws the groups of test sequences anew.

    Replicate r leaves out data set `left_out[r]` (-1: none, where there are only two) and gives group g the weight
    `weight[r, g]`. Each data set is left out with the same weights, so that leaving it out is all that differs.
    """

    left_out: Int[np.ndarray, " R"]
    weight: Float[np.ndarray, "R groups"]
    sets: int

    def means(self, x: Float[np.ndarray, "*shape unit groups"], sets_of: Int[np.ndarray, "unit _"]) -> np.ndarray:
        """Mean over units and groups in each replicate, `(R, *shape)`; unit u uses the data sets `sets_of[u]`."""
        means = np.empty((len(self.weight), *x.shape[:-2]))
        for left_out in np.unique(self.left_out):
            kept = (sets_of != left_out).all(1)
            rows = self.left_out == left_out
            means[rows] = np.moveaxis(x[..., kept, :].mean(-2) @ self.weight[rows].T, -1, 0)
        return means

    def variance(self, replicates: Float[np.ndarray, "R ..."]) -> tuple[np.ndarray, np.ndarray]:
        """Variance of a statistic over data sets (jackknife) and test sequences (bootstrap), and degrees of freedom.

        These are Satterthwaite's. With two data sets only the test sequences count.
        """
        parts = [replicates[self.left_out == i] for i in np.unique(self.left_out)]
        sequences = np.mean([part.var(0, ddof=1) for part in parts], 0)
        # Of one part, where no set is left out, this is zero.
        sets = (self.sets - 1) * np.var([part.mean(0) for part in parts], 0)
        total = sets + sequences
        groups = self.weight.shape[1]
        with np.errstate(invalid="ignore"):
            freedom = total**2 / (sets**2 / max(self.sets - 1, 1) + sequences**2 / (groups - 1))
        return np.asarray(total), np.asarray(np.nan_to_num(freedom, nan=groups - 1))

    def error(self, replicates: Float[np.ndarray, "R ..."]) -> np.ndarray:
        return np.asarray(np.sqrt(self.variance(replicates)[0]))

    def half_width(self, replicates: Float[np.ndarray, "R ..."]) -> np.ndarray:
        """Half the width of the 95% interval of a statistic, by Student's quantile."""
        variance, freedom = self.variance(replicates)
        return np.asarray(stdtrit(freedom, 0.975) * np.sqrt(variance))

    def significant(self, mean: Float[np.ndarray, "..."], replicates: Float[np.ndarray, "R ..."]) -> np.ndarray:
        """Whether a statistic lies above zero: its 95% interval does."""
        return np.asarray(mean > self.half_width(replicates))

    def rises(self, curve: Curve, start: int, end: int) -> bool:
        """Whether the curve rises from checkpoint `start`: those after it and before `end` lie above it, on average.

        A checkpoint is looked at because it is low, and noise alone may have made it lower than others. So the rise, in
        standard errors, must exceed the largest from any checkpoint that is not significantly higher, in 95% of curves
        of noise alone (a test with moment selection, as in Andrews and Soares, Econometrica 78:119, 2010).
        """
        if start + 1 >= end:
            return False
        mean, replicates = curve.mean[:end], curve.replicates[:, :end]
        higher = self.significant(mean - mean[start], replicates - replicates[:, [start]])
        rise, rises = _rise(mean)[start], _rise(replicates)
        variance, freedom = self.variance(rises)
        # Few data sets tell a variance badly: it is averaged over neighbours, as many as a minimum is fitted to.
        near = np.abs(np.subtract.outer(np.arange(end - 1), np.arange(end - 1))) <= NEIGHBOURS
        error = np.sqrt(near @ variance / near.sum(1))
        rivals = ~higher[:-1] & (error > 0)
        largest = (self.noise(rises[:, rivals]) / error[rivals]).max(1, initial=0.0)
        # Student's quantile in place of the normal one.
        factor = np.quantile(largest, 0.95) * stdtrit(freedom[start], 0.95) / ndtri(0.95)
        return bool(rise > factor * error[start])

    def noise(self, replicates: Float[np.ndarray, "R ..."]) -> Float[np.ndarray, "R ..."]:
        """What the replicates of a statistic without noise would be, were its own noise added: R draws of it.

        The noise of the test sequences is that of the bootstrap, and that of the data sets a sum of the jackknife's
        deviations with normal weights, whose variance is the jackknife's (a multiplier bootstrap).
        """
        choices = np.unique(self.left_out)
        means = np.stack([replicates[self.left_out == i].mean(0) for i in choices])
        sequences = replicates - means[np.searchsorted(choices, self.left_out)]
        weights = np.random.default_rng(0).standard_normal((len(replicates), len(choices)))
        scale = np.sqrt((len(choices) - 1) / len(choices))
        return sequences + scale * np.tensordot(weights, means - means.mean(0), 1)


def _rise(curves: Float[np.ndarray, "*curves steps"]) -> Float[np.ndarray, "*curves steps-1"]:
    """How far the mean of all later checkpoints lies above each."""
    later = np.cumsum(curves[..., :0:-1], -1)[..., ::-1] / np.arange(curves.shape[-1] - 1, 0, -1)
    return later - curves[..., :-1]


def resampling(*, sets: int, groups: int, replicates: int = 1000, seed: int = 0) -> Resampling:
    """`replicates` replicates, spread evenly over the data sets to leave out."""
    choices = np.arange(sets) if sets > 2 else np.array([-1])
    draws = -(-replicates // len(choices))
    weight = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=draws) / groups
    return Resampling(np.repeat(choices, draws), np.tile(weight, (len(choices), 1)), sets)


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
        replicates[name] = ["replicate", *dims], resample.means(values, sets_of[unit])
        coordinates |= {dim: x[dim].values for dim in dims}
    return Statistics(xr.Dataset(means, coordinates), xr.Dataset(replicates, coordinates), resample)
