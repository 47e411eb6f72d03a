"""The numbers of a small run, held as they were made: `tests/before/smoke`, by the command in its `config.json`.

Rounding differs between machines and versions, and training amplifies it: what is made before training agrees to 1e-5 of
an array's largest value, the first three checkpoints to 1e-4, and curves are smallest at the same checkpoints or at
those beside.
"""

from pathlib import Path

import numpy as np

from hierdiff import record

BEFORE = Path(__file__).parent / "before" / "smoke"
TRAINED_LITTLE = 3


def test_a_small_run_gives_the_numbers_that_it_gave(smoke_run):
    results, before = (record.read_results(folder / "results.nc") for folder in (smoke_run[0], BEFORE))
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
    curves, before = (record.read_results(folder / "curves.nc") for folder in (smoke_run[0], BEFORE))
    for name in ("excess", "divergence", "split", "error", "data_dependent"):
        lowest, expected = (np.argmin(x[name].transpose("step", ...).values, 0) for x in (curves, before))
        assert (abs(lowest - expected) <= 1).all(), name
