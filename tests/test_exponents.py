"""Power laws over sizes: exponents of synthetic runs whose law is known, with and without censored landmarks."""

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.container import ErrorbarContainer

from hierdiff.pictures import laws as album
from hierdiff.pictures import style
from hierdiff.pictures.records import Records
from hierdiff.questions import laws
from hierdiff.runs import record
from hierdiff.statistics.laws import Law, Reading, ends_of_phases, means, power_law

EXPONENT, FIRST = 0.8, 300.0


def sweep(rng, grammars=3, sizes=4, own=(0.05, 0.3), between=0.2, beside=0.1, beyond=math.inf, told=math.inf):
    """Readings of 3 P^0.8, of grammars that spread, in runs that end `beyond` the largest landmark, in log(step).

    `told` are the degrees of freedom with which a run tells its own error.
    """
    offsets = between * rng.standard_normal(grammars)
    last = math.log(3 * (FIRST * 2 ** (sizes - 1)) ** EXPONENT) + beyond
    readings = []
    for grammar, offset in enumerate(offsets):
        for size in FIRST * 2.0 ** np.arange(sizes):
            error = rng.uniform(*own)
            place = math.log(3 * size**EXPONENT) + offset + math.hypot(beside, error) * rng.standard_normal()
            half = 1.96 * error * (math.sqrt(rng.chisquare(told) / told) if told < math.inf else 1)
            steps = np.exp([place, place - half, place + half])
            where = dict(zip(("step", "low", "high"), steps, strict=True))
            if place > last:
                where = {"step": math.exp(last), "state": "later"}
            readings.append(Reading(value=size, grammar=grammar, **where))
    return readings


def cover(experiments, seed=0, **setting):
    """The share of laws whose interval holds the exponent, of those that are estimated; and the share of these."""
    rng = np.random.default_rng(seed)
    found = [power_law(sweep(rng, **setting)) for _ in range(experiments)]
    held = [law.compatible(EXPONENT) for law in found if not law.why]
    return np.mean(held), len(held) / experiments


def test_intervals_of_the_exponent_hold_it():
    """In some settings, with and without censored runs, and where runs tell their own errors badly."""
    settings: tuple[dict[str, Any], ...] = (
        {"sizes": 3},
        {"sizes": 3, "own": (0.3, 0.3), "beside": 0.0, "beyond": 0.2},
        {"beside": 0.0, "between": 0.3},
        {"beyond": -0.1, "told": 3},
    )
    held, estimated = np.mean(np.array([cover(80, **setting) for setting in settings], float), 0)
    assert 0.90 <= held <= 0.98
    assert estimated > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("told", [math.inf, 3])
