"""The numbers of a small run, held in `tests/numbers`, and a record of an older version, in `tests/before/smoke`.

Both were made by the command in their attributes, with the options of XLA that the tests set. Rounding differs between
machines and versions, and training amplifies it: what is made before training agrees to 1e-5 of an array's largest
value, the first three checkpoints to 1e-4, and curves are smallest at the same checkpoints or at those beside.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from runs import SMOKE, ask

from hierdiff.grammar import GrammarConfig
from hierdiff.learning.network import TreeConfig
from hierdiff.learning.train_config import TrainConfig
from hierdiff.questions import onset
from hierdiff.runs import record
from hierdiff.runs.checkpoint import save
from hierdiff.runs.options import recorded
from hierdiff.worlds.run_config import MeasureConfig, OnsetConfig

NUMBERS = Path(__file__).parent / "numbers"
BEFORE = Path(__file__).parent / "before" / "smoke"
TRAINED_LITTLE = 3


def test_a_small_run_gives_the_numbers_that_it_gave(smoke_run):
    results, before = (record.read_results(folder / "results.nc") for folder in (smoke_run[0], NUMBERS))
    assert {name: x.dims for name, x in results.items()} == {name: x.dims for name, x in before.items()}
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


def test_networks_whose_data_would_be_drawn_otherwise_are_asked_nothing_and_not_gone_on_with(before, capsys):
    """Their grammar would be another; the sentence says which command makes the run anew."""
    words = "this one is older, and made anew by python -m experiments.onset --preset smoke --steps 200"
    assert words in refused(capsys, "membership", ["--run", str(before)])
    (before / "summary.json").unlink()
    (before / "state").mkdir()
    save(before / "state", 10, {"x": np.zeros(1)})
    sentence = refused(capsys, "onset", [*SMOKE, "--out", str(before)])
    assert words in sentence
    assert "--resume never" in sentence


def shape_of(content):
    """The keys of a summary, with the form of what stands under them."""
    if isinstance(content, dict):
        return {key: shape_of(value) for key, value in content.items()}
    return [shape_of(each) for each in content] if isinstance(content, list) else None


def test_a_summary_of_before_is_shown_and_has_the_form_of_this_version(smoke_run, before, capsys):
    content = record.read_json(before / "summary.json")
    summary = record.from_json(onset.Summary, content)
    assert record.as_json(summary) == content
    assert onset.verdict(summary) == content["verdict"]
    onset.show(before)
    assert f"{onset.table(summary)}\n\n{content['verdict']}\n" in capsys.readouterr().out
    assert "not reached" in onset.table(summary)
    assert shape_of(content) == shape_of(record.read_json(smoke_run[0] / "summary.json"))


@pytest.mark.parametrize(("name", "value"), [("layers", 7), ("novel", 1)])
def test_a_record_with_an_option_that_there_is_not_is_refused_in_one_sentence(name, value, before, capsys):
    content = record.read_json(before / "config.json")
    content["options"]["network"][name] = value
    record.write_json(before / "config.json", content)
    sentence = f"{name}: got {value}, needs to be an option of this version of hierdiff; another one made this record"
    for script, options in (("membership", ["--run"]), ("onset", [*SMOKE, "--out"])):
        assert sentence in refused(capsys, script, [*options, str(before)])
