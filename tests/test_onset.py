"""Minima along training: known ones are found, and none is claimed where there is none."""

import numpy as np
import pytest

from hierdiff.onset import last_significant_minimum, locate_minimum, locate_onset

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


def test_the_last_significant_minimum_is_told_from_the_global_one_and_from_noise():
    split = np.interp(LOG, np.log([10, 30, 300, 800, 2000, 10_000]), [0, 1, 0.20, 0.40, 0.30, 0.60])
    wiggle = split + 0.004 * (-1.0) ** np.arange(len(split))
    error = np.full(len(split), 0.01)
    assert locate_onset(STEPS, wiggle).step == pytest.approx(300, rel=0.15)
    last = last_significant_minimum(STEPS, wiggle, error, before=9000.0)
    assert last.step == pytest.approx(2000, rel=0.15)
    assert last_significant_minimum(STEPS, wiggle, error, before=1500.0).step == pytest.approx(300, rel=0.15)
    assert not last_significant_minimum(STEPS, wiggle, 100 * error, before=9000.0).reached