@pytest.mark.parametrize("beyond", [math.inf, 0.2, -0.1])
@pytest.mark.parametrize("beside", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("own", [(0.05, 0.05), (0.05, 0.3), (0.3, 0.3)])
@pytest.mark.parametrize("sizes", [3, 4])
def test_intervals_of_the_exponent_hold_it_in_all_settings(sizes, own, beside, beyond, told):
    held, _ = cover(400, seed=1, sizes=sizes, own=own, beside=beside, beyond=beyond, told=told)
    error = math.sqrt(held * (1 - held) / 400)
    assert 0.90 - 2 * error <= held <= 0.98 + 2 * error


def test_without_censoring_the_interval_is_students():
    readings = sweep(np.random.default_rng(1), own=(0.1, 0.1), beside=0.3)
    law = power_law(readings)
    x, y = (np.log([getattr(each, name) for each in readings]).reshape(3, 4) for name in ("value", "step"))
    x, y = (each - each.mean(1, keepdims=True) for each in (x, y))
    slope = (x * y).sum() / (x**2).sum()
    freedom = 12 - 4
    error = math.sqrt(((y - slope * x) ** 2).sum() / freedom / (x**2).sum())
    half = 2.3060041 * error  # Student's quantile with eight degrees of freedom
    np.testing.assert_allclose([law.exponent, law.low, law.high], [slope, slope - half, slope + half], rtol=1e-3)
    # The band is that of the mean law; in the middle of the sizes it is the narrowest.
    widths = [math.log(high / low) for *_, low, high in law.line]
    assert min(widths) == widths[len(widths) // 2]
    assert law.line[0][0] == pytest.approx(FIRST)


def test_censored_landmarks_move_the_exponent_up():
    """Left out, they would bias it: of the largest size, only runs that are early by chance would count."""
    rng, kept, left_out = np.random.default_rng(3), [], []
    for _ in range(50):
        readings = sweep(rng, own=(0.2, 0.2), beside=0.2, beyond=-0.2)
        kept.append(power_law(readings).exponent)
        left_out.append(power_law([each for each in readings if each.reached]).exponent)
    error = np.nanstd(kept) / math.sqrt(50)
    assert abs(np.nanmean(kept) - EXPONENT) < 3 * error
    assert np.nanmean(left_out) < EXPONENT - 3 * error


def test_landmarks_before_the_first_checkpoint_count_the_other_way():
    readings = [
        Reading(
            value=size, grammar=grammar, step=size * (1 + 0.1 * grammar) * (1 + 0.02 * (size % 7)), low=1.0, high=1e9
        )
        for size in (300.0, 600.0, 1200.0)
        for grammar in range(2)
    ]
    early = [*readings, *(Reading(value=150.0, grammar=grammar, step=20.0, state="earlier") for grammar in range(2))]
    late = [*readings, *(Reading(value=150.0, grammar=grammar, step=1000.0, state="later") for grammar in range(2))]
    without, steeper, flatter = (power_law(each).exponent for each in (readings, early, late))
    assert flatter < without < steeper


@pytest.mark.parametrize(
    ("readings", "why"),
    [
        (sweep(np.random.default_rng(0), sizes=2), "reached at 2 values, needs 3"),
        (
            [Reading(value=size, grammar=0, step=9.0, state="later") for size in (1.0, 2.0, 3.0)],
            "reached at 0 values",
        ),
        ([Reading(value=size, grammar=size, step=size) for size in (1.0, 2.0, 3.0)], "no more runs"),
        ([], "reached at 0 values"),
    ],
    ids=["two sizes", "all censored", "a grammar for each size", "nothing"],
)
def test_a_law_that_cannot_be_told_says_why(readings, why):
    law = power_law(readings)
    assert why in law.why
    assert math.isnan(law.exponent)
    assert not law.compatible(1.0)
    assert law.line == ()


def test_one_grammar_has_a_law_and_an_exact_law_is_found():
    one = [
        Reading(value=size, grammar=0, step=2 * size**1.5, low=size, high=4 * size**2) for size in (1.0, 2.0, 4.0, 8.0)
    ]
    law = power_law(one)
    assert law.exponent == pytest.approx(1.5)
    assert law.low == pytest.approx(1.5, abs=0.01)
    assert law.high == pytest.approx(1.5, abs=0.01)
    assert isinstance(law, Law)
    assert law.line[-1][1] == pytest.approx(2 * 8**1.5)


def test_open_ends_and_unknown_intervals_weigh_as_what_is_known():
    assert Reading(value=1.0, grammar=0, step=10.0, low=0.0, high=20.0).error == pytest.approx(
        math.log(2) / 1.96, rel=1e-4
    )
    assert math.isnan(Reading(value=1.0, grammar=0, step=10.0, low=0.0, high=math.inf).error)
    assert math.isnan(Reading(value=1.0, grammar=0, step=10.0).error)
    assert math.isnan(Reading(value=1.0, grammar=0, step=10.0, low=5.0, high=20.0, state="later").error)


def test_means_over_grammars_with_a_common_spread():
    readings = sweep(np.random.default_rng(4), own=(0.1, 0.1))
    beyond = [Reading(value=9000.0, grammar=0, step=50.0, state="later")]
    before = [Reading(value=9.0, grammar=0, step=50.0, state="earlier")]
    found = means([*readings, *beyond, *before])
    assert list(found) == [9, 300, 600, 1200, 2400, 9000]
    logs = np.log([each.step for each in readings]).reshape(3, 4)
    reached = [found[size] for size in (300, 600, 1200, 2400)]
    np.testing.assert_allclose([each.step for each in reached], np.exp(logs.mean(0)), rtol=1e-4)
    spread = math.sqrt(((logs - logs.mean(0)) ** 2).sum() / 8)
    half = 2.3060041 * spread / math.sqrt(3)
    np.testing.assert_allclose([math.log(each.high / each.step) for each in reached], half, rtol=1e-2)
    assert not found[9000].located
    assert not found[9000].from_start
    assert found[9].from_start


def test_a_mean_lies_beyond_where_runs_have_ended():
    reached = [Reading(value=300.0, grammar=g, step=s, low=s / 1.2, high=s * 1.2) for g, s in enumerate((90.0, 110.0))]
    [alone] = means(reached).values()
    [later] = means([*reached, Reading(value=300.0, grammar=2, step=150.0, state="later")]).values()
    assert later.step > 1.1 * alone.step
    assert alone.low < alone.step < alone.high
    # Of one run there is its own interval, if it has one.
    [single] = means(reached[:1]).values()
    assert (single.low, single.high) == pytest.approx((75, 108))
    assert not means([Reading(value=300.0, grammar=0, step=9.0)])[300].reached


@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        ([10.0, 20.0, 30.0], [10, 20, 30]),
        ([25.0, 20.0, 30.0], [20, 20, 30]),
        ([10.0, 40.0, 30.0], [10, 30, 30]),
        ([math.inf, 20.0, math.inf], [20, 20, math.inf]),
        ([0.0, 0.0, 30.0], [0, 0, 30]),
    ],
)
def test_where_two_phases_hold_the_later_counts(begins, ends):
    assert ends_of_phases(begins) == ends


