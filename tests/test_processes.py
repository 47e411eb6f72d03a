"""Three noises compared: where the bound has the same excess, and what is copied there."""

import numpy as np
import pytest
import xarray as xr
from runs import ask

from hierdiff.questions import QUESTIONS, processes
from hierdiff.questions.configs import CopyingConfig
from hierdiff.runs import record
from hierdiff.statistics.replicates import replicate

STEPS = np.array([10.0, 20, 40, 80, 160, 320])
SETS = {"network": np.arange(4)[:, None], "pair": np.array([[a, b] for a in range(4) for b in range(a)])}


def planted(bound, copies, seed, noise=0.0):
    """A run whose bound and copies are these curves along training, with noise of each network, pair and group."""
    rng = np.random.default_rng(seed)

    def labelled(mean, *dims):
        sizes = {"network": 4, "pair": 6, "reverse_steps": 2, "height": 3, "group": 50}
        shape = [len(STEPS), *(sizes[dim] for dim in dims)]
        mean = np.reshape(mean, (-1, *(1,) * len(dims)))
        return ("step", *dims), mean * (1 + noise * rng.standard_normal(shape))

    variables = xr.Dataset(
        {
            "excess_bound": labelled(bound, "network", "group"),
            "more_copies": labelled(copies, "pair", "reverse_steps", "height", "group"),
        },
        {"step": STEPS, "reverse_steps": [5, 50], "height": [0, 1, 2]},
    )
    return replicate(variables.data_vars, SETS)


def test_a_curve_falls_to_a_value_for_the_first_time_on_a_line_in_logarithms():
    curves = np.array([[8.0, 4, 2, 1, 2, 4], [1, 8, 4, 2, 1, 1], [9, 8, 7, 6, 5, 5]])
    found = np.exp(processes.falls_to(np.sqrt(8.0), STEPS, curves))
    np.testing.assert_allclose(found[0], 20 * np.sqrt(2))
    # One is there from the start, and one never, of which the smallest place is the first of two.
    np.testing.assert_allclose(found[1:], [10, 160])
    np.testing.assert_allclose(np.exp(processes.falls_to(4.0, STEPS, curves[0])), 20)


def test_copies_are_compared_where_the_bound_has_the_same_excess():
    """The second noise comes to the same excess at half the steps, and copies half as much at each step."""
    first = planted(64 / STEPS, STEPS / 1000, seed=0)
    second = planted(32 / STEPS, STEPS / 2000, seed=1)
    rows = processes.compare({"first": first, "second": second})
    assert [row["process"] for row in rows] == ["first", "second"] * (len(rows) // 2)
    assert len({row["at"] for row in rows}) == processes.VALUES + 1
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        assert one["more"] == {"mean": 0.0, "half_width": 0.0}
        if one["at"] == "the smallest":
            assert one["step"] == pytest.approx(other["step"]) == pytest.approx(320)
            assert other["copies"]["mean"] == pytest.approx(0.16)
            continue
        value = float(one["at"].split()[0])
        assert one["step"] == pytest.approx(64 / value, rel=0.01)
        assert other["step"] == pytest.approx(32 / value, rel=0.01)
        assert one["copies"]["mean"] == pytest.approx(one["step"] / 1000, rel=0.1)
        assert other["more"]["mean"] == pytest.approx(other["copies"]["mean"] - one["copies"]["mean"])
        assert other["more"]["mean"] < -0.6 * one["copies"]["mean"]


@pytest.mark.slow
def test_intervals_hold_the_truth_and_tell_a_difference():
    def found(copies, seed):
        return planted(64 / STEPS, copies, seed, noise=0.3)

    alike = [processes.compare({"a": found(STEPS / 1000, i), "b": found(STEPS / 1000, 100 + i)}) for i in range(40)]
    covered = [abs(row["more"]["mean"]) <= row["more"]["half_width"] for rows in alike for row in rows[1::2]]
    assert 0.85 < np.mean(covered) <= 1
    unlike = processes.compare({"a": found(STEPS / 1000, 0), "b": found(STEPS / 500, 1)})
    assert all(row["more"]["mean"] > row["more"]["half_width"] > 0 for row in unlike[1::2])
    assert "b by +" in processes.sentence(unlike, "a")


def test_runs_that_reach_no_common_excess_are_compared_where_it_is_smallest_alone():
    rows = processes.compare(
        {"a": planted(64 / STEPS, STEPS / 1000, seed=0), "b": planted(6400 / STEPS, STEPS / 1000, seed=1)}
    )
    assert {row["at"] for row in rows} == {"the smallest"}
    assert "as often, within the intervals" in processes.sentence(rows, "a")


@pytest.mark.slow
def test_the_runs_of_all_noises_are_made_and_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(QUESTIONS["copying"].presets, "smoke", CopyingConfig(samples=50, reverse_steps=(2, 4)))
    command = ["--preset", "smoke", "--depth", "2", "--steps", "40", "--checkpoints", "3", "--out", str(tmp_path)]
    ask("processes", command)
    first = record.read_json(tmp_path / "processes.json")
    assert first["sentence"] in capsys.readouterr().out
    assert [row["process"] for row in first["landmarks"]] == ["gaussian", "masking", "uniform"]
    folders = [tmp_path / row["folder"] for row in first["landmarks"]]
    noise = [record.read_json(folder / "config.json")["options"] for folder in folders[:2]]
    assert [options["measure"]["onset_noise"] for options in noise] == [0.15, 0.4]
    with pytest.raises(SystemExit, match="2"):
        ask("processes", [*command, "--process", "masking"])
    assert "--process is not an option of hierdiff processes: --processes gives it" in capsys.readouterr().err

    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr("hierdiff.questions.training.carry_out", fail)
    ask("processes", command)
    assert record.read_json(tmp_path / "processes.json")["copies"] == first["copies"]
