"""Minima along training: known ones are found, and none is claimed where there is none."""

import dataclasses

import numpy as np
import pytest

from hierdiff.statistics.landmarks import (
    estimate,
    first_significant,
    last_significant_minimum,
    probability_before,
    ratio,
)
from hierdiff.statistics.minima import locate_minimum, locate_onset
from hierdiff.statistics.replicates import Curve, Resampling, resampling

STEPS = np.unique(np.rint(np.geomspace(10, 10_000, 40)))
LOG = np.log(STEPS)


@pytest.mark.parametrize("where", [60, 300, 1234, 5000])
def test_a_parabola_in_log_step_is_found_between_checkpoints(where):
    minimum = locate_minimum(STEPS, 0.3 + 0.1 * (LOG - np.log(where)) ** 2)
    assert minimum.reached
    assert minimum.step == pytest.approx(where, rel=1e-6)
    assert minimum.value == pytest.approx(0.3, abs=1e-9)


def test_a_falling_curve_has_no_minimum():
    assert not locate_minimum(STEPS, -LOG).reached
    assert not locate_onset(STEPS, -LOG).reached


def test_a_rising_curve_has_no_onset():
    assert not locate_onset(STEPS, LOG).reached


@pytest.mark.parametrize("end", [0.5, 5.0], ids=["below", "above the transient"])
def test_the_transient_is_passed_over(end):
    """Untrained networks agree: the split rises from 0, falls to its minimum at 400, and rises again."""
    split = np.interp(LOG, np.log([10, 50, 400, 10_000]), [0, 1.2, 0.3, end])
    onset = locate_onset(STEPS, split)
    assert onset.reached
    assert onset.step == pytest.approx(400, rel=0.2)


def test_an_uneven_dip_stays_between_its_neighbours():
    curve = np.abs(LOG - np.log(300)) + 5 * (STEPS > 300)
    minimum = locate_minimum(STEPS, curve)
    lowest = STEPS[np.argmin(curve)]
    assert lowest / 1.2 <= minimum.step <= lowest * 1.2


@pytest.mark.parametrize("locate", [locate_minimum, locate_onset])
def test_many_curves_at_once_have_the_minima_of_each_alone(locate):
    rng = np.random.default_rng(0)
    curves = np.stack([0.1 * (LOG - np.log(where)) ** 2 for where in (8, 60, 61, 300, 12_000)])
    curves = curves + 0.02 * rng.standard_normal((6, 5, len(STEPS)))
    together = locate(STEPS, curves)
    assert together.step.shape == (6, 5)
    for i in np.ndindex(6, 5):
        for name, alone in vars(locate(STEPS, curves[i])).items():
            np.testing.assert_allclose(getattr(together, name)[i], alone, rtol=1e-9)


def test_a_minimum_that_is_not_reached_is_the_checkpoint_where_the_curve_is_smallest():
    assert locate_minimum(STEPS, -LOG).step == pytest.approx(STEPS[-1])
    assert locate_minimum(STEPS, LOG).step == pytest.approx(STEPS[0])


def postponed(curve):
    """The same curve, five times later."""
    return dataclasses.replace(curve, steps=STEPS * 5)


def curve_of(x, sets_of, drawn: Resampling) -> Curve:
    return Curve(STEPS, x.mean((1, 2)), drawn.means(x, sets_of))


def test_the_last_significant_minimum_is_told_from_the_global_one_and_from_noise():
    """Errors that all points share do not hide a rise; errors of their own do."""
    split = np.interp(LOG, np.log([10, 30, 300, 800, 2000, 10_000]), [0, 1, 0.20, 0.40, 0.30, 0.60])
    wiggle = split + 0.004 * (-1.0) ** np.arange(len(split))
    drawn = resampling(sets=2, groups=50)
    rng = np.random.default_rng(0)
    shared, own = rng.standard_normal(len(drawn.weight)), rng.standard_normal((len(drawn.weight), len(split)))
    curve = Curve(STEPS, wiggle, wiggle + 1.0 * shared[:, None] + 0.01 * own)
    assert locate_onset(STEPS, wiggle).step == pytest.approx(300, rel=0.15)
    for until, expected in ((9000.0, 2000), (1500.0, 300)):
        last = last_significant_minimum(curve, drawn, until)
        assert last == pytest.approx(expected, rel=0.15)
    assert np.isnan(last_significant_minimum(Curve(STEPS, wiggle, wiggle + own), drawn, 9000.0))


def experiment(rng: np.random.Generator, *, between, within, sets=4, groups=50):
    """Curves of all pairs with their minimum at step 300, shifted by each data set and each group of sequences."""
    pairs = np.array([(a, b) for a in range(sets) for b in range(a)])
    tilt = between * rng.standard_normal(sets)
    slope = tilt[pairs].mean(1)[:, None] + within * rng.standard_normal(groups)[None]
    x = LOG - np.log(300)
    curve = 0.3 + 0.1 * x[:, None, None] ** 2 + slope[None] * x[:, None, None]
    return curve + 0.01 * within * rng.standard_normal((len(x), len(pairs), groups)), pairs


def test_leaving_out_a_data_set_leaves_out_its_pairs():
    x, pairs = experiment(np.random.default_rng(0), between=0.1, within=0.1)
    drawn = resampling(sets=4, groups=50, replicates=40)
    means = drawn.means(x, pairs)
    for left_out, weight, mean in zip(drawn.left_out, drawn.weight, means, strict=True):
        kept = [u for u, pair in enumerate(pairs) if left_out not in pair]
        assert len(kept) == 3
        np.testing.assert_allclose(mean, (x[:, kept].mean(1) * weight).sum(1), rtol=1e-12)
    np.testing.assert_array_equal(drawn.weight[:10], drawn.weight[10:20])


