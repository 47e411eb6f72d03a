"""Remedies: what is planted in the curves of runs is found, and the whole command."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from runs import ask
from scipy.stats import ttest_rel

from hierdiff.pictures.records import Records
from hierdiff.pictures.remedies import remedies as picture
from hierdiff.questions import QUESTIONS, remedies
from hierdiff.questions.remedies import GIVEN, LESS, MORE, PLAIN, Trained, compare, passes, predicted, stopped
from hierdiff.questions.stopping import EXCESS
from hierdiff.runs import record
from hierdiff.statistics.laws import Reading

STEPS = np.geomspace(10, 1000, 24)
AUC = "membership AUC"


def run(*, lag: float = 1.0, gives: float = 0.5, floor: float = 0.1) -> Trained:
    """Its excess loss is `(10 lag / step) + floor`, and what it gives away is proportional to log(step)."""
    given = gives * np.log10(STEPS)
    curves = {
        "excess": ("step", 10 * lag / STEPS + floor),
        # Smallest at step 100.
        "test_loss": ("step", 1 + np.log10(STEPS / 100) ** 2),
        # The test loss lies below it from step 20 to 500.
        "entropy": ("step", 1 + np.log10(STEPS / 100) ** 2 + np.log(STEPS / 20) * np.log(500 / STEPS)),
        "split": (("noise", "step"), 1 + np.log10(STEPS / 50)[None] ** 2),
    }
    found = xr.Dataset(curves, {"step": STEPS, "noise": [0.15]})
    config = SimpleNamespace(measure=SimpleNamespace(onset_noise=0.15), size=300, seed=2)
    return Trained(config, found, {EXCESS: found.excess, **dict.fromkeys(GIVEN, xr.DataArray(given, {"step": STEPS}))})


def test_remedies_are_compared_where_their_excess_loss_first_is_the_same():
    """One that learns twice as slowly and gives half of it away at each step; one that never gets there."""
    gives = (0.5, 0.6, 0.8)
    runs = {
        PLAIN: [run(gives=x) for x in gives],
        "slow": [run(lag=2, gives=0.5 * x) for x in gives],
        "worse": [run(lag=2, gives=x) for x in gives],
        "stuck": [run(floor=0.5)] * 3,
    }
    found = {row["remedy"]: row for row in compare(0.3, runs)}
    # The excess loss is 0.3 at step 50, and at step 100.
    np.testing.assert_allclose([found[name]["step"]["mean"] for name in (PLAIN, "slow")], [50, 100], rtol=0.01)
    plain, slow = np.log10(50) * np.array(gives), np.log10(100) * 0.5 * np.array(gives)
    difference = found["slow"]["differences"][AUC]
    np.testing.assert_allclose(difference["mean"], (slow - plain).mean(), rtol=0.01)
    low, high = ttest_rel(slow, plain).confidence_interval(0.95)
    np.testing.assert_allclose(difference["half_width"], (high - low) / 2, rtol=0.01)
    assert [remedies.verdict(found[name]["differences"][AUC]) for name in ("slow", "worse")] == [LESS, MORE]
    assert found["stuck"]["reached"] == 0
    assert np.isnan(found["stuck"]["differences"][AUC]["mean"])
    assert remedies.verdict(found["stuck"]["differences"][AUC]) == ""
    words = remedies.sentence(list(found.values()))
    assert f"least is given away by slow ({', '.join(GIVEN)}); less than the plain run: slow (" in words
    assert "not reached by stuck" in words


def test_what_would_have_shown_shows_with_the_power_that_is_said():
    rng, spread = np.random.default_rng(0), 0.1
    draws = rng.normal(size=(4000, 4)) * spread
    # Of the true spread; the quantiles are of Student's law, so the power is somewhat more than with the normal one.
    shows = np.mean([remedies.spread(draw)["shows"] for draw in draws])
    told = [remedies.verdict(remedies.spread(shows + draw)) == MORE for draw in draws]
    assert remedies.POWER - 0.1 < np.mean(told) < remedies.POWER + 0.15
    never = [remedies.verdict(remedies.spread(draw)) != "" for draw in draws]
    assert 0.035 < np.mean(never) < 0.065


@pytest.fixture
def law(tmp_path):
    """The record of a sweep in which two grammars memorize at step 80 with P = 300, as P^1.5, and a later one."""
    readings = [
        Reading(value=size, grammar=seed, step=(7 if seed == 2 else 1 + 0.01 * seed) * 79.6 * (size / 300) ** 1.5)
        for size in (300.0, 600.0, 1200.0)
        for seed in (0, 1, 2)
    ]
    landmarks = {"memorization": {"readings": [dataclasses.asdict(each) for each in readings]}}
    record.write_json(tmp_path / "sweep.json", {"laws": [{"numbers": {"landmarks": landmarks}}]})
    return str(tmp_path / "sweep.json")


def test_the_law_is_that_of_other_grammars(law):
    np.testing.assert_allclose(predicted(law, SimpleNamespace(size=2400, seed=2)), 80 * 8**1.5, rtol=0.02)
    # Of two grammars with the law, and one that is slower, the mean is between.
    assert predicted(law, SimpleNamespace(size=300, seed=0)) > 160


def test_rules_stop_where_they_say(law):
    rows = {row["rule"]: row for row in stopped([run(), run()], law)}
    steps = {rule: row["step"]["mean"] for rule, row in rows.items()}
    expected = {
        "smallest sample split": 50,
        "test loss above entropy": 500,
        "0.5 of the predicted time to memorize": 40,
        "smallest test loss": 100,
    }
    assert steps.keys() == expected.keys()
    np.testing.assert_allclose([steps[rule] for rule in expected], [*expected.values()], rtol=0.05)
    np.testing.assert_allclose(rows["smallest sample split"][EXCESS]["mean"], 0.3, rtol=0.05)
    assert "0.5 of the predicted time to memorize" not in {row["rule"] for row in stopped([run()], "")}


def test_a_curve_that_never_passes_or_always_has():
    steps = np.array([1.0, 10, 100])
    assert np.isnan(passes(steps, np.array([-1.0, -2, -1])))
    assert passes(steps, np.array([1.0, -2, 1])) == 1
    np.testing.assert_allclose(passes(steps, np.array([-1.0, 1, -1])), np.sqrt(10))


def test_the_picture_shows_the_curves_and_the_differences(tmp_path):
    runs = {PLAIN: [run(gives=x) for x in (0.5, 0.6)], "slow": [run(lag=2, gives=0.5 * x) for x in (0.5, 0.6)]}
    runs["stuck"] = [run(floor=2.0)] * 2
    rows = [row for level in (0.3, 0.2) for row in compare(level, runs)]
    curves = [{"remedy": name, **remedies.curve(each)} for name, each in runs.items()]
    (tmp_path / "remedies-smoke").mkdir()
    content = {"rows": rows, "stops": stopped(runs[PLAIN], ""), "curves": curves}
    record.write_json(tmp_path / "remedies-smoke" / "remedies.json", content)
    axes: Any = picture(Records(tmp_path, "smoke", QUESTIONS)).axes
    # What never comes so far is left out.
    assert [line.get_label() for line in axes[0].lines][:2] == [PLAIN, "slow"]
    np.testing.assert_allclose(axes[0].lines[1].get_xydata().T, [curves[1][EXCESS], curves[1][AUC]])
    assert [text.get_text() for text in axes[3].get_yticklabels()] == ["slow"]
    for row, bars in zip((row for row in rows if row["remedy"] == "slow"), axes[3].containers, strict=True):
        assert bars.lines[0].get_xdata() == [row["differences"][AUC]["mean"]]


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    options = ["--preset", "smoke", "--train-epochs", "60", "--remedies", "dropout=0.2", "--out"]
    ask("remedies", [*options, str(tmp_path / "runs")])
    said = capsys.readouterr().out
    assert "dropout 0.2" in said
    assert "where the excess loss first is" in said
    assert len(record.read_json(tmp_path / "runs" / "remedies.json")["curves"]) == 2
