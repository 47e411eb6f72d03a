"""Landmarks along training: known ones are found, and none is claimed where there is none."""

import dataclasses

import numpy as np
import pytest

from hierdiff.statistics.landmarks import (
    crossing,
    first_significant,
    last_significant_minimum,
    minimum,
    ratio,
    rises,
    turning_point,
)
from hierdiff.statistics.local import local_fit
from hierdiff.statistics.minima import locate_minimum, locate_onset
from hierdiff.statistics.replicates import Curve, Resampling, resampling

STEPS = np.unique(np.rint(np.geomspace(10, 10_000, 40)))
LOG = np.log(STEPS)


@pytest.mark.parametrize("every", [1, 2, 4, 8])
@pytest.mark.parametrize("where", [60, 300, 1234])
def test_a_parabola_in_log_step_is_found_between_checkpoints(where, every):
    """Of a positive curve the logarithm is one."""
    away = 0.1 * (LOG[::every] - np.log(where)) ** 2
    found, negative = locate_minimum(STEPS[::every], 0.3 * np.exp(away)), locate_minimum(STEPS[::every], away - 0.3)
    for each, value in ((found, 0.3), (negative, -0.3)):
        assert each.reached
        assert each.step == pytest.approx(where, rel=1e-6)
        assert each.value == pytest.approx(value, abs=1e-9)
    assert found.resolved or every > 2
    assert not found.resolved or every < 8


def test_local_fits_are_weighted_least_squares():
    """Against numpy's polynomials, with the weights of loess, at a place within and at both ends."""
    fit, y = local_fit(tuple(STEPS)), np.random.default_rng(0).standard_normal(len(STEPS))
    for place in (0, 137, len(fit.log_steps) - 1):
        away = LOG - fit.log_steps[place]
        near = np.abs(away) < 1.6
        weight = (1 - np.abs(away[near] / 1.6) ** 3) ** 3
        *_, slope, level = np.polyfit(away[near], y[near], 3, w=np.sqrt(weight))
        for name, expected in (("level", level), ("slope", slope)):
            assert getattr(fit, name)[place] @ y == pytest.approx(expected, abs=1e-9)
        assert fit.points[place] == near.sum()


def test_a_falling_curve_has_no_minimum():
    assert not locate_minimum(STEPS, -LOG).reached
    assert not locate_onset(STEPS, -LOG).reached


def test_a_rising_curve_has_no_onset():
    assert not locate_onset(STEPS, LOG).reached


@pytest.mark.parametrize("end", [1.0, 5.0], ids=["below", "above the transient"])
def test_the_transient_is_passed_over(end):
    """Untrained networks agree: the split rises from 0, falls to its minimum at 400, and rises again."""
    split = np.interp(LOG, np.log([10, 50, 400, 10_000]), [0, 1.2, 0.3, end])
    onset = locate_onset(STEPS, split)
    assert onset.reached
    assert onset.step == pytest.approx(400, rel=0.4)


# Measured on two networks.
SPLIT = (
    [60, 71, 84, 99, 117, 139, 164, 194, 230, 272],
    [0.0456, 0.0497, 0.059, 0.0518, 0.0572, 0.058, 0.0598, 0.0624, 0.0745, 0.0704],
)


def test_a_wiggle_is_no_transient():
    """The lowest checkpoint is the first; after a peak that is none comes no minimum."""
    found = locate_onset(*SPLIT)
    assert not found.reached
    assert found.step == pytest.approx(60)


def test_the_peak_of_a_transient_is_in_no_fit():
    """Whatever its height, the minimum after it stays where it is."""
    split = 0.3 * np.exp(0.1 * (LOG - np.log(100)) ** 2)
    for peak in (2.0, 20.0):
        high = np.where(np.log(30) > LOG, peak * (LOG - LOG[0] + 0.1), split)
        assert locate_onset(STEPS, high).step == pytest.approx(100, rel=1e-6)


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