STEPS = np.unique(np.rint(np.geomspace(10, 20_000, 32)))
GRAMMAR = {"depth": 2, "vocab": 6, "rules": 4}
UNTOLD = {"value": None, "reached": False, "from_start": False, "resolved": True}


def planted(folder, size, offset, *, steps=STEPS, samples=True, half=0.1):
    """The record of a run whose curves pass their levels at known steps, each a power of the size, times `offset`.

    They are told to a share `half` of the level.
    """

    def passing(level, step):
        return level * (steps / (offset * step)), np.full(len(steps), half * level)

    folder.mkdir()
    own, own_half = passing(laws.BIASED, 2 * size**0.5)
    slope, slope_half = passing(0.01, 1.0 * size)
    common = 2 * laws.MISSED * (steps / (offset * 20)) ** -0.5  # of a tree that says 2
    log = np.log(steps / (offset * 3 * size**0.7))
    loss = 1 + log**2
    curves = {
        "own_against_other": own,
        "own_against_other_half": own_half,
        "slope": slope,
        "slope_half": slope_half,
        "total_error": common / 0.8,
        "total_error_half": 0 * common,
        "total_share": 0 * common + 0.2,
        "total_share_half": 0 * common + 0.02,
        "split": loss,
    }
    data = {name: (("step", "noise"), x[:, None]) for name, x in curves.items()}
    data |= {"excess": ("step", loss), "increment": ("height", [3.0, 7.0, 1.5, 0.5])}
    coordinates = {"step": steps, "noise": [0.15], "height": [-1, 0, 1, 2]}
    record.write_results(folder / "curves.nc", xr.Dataset(data, coordinates))
    if samples:
        valid, valid_half = passing(laws.VALID, 50.0)
        copies, copies_half = passing(laws.COPIED, 3.0 * size)
        both = {"validity": valid, "validity_half": valid_half, "more_copies": copies, "more_copies_half": copies_half}
        data = {name: (("step", "height"), np.stack([x, x, x / 2], 1)) for name, x in both.items()}
        coordinates = {"step": steps, "height": [0, 1, 2]}
        record.write_results(folder / "neighbours.curves.nc", xr.Dataset(data, coordinates))
    step = offset * 3 * size**0.7
    told = step < steps[-1] / 2
    landmark = {"step": step, "low": 0.9 * step, "high": 1.1 * step, "value": 1.0, "reached": True, "from_start": False}
    record.write_json(
        folder / "summary.json",
        {
            "onset": landmark if told else {"step": None, "low": None, "high": None, **UNTOLD},
            "best": landmark if told else {"step": None, "low": None, "high": None, **UNTOLD},
            "memorization": {"step": None, "low": None, "high": None, **UNTOLD},
            "onset_noise": 0.15,
            "slope_noise": 0.15,
            "slope_level": 0.01,
        },
    )
    record.write_json(folder / "config.json", {"options": {"grammar": GRAMMAR}})
    return folder


