"""The numbers of a small run, held in `tests/numbers`, and a record of an older version, in `tests/before/smoke`.

Both were made by the command in their attributes, with the options of XLA that the tests set. Rounding differs between
machines and versions, and training amplifies it: what is made before training agrees to 1e-5 of an array's largest
value, the first three checkpoints to 1e-4, and curves are smallest at the same checkpoints or at those beside.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from runs import SMOKE, ask

from hierdiff.errors import option
from hierdiff.grammar import GrammarConfig
from hierdiff.learning.network import TreeConfig
from hierdiff.learning.train_config import TrainConfig
from hierdiff.questions import QUESTIONS, training
from hierdiff.runs import record
from hierdiff.runs.checkpoint import save
from hierdiff.runs.options import recorded
from hierdiff.worlds.finished import open_run
from hierdiff.worlds.run_config import MeasureConfig, OnsetConfig
from hierdiff.worlds.sequences import Sequences

NUMBERS = Path(__file__).parent / "numbers"
BEFORE = Path(__file__).parent / "before" / "smoke"
# What the preset had then.
OF_BEFORE = [*SMOKE, "--members", "50"]
TRAINED_LITTLE = 3


def test_a_small_run_gives_the_numbers_that_it_gave(smoke_run):
    results, before = (record.read_results(folder / "results.nc") for folder in (smoke_run[0], NUMBERS))
    # What is measured besides has come since.
    assert {name: results[name].dims for name in before} == {name: x.dims for name, x in before.items()}
    assert results.coords.to_dataset().drop_attrs().identical(before.coords.to_dataset().drop_attrs())
    for name, expected in before.items():
        trained = "step" in expected.dims
        tolerance = (1e-4 if trained else 1e-5) * float(abs(expected).max())
        early = {"step": slice(TRAINED_LITTLE)} if trained else {}
        found, expected = (x.isel(early).values for x in (results[name], expected))
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=str(name))


def test_its_curves_are_smallest_where_they_were(smoke_run):
    """No minimum of so short a run has an interval; a checkpoint to either side is what rounding may do."""
    curves, before = (record.read_results(folder / "curves.nc") for folder in (smoke_run[0], NUMBERS))
    for name in ("excess", "divergence", "split", "error", "data_dependent"):
        lowest, expected = (np.argmin(x[name].transpose("step", ...).values, 0) for x in (curves, before))
        assert (abs(lowest - expected) <= 1).all(), name


@pytest.fixture
def before(tmp_path):
    return shutil.copytree(BEFORE, tmp_path / "run")


def test_a_record_of_before_is_that_of_its_command(before):
    """Options that its network did not use, and that this version has for others only, stand in it."""
    config = recorded(OnsetConfig(), record.read_json(before / "config.json")["options"])
    assert config == OnsetConfig(
        sets=3,
        size=200,
        grammar=GrammarConfig(depth=3),
        network=TreeConfig(width=24),
        train=TrainConfig(steps=200, batch=64, checkpoints=12, first_checkpoint=10, snapshots=3),
        measure=MeasureConfig(held_out=100, members=50, noise=(0.1, 0.15, 0.3)),
    )
    record.require_folder(before, config)


def refused(capsys, script, options):
    with pytest.raises(SystemExit, match="2"):
        ask(script, options)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    return printed


OF_A_RUN = [name for name, entry in QUESTIONS.items() if entry.of == "run" and entry.training == "onset"]


def test_networks_whose_data_would_be_drawn_otherwise_are_asked_nothing_and_not_gone_on_with(before, capsys):
    """Their grammar would be another; the sentence says which command makes the run anew."""
    words = "this one is older, and made anew by python -m experiments.onset --preset smoke --steps 200"
    fitting = {question: ["--targets", "100"] for question in ("losses", "membership", "first")}
    assert "membership" in OF_A_RUN
    for question in OF_A_RUN:
        assert words in refused(capsys, question, [*fitting.get(question, []), "--run", str(before)])
    (before / "summary.json").unlink()
    (before / "state").mkdir()
    save(before / "state", 10, {"x": np.zeros(1)})
    sentence = refused(capsys, "onset", [*OF_BEFORE, "--out", str(before)])
    assert words in sentence
    assert "with another --out" in sentence


# What a summary has since, and what stood otherwise within its parts.
SINCE = {"table", "memorization", "own_since", "price", "own_against_other", "excess_bound", "excess_bound_minimum"}
SINCE |= {"slope_noise", "slope_level", "members", "networks"}
OTHERWISE = {"resolved", "confidence", "before", "significant", "half_width", "information"}


def shape_of(content):
    """The keys of a summary, with the form of what stands under them."""
    if isinstance(content, dict):
        return {key: shape_of(value) for key, value in content.items() if key not in SINCE | OTHERWISE}
    return [shape_of(each) for each in content] if isinstance(content, list) else None


def test_a_summary_of_before_is_shown_and_has_the_form_of_this_version(smoke_run, before, monkeypatch, capsys):
    """The verdict that it holds; how much the split grows at each noise level is there since."""
    monkeypatch.setattr(training, "run", None)
    content, now = (record.read_json(folder / "summary.json") for folder in (before, smoke_run[0]))
    ask("onset", [*OF_BEFORE, "--out", str(before)])
    assert f"\n\n{content['verdict']}\n" in capsys.readouterr().out
    assert record.read_json(before / "summary.json") == content
    assert "not reached" in "\n".join(now["table"])
    assert set(now) >= SINCE
    for row in now["noise"]:
        row.pop("growth")
    assert shape_of(content) == shape_of(now)


@pytest.mark.parametrize(("name", "value"), [("layers", 7), ("novel", 1)])
def test_a_record_with_an_option_that_there_is_not_is_refused_in_one_sentence(name, value, before, capsys):
    content = record.read_json(before / "config.json")
    content["options"]["network"][name] = value
    record.write_json(before / "config.json", content)
    sentence = f"{name}: got {value}, needs to be an option of this version of hierdiff; another one made this record"
    for script, options in (("membership", ["--run"]), ("onset", [*OF_BEFORE, "--out"])):
        assert sentence in refused(capsys, script, [*options, str(before)])


@pytest.fixture
def finished(smoke_run, tmp_path):
    """A run of today, to be made a record of another version."""
    return shutil.copytree(smoke_run[0], tmp_path / "run")


def rewritten(folder, change):
    """Let `change` change the options of a run wherever they stand in its record."""
    content = record.read_json(folder / "config.json")
    change(content["options"])
    record.write_json(folder / "config.json", content)
    for name in ("results.nc", "curves.nc"):
        results = record.read_results(folder / name)
        options = json.loads(results.attrs["options"])
        change(options)
        assert options == content["options"]
        record.write_results(folder / name, results.assign_attrs(options=json.dumps(options)))


def is_that_run(folder, config, monkeypatch, capsys):
    """Its command shows it, does nothing again and writes nothing; it is opened, and a question to it is answered."""
    options, summary = (record.read_json(folder / name) for name in ("config.json", "summary.json"))
    monkeypatch.setattr(training, "run", None)
    ask("onset", [*SMOKE, "--out", str(folder), "--resume", "must"])
    assert "\n".join([*summary["table"], "", summary["verdict"]]) in capsys.readouterr().out
    assert [record.read_json(folder / name) for name in ("config.json", "summary.json")] == [options, summary]
    assert open_run(folder, Sequences).config == config
    ask("losses", ["--preset", "smoke", "--run", str(folder)])
    sentence = record.read_json(folder / "summary.json")["losses"]["sentence"]
    assert sentence in capsys.readouterr().out


def test_a_record_that_does_not_know_some_options_is_the_same_run(finished, monkeypatch, capsys):
    """It was made before there were these options, whose values now are what was done then."""
    config = open_run(finished, Sequences).config

    def remove(options):
        del options["seeds_per_set"], options["process"], options["loss"]
        del options["train"]["optimizer"], options["network"]["dtype"]

    rewritten(finished, remove)
    is_that_run(finished, config, monkeypatch, capsys)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Novel(OnsetConfig):
    """Experiment."""

    novel: int = option(3, "what the next version can be told")


@pytest.mark.slow
def test_an_option_that_is_added_makes_no_finished_run_foreign(finished, monkeypatch, capsys):
    """At another value than its default, the run would be another."""
    config = Novel(**vars(open_run(finished, Sequences).config))
    onset = QUESTIONS["onset"]
    presets = {name: Novel(**vars(preset)) for name, preset in onset.presets.items()}
    monkeypatch.setitem(QUESTIONS, "onset", dataclasses.replace(onset, presets=presets))
    monkeypatch.setattr(Sequences, "CONFIG", Novel)
    is_that_run(finished, config, monkeypatch, capsys)
    sentence = refused(capsys, "onset", [*SMOKE, "--novel", "4", "--out", str(finished)])
    assert "this one holds a run with other novel (3 there)" in sentence