def test_of_two_checkpoints_none_is_a_minimum():
    for locate in (locate_minimum, locate_onset):
        found = locate([10, 20], [[0.2, 0.1], [0.1, 0.2]])
        assert not found.reached.any()
        np.testing.assert_array_equal(found.step, [20, 10])


def postponed(curve):
    """The same curve, five times later."""
    return dataclasses.replace(curve, steps=STEPS * 5)


def curve_of(x, sets_of, drawn: Resampling) -> Curve:
    return Curve(STEPS, x.mean((1, 2)), drawn.means(x, sets_of))


def test_the_last_significant_minimum_is_told_from_the_global_one_and_from_noise():
    """Noise that all checkpoints share does not hide a rise; noise of their own does."""
    split = np.interp(LOG, np.log([10, 30, 300, 900, 2700, 10_000]), [0, 1, 0.20, 0.40, 0.30, 0.60])
    rng = np.random.default_rng(0)
    pairs = np.array([(a, b) for a in range(4) for b in range(a)])
    drawn = resampling(sets=4, groups=50)

    def measured(shared, own):
        noise = shared * rng.standard_normal(4) + own * rng.standard_normal((len(STEPS), 4))
        x = split[:, None, None] + noise[:, pairs].mean(-1)[..., None] + 0.001 * rng.standard_normal((40, 6, 50))
        return curve_of(x, pairs, drawn)

    assert locate_onset(STEPS, split).step == pytest.approx(300, rel=0.4)
    for until, expected in ((9000.0, 2700), (1800.0, 300)):
        last = last_significant_minimum(measured(0.2, 0.005), drawn, until)
        assert last == pytest.approx(expected, rel=0.2)
    assert np.isnan(last_significant_minimum(measured(0.0, 2.0), drawn, 9000.0))


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
        kept = [u for u, pair in enumerate(pairs) if not {*left_out} & {*pair}]
        assert len(kept) == (3 if -1 in left_out else 1)
        np.testing.assert_allclose(mean, (x[:, kept].mean(1) * weight).sum(1), rtol=1e-12)
    np.testing.assert_array_equal(drawn.weight[:10], drawn.weight[10:20])
    assert len(drawn.left_out) == 40 + 6


def test_a_curve_is_read_between_checkpoints():
    curve = Curve(STEPS, LOG, np.stack([LOG, 2 * LOG])).at(1234.5)
    np.testing.assert_allclose(curve.mean, np.log(1234.5))
    np.testing.assert_allclose(curve.replicates[:, 0], [np.log(1234.5), 2 * np.log(1234.5)])


@pytest.mark.parametrize("sets", [4, 5, 8])
def test_what_pairs_have_beside_their_sets_counts_once(sets):
    """The variance of a mean over pairs, of sets' effects, of pairs' own and of both, over experiments; and of a ratio.

    A jackknife alone gives pairs' own part twice and more of its variance.
    """
    rng = np.random.default_rng(0)
    pairs = np.array([(a, b) for a in range(sets) for b in range(a)])
    drawn = resampling(sets=sets, groups=50, replicates=4 * sets)
    for of_set, of_pair in ((1.0, 0.0), (0.0, 1.0), (0.5, 1.0)):
        effects = of_set * rng.standard_normal((4000, sets))
        x = 5 + effects[:, pairs].sum(-1) + of_pair * rng.standard_normal((4000, len(pairs)))
        grouped = np.broadcast_to(x[..., None], (*x.shape, 50))
        means = drawn.means(grouped, pairs)
        true = 4 * of_set**2 / sets + of_pair**2 / len(pairs)
        once, twice = (drawn.variance(means, of_pairs=each)[0].mean() / true for each in (True, False))
        # It is not taken for less than the part that is the pairs' own: where there is no more it is overstated.
        assert 0.95 < once < (1.05 if of_pair == 0 else 1.5 if of_set else 0.85 * twice)
        assert twice == pytest.approx(1, abs=0.05) if of_pair == 0 else twice > 1.1