def swept(tmp_path, sizes=(300, 600, 1200), offsets=(0.9, 1.0, 1.2), **options):
    return [
        laws.Swept(
            {"size": size, "steps": 10 * size}, seed, planted(tmp_path / f"{size}-{seed}", size, each, **options)
        )
        for size in sizes
        for seed, each in enumerate(offsets)
    ]


def test_planted_laws_windows_and_phases_are_found(tmp_path):
    found = laws.found(swept(tmp_path))
    exponents = {
        "turning point": 0.7,
        "best": 0.7,
        "memorization": 1.0,
        "biased": 0.5,
        "learned": 0.0,
        "valid, height 1": 0.0,
        "valid, height 2": 0.0,
        "copies, height 1": 1.0,
        "copies, height 2": 1.0,
    }
    numbers = json.loads(json.dumps(record.as_json(found.numbers), allow_nan=False))
    assert {name: each["law"]["exponent"] for name, each in numbers["landmarks"].items()} == pytest.approx(
        exponents, abs=0.02
    )
    of = numbers["landmarks"]
    middle = (0.9 * 1.0 * 1.2) ** (1 / 3)
    assert of["memorization"]["means"][1]["step"] == pytest.approx(600 * middle, rel=0.03)
    assert of["copies, height 2"]["means"][1]["step"] == pytest.approx(2 * 3 * 600 * middle, rel=0.03)
    assert of["learned"]["means"][0]["step"] == pytest.approx(20 * middle, rel=0.05)
    assert of["memorization"]["means"][1]["low"] < 600 < of["memorization"]["means"][1]["high"]
    # Each run's interval is where the curve, told to a tenth, may be at its level.
    [first] = [x for x in of["memorization"]["readings"] if x["value"] == 600 and x["grammar"] == 1]
    assert first["low"] == pytest.approx(540, rel=0.05)
    assert first["high"] == pytest.approx(660, rel=0.05)
    for phases, size in zip(numbers["phases"], (300, 600, 1200), strict=True):
        assert phases["value"] == size
        begins = [20 * middle, 2 * size**0.5 * middle, size * middle]
        assert phases["ends"] == pytest.approx(begins, rel=0.05)
    windows = [{"height": 1, "opens": "valid, height 1", "closes": "copies, height 1", "sample_size": 6 * 4**2}]
    windows += [{"height": 2, "opens": "valid, height 2", "closes": "copies, height 2", "sample_size": 6 * 4**3}]
    assert numbers["windows"] == windows
    assert "the onset of memorization as size^1.0" in found.sentence
    assert "this is compatible with the published 1 (arXiv 2505.16959, 2505.17638)" in found.sentence
    [row] = [line for line in found.lines if line.strip().startswith("memorization") and "9 of 9" in line]
    assert row.split()[-1] == "yes"


def test_runs_that_end_too_early_are_censored(tmp_path):
    """The steps end before the largest sets are memorized; where no run gets there, no law is told."""
    found = laws.found(swept(tmp_path, sizes=(150, 300, 600, 1200), steps=STEPS[STEPS < 1000]))
    of = found.numbers["landmarks"]
    states = [reading.state for reading in of["memorization"]["readings"]]
    assert states == 9 * ["reached"] + 3 * ["later"]
    assert of["memorization"]["law"].exponent == pytest.approx(1.0, abs=0.1)
    assert of["copies, height 2"]["law"].why
    assert of["copies, height 2"]["means"][-1]["step"] != of["copies, height 2"]["means"][-1]["step"]
    assert found.numbers["phases"][-1]["ends"][-1] == math.inf
    # A turning point that is not told lies beyond where the split is smallest.
    [reading] = [x for x in of["turning point"]["readings"] if x.value == 1200 and x.grammar == 2]
    assert reading.state == "later"
    assert 300 < reading.step < 1000
    assert "not reached" in found.lines[-1] or "not estimated" in found.lines[-1]


