"""Masking and uniform noise through all of it: a run of each, its record, and every question to it."""

import numpy as np
import pytest
from runs import ask, asked

from hierdiff.questions import training
from hierdiff.runs import record
from hierdiff.runs.options import recorded
from hierdiff.worlds.run_config import OnsetConfig

pytestmark = pytest.mark.slow

TINY = ["--preset", "smoke", "--depth", "2", "--vocab", "4", "--rules", "4", "--size", "50", "--noise-levels", "50"]
TINY += ["--width", "8", "--batch", "16", "--steps", "40", "--checkpoints", "3", "--held-out", "100"]
TINY += ["--snapshots", "2", "--noise", "0.4", "0.8", "--onset-noise", "0.4"]
LOSSES = {"masking": "bound", "uniform": "cross-entropy"}
QUESTIONS = {
    "membership": ["--targets", "50", "--others", "50", "--draws", "2"],
    "losses": ["--targets", "50"],
    "first": ["--targets", "50", "--draws", "2"],
    "uturn": ["--starts", "50", "--turns", "0.5", "--reverse-steps", "4"],
    "neighbours": ["--samples", "50", "--reverse-steps", "4"],
    "copying": ["--samples", "50", "--reverse-steps", "2", "4"],
    "trajectories": ["--sequences", "100", "--levels", "0.4", "--reverse-steps", "4"],
    "noise": ["--sequences", "100", "--levels", "0.4", "0.8"],
}


@pytest.fixture(scope="module", params=["masking", "uniform"])
def tiny(request, tmp_path_factory):
    """The name of a process, the options of a run with it, and the folder of that run."""
    options = [*TINY, "--process", request.param, "--loss", LOSSES[request.param]]
    folder = tmp_path_factory.mktemp(request.param)
    ask("onset", [*options, "--out", str(folder)])
    return request.param, options, folder


def test_its_record_is_that_of_its_command(tiny, monkeypatch, capsys):
    """It is shown and not done again; with another loss it would be another."""
    process, options, folder = tiny
    config = recorded(OnsetConfig(), record.read_json(folder / "config.json")["options"])
    assert (config.process, config.loss) == (process, LOSSES[process])
    assert (config.measure.noise, config.measure.onset_noise) == ((0.4, 0.8), 0.4)
    assert config == asked(monkeypatch, "onset", options)[0]
    monkeypatch.setattr(training, "run", None)
    ask("onset", [*options, "--out", str(folder), "--resume", "must"])
    assert record.read_json(folder / "summary.json")["verdict"] in capsys.readouterr().out
    other = next(loss for loss in LOSSES.values() if loss != LOSSES[process])
    with pytest.raises(SystemExit, match="2"):
        ask("onset", [*options, "--loss", other, "--out", str(folder)])
    assert f"a run with other loss ({LOSSES[process]} there)" in capsys.readouterr().err


def test_all_that_is_measured_is_finite_but_a_slope_that_too_few_define(tiny):
    process, _, folder = tiny
    results, summary = record.read_results(folder / "results.nc"), record.read_json(folder / "summary.json")
    rare = {"empirical"} if process == "masking" else set()
    assert {name for name in results if not np.isfinite(results[name]).all()} == rare
    bits = [row["information"] for row in summary["noise"]]
    assert np.log2(4) * 4 > bits[0] > bits[1] + 0.5 > 0.5
    assert ("shared" in results) == (process == "masking")
    assert all((row["slope"]["at_best"] is None) == bool(rare) for row in summary["noise"])
    assert all(0 < row["shared"] < 1 for row in summary["noise"] if rare)
    for name in ("excess", "excess_bound", "member_excess"):
        each = results[name].mean(set(results[name].dims) - {"step"})
        assert (each > 0).all(), name
        assert each[-1] < 0.9 * each[0], name


@pytest.mark.parametrize(
    "question",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("losses", "noise", "trajectories") else name
        for name in QUESTIONS
    ],
)
def test_every_question_is_answered(tiny, question):
    process, _, folder = tiny
    ask(question, [*QUESTIONS[question], "--run", str(folder)])
    curves, summary = record.read_results(folder / f"{question}.curves.nc"), record.read_json(folder / "summary.json")
    rare = {"empirical", "slope"} if (question, process) == ("noise", "masking") else set()
    if question == "membership":
        # Of 50 others none shows where 1% of all lie.
        rare = {"true"}
    if question == "trajectories":
        # There is no third data set.
        curves = curves.sel(states=["held-out", "exact", "own"])
    if question == "first":
        # A leaf has no rule.
        rare = {"weights", "most"}
    # Two data sets have no intervals, what is measured on members no errors, and shares of next to nothing are blank.
    values = curves[[name for name in curves if not str(name).endswith(("_error", "_half", "share"))]]
    assert {str(name).split("_")[0] for name in values if not np.isfinite(values[name]).all()} == rare
    assert "not estimated" in summary[question]["sentence"]
    assert curves.sizes["step"] == 2


@pytest.mark.parametrize("order", ["random", "confidence"])
def test_masked_symbols_are_shown_one_after_another(tiny, order, capsys):
    """With the exact score no string is then wrong; noise that does not mask knows no order."""
    process, _, folder = tiny
    options = ["--samples", "50", "--reverse-steps", "4", "--order", order, "--run", str(folder)]
    if process == "masking":
        ask("neighbours", options)
        exact = record.read_results(folder / "neighbours.results.nc").exact_validity
        np.testing.assert_array_equal(exact, 1)
    else:
        with pytest.raises(SystemExit, match="2"):
            ask("neighbours", options)
        need = "needs level: noise that is uniform shows no symbols one after another"
        assert f"--order: got {order}, {need}" in capsys.readouterr().err