def test_of_two_data_sets_nothing_is_significant():
    drawn = resampling(sets=2, groups=50)
    assert (drawn.left_out == -1).all()
    x, pairs = experiment(np.random.default_rng(3), between=0.01, within=0.1, sets=2)
    curve = curve_of(x, pairs, drawn)
    assert np.isnan(drawn.half_width(curve.replicates)).all()
    assert (drawn.error(curve.replicates) > 0).all()
    found = turning_point(curve, drawn)
    assert found.step == pytest.approx(300, rel=0.2)
    assert np.isnan([found.low, found.high]).all()
    assert not found.reached
    assert not rises(curve, drawn, 300.0)
    assert np.isnan(first_significant(curve, drawn))
    passed = crossing(dataclasses.replace(curve, mean=LOG, replicates=LOG + 0 * curve.replicates), drawn, np.log(500))
    assert (passed.step, passed.reached) == (pytest.approx(500, rel=1e-6), False)
    later = ratio(found, passed, drawn)
    assert later.ratio == pytest.approx(500 / found.step, rel=1e-6)
    assert np.isnan([later.low, later.high, later.confidence]).all()


@pytest.mark.parametrize(
    ("between", "within"),
    [
        pytest.param(0.03, 0.01, id="sets", marks=pytest.mark.slow),
        pytest.param(0.003, 0.2, id="sequences", marks=pytest.mark.slow),
        pytest.param(0.02, 0.14, id="both"),
    ],
)
def test_the_intervals_cover_the_truth(between, within):
    """Between 90% and 99% of the 95% intervals hold the true step, or ratio, over 100 synthetic experiments.

    Best lies at five times the onset, with noise of its own. Two thinnings of a run have intervals that overlap.
    """
    rng = np.random.default_rng(0)
    of_step, of_ratio, closed, widths, overlap = [], [], [], [], []
    for i in range(100):
        drawn = resampling(sets=4, groups=50, replicates=80, seed=i)
        (x, pairs), (y, _) = (experiment(rng, between=between, within=within) for _ in range(2))
        curve = curve_of(x, pairs, drawn)
        onset = turning_point(curve, drawn)
        later = ratio(onset, minimum(postponed(curve_of(y, pairs, drawn)), drawn), drawn)
        of_step.append(onset.low <= 300 <= onset.high)
        of_ratio.append(later.low <= 5 <= later.high)
        closed.append(onset.low > 0 and onset.high < np.inf)
        a, b = (turning_point(curve.part(slice(first, None, 2)), drawn) for first in range(2))
        widths.append([np.log(each.high / each.low) for each in (onset, a, b)])
        overlap.append(a.low <= b.high and b.low <= a.high)
    assert 0.90 <= np.mean(of_step) <= 0.99
    assert 0.90 <= np.mean(of_ratio) <= 0.99
    assert np.mean(closed) >= 0.9
    assert np.mean(overlap) == 1
    whole, *thinned = np.median(widths, 0)
    assert (np.array(thinned) < 1.2 * whole).all()


def test_few_checkpoints_say_between_which_the_minimum_lies():
    """Of nine, at factors of 2.4: the neighbours of the lowest, where both are told from it, and more where not."""
    rng, few = np.random.default_rng(4), slice(None, None, 5)
    for within, between in ((0.001, (LOG[few][3], LOG[few][5])), (0.5, None)):
        drawn = resampling(sets=4, groups=50)
        x, pairs = experiment(rng, between=0.01, within=within)
        found = turning_point(curve_of(x, pairs, drawn).part(few), drawn)
        assert found.reached
        assert not found.resolved
        assert found.low < 300 < found.high
        if between:
            np.testing.assert_allclose(np.log([found.low, found.high]), between)
        else:
            assert found.high / found.low > 10