def test_two_sizes_have_landmarks_and_no_law(tmp_path):
    found = laws.found(swept(tmp_path, sizes=(300, 600), samples=False))
    assert not found.numbers["windows"]
    assert all("at 2 values" in each["law"].why for each in found.numbers["landmarks"].values())
    assert "not estimated" in found.sentence
    assert found.numbers["landmarks"]["biased"]["means"][0]["step"] == pytest.approx(2 * 300**0.5 * 1.026, rel=0.05)


def test_one_grammar_has_its_own_intervals_and_a_wide_law(tmp_path):
    runs = swept(tmp_path, offsets=(1.0,))
    found = laws.found(runs)
    of = found.numbers["landmarks"]["memorization"]
    assert of["means"][0]["low"] == pytest.approx(270, rel=0.05)
    assert of["law"].compatible(1.0)
    assert found.numbers["grammars"] == 1


def test_a_law_needs_numbers(tmp_path):
    found = laws.found([laws.Swept({"network": "tree"}, 0, tmp_path)], "network")
    assert found.lines == []
    assert "numbers above zero" in found.sentence


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The numbers of a sweep whose runs end before the largest sets are memorized, and what draws a figure of them."""
    folder = tmp_path_factory.mktemp("sweep")
    records = Records(folder, "smoke", {"sweep": SimpleNamespace(of="runs")})
    runs = swept(folder, sizes=(150, 300, 600, 1200), steps=STEPS[STEPS < 1000])
    record.require_writable("out", folder / "sweep-smoke")
    none = laws.found([laws.Swept({"weight_decay": 0.0}, 0, folder)], "weight_decay")
    found = [each._asdict() for each in (none, laws.found(runs))]
    record.write_json(folder / "sweep-smoke" / "sweep.json", {"laws": found})
    numbers = record.read_json(folder / "sweep-smoke" / "sweep.json")["laws"][1]["numbers"]

    def draw(name):
        with style.drawing():
            return getattr(album, name)(records).axes

    return numbers, draw


def labelled(axes):
    return {str(line.get_label()): line for line in axes.lines if not str(line.get_label()).startswith("_")}


def test_the_figure_of_laws_has_runs_lines_and_arrows(drawn):
    numbers, draw = drawn
    [axes] = draw("laws")
    law = numbers["landmarks"]["memorization"]["law"]
    words = f"memorization: P^{law['exponent']:.2f} ({law['low']:.2f} to {law['high']:.2f})"
    np.testing.assert_array_equal(labelled(axes)[words].get_xydata(), np.array(law["line"])[:, :2])
    arrows = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    readings = [x for name in album.MARKERS for x in numbers["landmarks"][name]["readings"]]
    assert len(arrows) == sum(x["state"] != "reached" for x in readings) > 0
    points = [tuple(x) for line in axes.lines if len(line.get_xdata()) == 1 for x in line.get_xydata()]
    assert {(x["value"], x["step"]) for x in numbers["landmarks"]["memorization"]["readings"]} <= {*points}


def test_the_figure_of_phases_has_borders_between_shades(drawn):
    numbers, draw = drawn
    [axes] = draw("phases")
    for (_, line), name in zip(labelled(axes).items(), album.BORDERS, strict=True):
        there = [mean for mean in numbers["landmarks"][name]["means"] if mean["step"]]
        assert line.get_xydata().tolist() == [[mean["value"], mean["step"]] for mean in there]
    # A phase that has not begun at the end of the runs is not drawn there.
    *_, memorizing = [each.get_paths()[0] for each in axes.collections[: len(album.PHASES)]]
    assert memorizing.contains_point((160, 900))
    assert not memorizing.contains_point((1199, 900))
    assert [text.get_text().strip() for text in axes.texts][-2:] == ["biased", "memorizing"]


def test_the_figure_of_windows_has_a_panel_for_each_height(drawn):
    numbers, draw = drawn
    panels = draw("windows")
    assert [axes.get_title() for axes in panels] == ["height 1", "height 2"]
    for axes, window in zip(panels, numbers["windows"], strict=True):
        opens, closes, size = labelled(axes).values()
        for line, name in ((opens, window["opens"]), (closes, window["closes"])):
            there = [mean["step"] for mean in numbers["landmarks"][name]["means"] if mean["step"]]
            assert line.get_ydata().tolist() == there
        assert size.get_xdata() == 2 * [window["sample_size"]]
