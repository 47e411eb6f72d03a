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
from hierdiff.runs import record
from hierdiff.worlds.finished import open_run, snapshots
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


def test_a_record_of_before_opens_and_is_that_of_its_command(before):
    """Options that its network did not use, and that this version has for others only, stand in it."""
    run = open_run(before)
    assert run.config == OnsetConfig(
        sets=3,
        size=200,
        grammar=GrammarConfig(depth=3),
        network=TreeConfig(width=24),
        train=TrainConfig(steps=200, batch=64, checkpoints=12, first_checkpoint=10, snapshots=3),
        measure=MeasureConfig(held_out=100, members=50, noise=(0.1, 0.15, 0.3)),
    )
    assert [step for step, _ in snapshots(run)] == [10, 51, 200]
    record.require_folder(before, run.config)


@pytest.mark.parametrize(("name", "value"), [("layers", 7), ("novel", 1)])
def test_a_record_with_an_option_that_there_is_not_is_refused_in_one_sentence(name, value, before, capsys):
    content = record.read_json(before / "config.json")
    content["options"]["network"][name] = value
    record.write_json(before / "config.json", content)
    sentence = f"{name}: got {value}, needs to be an option of this version of hierdiff; another one made this record"
    for script, options in (("membership", ["--run"]), ("onset", [*SMOKE, "--out"])):
        with pytest.raises(SystemExit, match="2"):
            ask(script, [*options, str(before)])
        printed = capsys.readouterr().err
        assert sentence in printed
        assert printed.count("\n") == 1