def test_a_minimum_lies_no_more_than_its_error_below_the_lowest_checkpoint():
    """Of nine checkpoints, of which none is near the bottom of the fit."""
    drawn, rng, few = resampling(sets=4, groups=50), np.random.default_rng(5), slice(None, None, 5)
    x, pairs = experiment(rng, between=0.001, within=0.001)
    away = LOG - 0.5 * (LOG[few][4] + LOG[few][5])
    curve = curve_of(x + 0.1 * (away**2 - (LOG - np.log(300)) ** 2)[:, None, None], pairs, drawn).part(few)
    lowest = int(np.argmin(curve.mean))
    assert locate_minimum(curve.steps, curve.mean).value < curve.mean[lowest] - 0.01
    least = curve.mean[lowest] - drawn.error(curve.replicates[:, lowest])
    assert turning_point(curve, drawn).value == pytest.approx(least, rel=1e-5)


# Curves without a minimum: they fall throughout, or to a plateau, or are flat from the start.
WITHOUT = {"falling": 1 / LOG, "plateau": 0.3 + 2 * np.exp(-1.5 * (LOG - LOG[0])), "flat": 0 * LOG}


@pytest.mark.parametrize("shape", WITHOUT)
@pytest.mark.parametrize("sets", [3, 4])
def test_no_minimum_is_claimed_where_there_is_none(shape, sets):
    """Of 100 experiments, of which 2.5 may claim one, give or take two standard errors.

    Each data set adds noise of its own at each checkpoint: some checkpoint is the lowest.
    """
    rng = np.random.default_rng(1)
    claimed, early = [], []
    for i in range(100):
        x, pairs = experiment(rng, between=0, within=0, sets=sets)
        noise = 0.02 * rng.standard_normal((len(STEPS), sets))[:, pairs].mean(-1)[..., None]
        noise = noise + 0.02 * rng.standard_normal(x.shape)
        drawn = resampling(sets=sets, groups=50, replicates=80, seed=i)
        curve = curve_of(WITHOUT[shape][:, None, None] + noise, pairs, drawn)
        found = [locate(curve, drawn).reached for locate in (turning_point, minimum)]
        claimed.append([*found, np.isfinite(last_significant_minimum(curve, drawn, STEPS[-1]))])
        early.append(first_significant(curve_of(noise, pairs, drawn), drawn) < STEPS[-3])
    assert (np.mean(claimed, 0) <= [0.055, 0.055, 0.09]).all()
    assert np.mean(early) <= 0.05


def test_more_checkpoints_tell_a_rise_no_worse():
    """A rise by a fifth after a plateau, that four data sets show in most experiments."""
    rng, power = np.random.default_rng(6), {every: [] for every in (4, 2, 1)}
    fall, rise = np.clip(np.log(200) - LOG, 0, None), np.clip(LOG - np.log(300), 0, None)
    shape = 0.4 + 0.05 * fall**2 + 0.03 * rise
    for i in range(60):
        drawn = resampling(sets=4, groups=50, replicates=80, seed=i)
        x, pairs = experiment(rng, between=0, within=0)
        noise = 0.02 * rng.standard_normal((len(STEPS), 4))[:, pairs].mean(-1)[..., None]
        curve = curve_of(shape[:, None, None] + noise + 0.01 * rng.standard_normal(x.shape), pairs, drawn)
        for every, told in power.items():
            told.append(turning_point(curve.part(slice(None, None, every)), drawn).reached)
    few, more, most = (np.mean(told) for told in power.values())
    assert 0.5 < few <= more + 0.05 <= most + 0.1
    assert most > 0.9


def test_the_order_of_two_minima_has_a_confidence():
    rng = np.random.default_rng(2)
    x, pairs = experiment(rng, between=0.01, within=0.05)
    drawn = resampling(sets=4, groups=50, replicates=200)
    early = turning_point(curve_of(x, pairs, drawn), drawn)
    moved, _ = experiment(rng, between=0.01, within=0.05)
    late = turning_point(postponed(curve_of(moved, pairs, drawn)), drawn)
    assert ratio(early, late, drawn).confidence > 0.99
    assert ratio(late, early, drawn).confidence < 0.01
    later = ratio(early, late, drawn)
    assert later.low < 5 < later.high
    same = ratio(early, early, drawn)
    assert (same.ratio, same.low, same.high) == (1, pytest.approx(1, abs=0.01), pytest.approx(1, abs=0.01))


