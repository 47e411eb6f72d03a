"""Calibration: the truths of synthetic experiments and of a pool, what an interval holds, and the whole command."""

import math

import numpy as np
import pytest
from runs import ask

from hierdiff.questions import calibration
from hierdiff.runs import record
from hierdiff.statistics import synthetic
from hierdiff.statistics.landmarks import Landmark, minimum, nowhere
from hierdiff.statistics.minima import locate_onset


def test_the_landmarks_of_synthetic_experiments_are_those_of_their_mean():
    """Over many data sets at once; and four networks move the minimum as much as trained ones do."""
    rng, steps = np.random.default_rng(0), synthetic.steps_of(32)
    for split in synthetic.SPLITS:
        of_four = [synthetic.experiment(rng, steps, 4, {"split": split}, 0.0).curves["split"].mean for _ in range(150)]
        whole = locate_onset(steps, np.mean(of_four, 0))
        assert whole.step == pytest.approx(synthetic.lowest(split), rel=0.12)
        assert 0.10 < np.std(np.log(locate_onset(steps, np.array(of_four)).step)) < 0.19
    places, slope = synthetic.expected(synthetic.slope)
    assert np.interp(math.log(synthetic.passes(synthetic.slope, 0.01)), places, slope) == pytest.approx(0.01, rel=1e-6)


def test_more_checkpoints_tell_a_minimum_no_worse():
    def claims(checkpoints: int) -> float:
        rng, steps = np.random.default_rng(0), synthetic.steps_of(checkpoints)
        made = (synthetic.experiment(rng, steps, 4, {"loss": synthetic.loss}, 0.02 * (i % 2)) for i in range(150))
        return float(np.mean([minimum(each.curves["loss"], each.resampling).reached for each in made]))

    few = claims(6)
    assert 0.6 < few < 0.9
    assert claims(32) > few - 0.05


def test_an_interval_holds_the_truth_within_both_errors():
    found = Landmark(100.0, 80.0, 150.0, 0.1, True, False)
    for truth, error, expected in ((85, 0.0, 1), (79, 0.0, 0), (79, 0.1, 1), (160, 0.0, 0), (160, 0.2, 1)):
        assert calibration.holds(found, float(truth), error) == expected
    open_ended = Landmark(100.0, 0.0, 150.0, 0.1, True, False)
    assert calibration.holds(open_ended, 1.0) == 1
    assert math.isnan(calibration.holds(nowhere(), 100.0))
    shares = calibration.shares([1, 1, 0, 1, np.nan])
    assert (shares["claimed"], shares["cover"]) == (0.8, 0.75)
    assert shares["error"] == pytest.approx(math.sqrt(0.75 * 0.25 / 4))


def test_the_error_of_a_coverage_counts_the_choice_of_the_pool():
    """If holding depends on the networks alone, experiments share them: the spread over pools is what is stated."""
    rng, covers, errors = np.random.default_rng(1), [], []
    blocks = np.array_split(np.arange(48), 12)
    for _ in range(60):
        good = rng.random(48)
        chosen = [rng.choice(48, 4, replace=False) for _ in range(300)]
        held = np.array([float(good[drawn].mean() < 0.6) for drawn in chosen])
        apart = np.array([[not np.isin(drawn, block).any() for drawn in chosen] for block in blocks])
        covers.append(held.mean())
        errors.append(calibration.error_of_cover(held, apart))
    assert np.mean(errors) / np.std(covers) == pytest.approx(1, abs=0.35)
    assert np.mean(errors) > 2 * math.sqrt(np.mean(covers) * (1 - np.mean(covers)) / 300)


@pytest.mark.slow
def test_the_command_trains_a_pool_and_writes_its_table(tmp_path, capsys):
    ask("calibration", ["--preset", "smoke", "--out", str(tmp_path)])
    found = record.read_json(tmp_path / "calibration.json")
    printed = capsys.readouterr().out
    assert all(line in printed for line in found["table"])
    assert len(found["synthetic"]) == len(calibration.SETS) * len(calibration.CHECKPOINTS)
    assert [row["sets"] for row in found["pool"]] == np.repeat(calibration.DRAWN, len(calibration.EVERY)).tolist()
    for row in found["pool"]:
        for name in calibration.VALUES:
            assert row["cover"][name]["claimed"] == 1
            assert row["cover"][name]["cover"] > 0.4