def test_a_curve_is_read_between_checkpoints():
    curve = Curve(STEPS, LOG, np.stack([LOG, 2 * LOG])).at(1234.5)
    np.testing.assert_allclose(curve.mean, np.log(1234.5))
    np.testing.assert_allclose(curve.replicates[:, 0], [np.log(1234.5), 2 * np.log(1234.5)])


@pytest.mark.parametrize(
    ("between", "within"), [(0.03, 0.01), (0.003, 0.2), (0.02, 0.14)], ids=["sets", "sequences", "both"]
)
def test_the_intervals_cover_the_truth(between, within):
    """Between 90% and 98% of the 95% intervals hold the true step, or ratio, over 500 synthetic experiments.

    Best lies at five times the onset, with noise of its own.
    """
    rng = np.random.default_rng(0)
    of_step, of_ratio, closed = [], [], []
    for i in range(500):
        drawn = resampling(sets=4, groups=50, replicates=80, seed=i)
        (x, pairs), (y, _) = (experiment(rng, between=between, within=within) for _ in range(2))
        onset = estimate(curve_of(x, pairs, drawn), drawn, locate_onset)
        best = estimate(postponed(curve_of(y, pairs, drawn)), drawn, locate_minimum)
        later = ratio(onset, best, drawn)
        of_step.append(onset.low <= 300 <= onset.high)
        of_ratio.append(later.low <= 5 <= later.high)
        closed.append(onset.low > 0 and onset.high < np.inf)
    assert 0.90 <= np.mean(of_step) <= 0.98
    assert 0.90 <= np.mean(of_ratio) <= 0.98
    assert np.mean(closed) >= 0.9


# Curves without a minimum: they fall throughout, or to a plateau, or are flat from the start.
WITHOUT = {"falling": 1 / LOG, "plateau": 0.3 + 2 * np.exp(-1.5 * (LOG - LOG[0])), "flat": 0 * LOG}


@pytest.mark.parametrize("shape", WITHOUT)
@pytest.mark.parametrize(("sets", "of_sets"), [(4, 0.02), (2, 0.0)])
def test_no_minimum_is_claimed_where_there_is_none(shape, sets, of_sets):
    """Of 100 experiments, of which 5 may claim one, give or take two standard errors.

    Each data set, or each sequence, adds noise of its own at each checkpoint: some checkpoint is the lowest.
    """
    rng = np.random.default_rng(1)
    claimed, early = [], []
    for i in range(100):
        x, pairs = experiment(rng, between=0, within=0, sets=sets)
        noise = of_sets * rng.standard_normal((len(STEPS), sets))[:, pairs].mean(-1)[..., None]
        noise = noise + (0.02 if of_sets else 0.14) * rng.standard_normal(x.shape)
        drawn = resampling(sets=sets, groups=50, replicates=80, seed=i)
        curve = curve_of(WITHOUT[shape][:, None, None] + noise, pairs, drawn)
        found = [estimate(curve, drawn, locate).reached for locate in (locate_onset, locate_minimum)]
        claimed.append([*found, np.isfinite(last_significant_minimum(curve, drawn, STEPS[-1]))])
        early.append(first_significant(curve_of(noise, pairs, drawn), drawn) < STEPS[-3])
    assert (np.mean(claimed, 0) <= 0.09).all()
    assert np.mean(early) <= 0.05


def test_the_order_of_two_minima_has_a_probability():
    rng = np.random.default_rng(2)
    x, pairs = experiment(rng, between=0.01, within=0.05)
    drawn = resampling(sets=4, groups=50, replicates=200)
    early = estimate(curve_of(x, pairs, drawn), drawn, locate_onset)
    moved, _ = experiment(rng, between=0.01, within=0.05)
    late = estimate(postponed(curve_of(moved, pairs, drawn)), drawn, locate_onset)
    assert probability_before(early, late, drawn) > 0.99
    assert probability_before(late, early, drawn) < 0.01
    assert probability_before(early, early, drawn) == 0.0
    later = ratio(early, late, drawn)
    assert later.low < 5 < later.high
    assert later.before == probability_before(early, late, drawn)


def test_an_interval_is_open_where_replicates_miss_the_minimum():
    """4% of the replicates fall to the end, or rise from the start."""
    drawn, mean = resampling(sets=2, groups=50), 0.3 + 0.1 * np.log(STEPS / 300) ** 2
    for slope, end in ((-0.05, "high"), (0.05, "low")):
        replicates = np.tile(mean, (1000, 1))
        replicates[::25] = 0.3 + slope * np.log(STEPS / 300)
        found = estimate(Curve(STEPS, mean, replicates), drawn, locate_minimum)
        assert found.reached
        assert (found.low == 0, found.high == np.inf) == (end == "low", end == "high")
        later = ratio(found, found, drawn)
        assert (later.low == 0, later.high == np.inf) == (True, True)


def test_with_two_data_sets_only_the_sequences_are_drawn_anew():
    drawn = resampling(sets=2, groups=50)
    assert (drawn.left_out == -1).all()
    x, pairs = experiment(np.random.default_rng(3), between=0.01, within=0.1, sets=2)
    assert estimate(curve_of(x, pairs, drawn), drawn, locate_onset).reached