def test_what_two_landmarks_share_does_not_widen_their_ratio():
    """Two minima that each data set moves by the same factor."""
    rng = np.random.default_rng(7)
    x, pairs = experiment(rng, between=0.05, within=0.01)
    drawn = resampling(sets=4, groups=50, replicates=200)
    first, second = (
        turning_point(curve_of(x, pairs, drawn), drawn),
        minimum(postponed(curve_of(x, pairs, drawn)), drawn),
    )
    found = ratio(first, second, drawn)
    assert np.log(first.high / first.low) > 0.3
    assert np.log(found.high / found.low) < 0.1


def test_an_interval_is_open_where_a_curve_is_not_told_to_fall_before_it_rises():
    """From a plateau, in many experiments; from a valley it is closed. A ratio to a step with an open end is open."""
    rng = np.random.default_rng(8)
    pairs = np.array([(a, b) for a in range(4) for b in range(a)])
    drawn = resampling(sets=4, groups=50, replicates=80)
    late, early = np.clip(LOG - np.log(300), 0, None), np.clip(np.log(200) - LOG, 0, None)

    def found(fall):
        noise = 0.01 * rng.standard_normal((len(STEPS), 4))[:, pairs].mean(-1)[..., None]
        x = (0.3 + fall * early + 0.1 * late)[:, None, None] + noise + 0.001 * rng.standard_normal((len(STEPS), 6, 50))
        return minimum(curve_of(x, pairs, drawn), drawn)

    plateaus, valley = [each for each in (found(0.002) for _ in range(30)) if each.reached], found(0.1)
    is_open = [each for each in plateaus if each.low == 0]
    assert len(is_open) > 0.25 * len(plateaus) > 2.5
    assert 0 < valley.low < valley.high < 600
    later = ratio(is_open[0], valley, drawn)
    assert (later.low > 0, later.high) == (True, np.inf)


@pytest.mark.parametrize("sets", [4, 8])
def test_where_a_curve_passes_a_level_is_found_with_its_interval(sets):
    """Between 88% and 99% of 100 intervals hold the true step; each data set has its own."""
    rng = np.random.default_rng(9)

    def measured(seed):
        drawn = resampling(sets=sets, groups=50, replicates=10 * sets, seed=seed)
        x, pairs = experiment(rng, between=0, within=0, sets=sets)
        late = np.log(700) + 0.3 * rng.standard_normal(sets)[pairs].mean(1)[:, None]
        x = 0.01 * (1 + LOG[:, None, None] - late) + 1e-4 * rng.standard_normal(x.shape)
        return curve_of(x, pairs, drawn), drawn

    found = [crossing(*measured(seed), 0.01) for seed in range(100)]
    assert 0.88 <= np.mean([each.low <= 700 <= each.high for each in found]) <= 0.99
    curve, drawn = measured(100)
    assert crossing(curve, drawn, -1.0).from_start
    assert not crossing(curve, drawn, 1.0).located
    assert not crossing(dataclasses.replace(curve, mean=curve.mean * np.nan), drawn, 0.01).located


def test_a_curve_that_falls_over_orders_of_magnitude_has_its_minimum_where_it_is_smallest():
    """The bound on -log p falls from a thousand nats to two; fitted as it is, the fit dips below zero on the way."""
    bound = 2 * np.exp(0.1 * (LOG - np.log(3000)) ** 2) + 1700 * np.exp(-((LOG - LOG[0]) ** 2) / 0.8)
    assert locate_minimum(STEPS, bound).step == pytest.approx(3000, rel=0.05)
