"""What a run says of planted measurements: its statistics, its minima, its table and its one sentence."""

import dataclasses
import json

import numpy as np
import pytest
import xarray as xr

from hierdiff.grammar import GrammarConfig
from hierdiff.measures.divergence import pairs
from hierdiff.questions import training
from hierdiff.questions.snapshots import agreement
from hierdiff.runs import laboratory, record
from hierdiff.statistics import story, words
from hierdiff.statistics.landmarks import Landmark, nowhere
from hierdiff.statistics.replicates import Statistics
from hierdiff.statistics.story import OWN, Looked, Summary
from hierdiff.statistics.words import around, interval, since
from hierdiff.worlds.run_config import MeasureConfig, OnsetConfig
from hierdiff.worlds.sequences import Sequences, spectrum_parts

STEPS = np.unique(np.rint(np.geomspace(40, 8000, 32)))
GROUPS, NOISE = 50, [0.1, 0.15]


def valley(step: float, width: float = 0.1) -> np.ndarray:
    """A curve whose minimum is at `step`."""
    return 0.3 + width * np.log(STEPS / step) ** 2


# Passes 0.01 at step 1,000, and is zero up to step 200.
SLOPE, OWN_CURVE = 0.01 + 0.004 * np.log(STEPS / 1000), 0.2 * np.log(np.maximum(STEPS / 200, 1))


def planted(
    *, split, excess, data_dependent, slope=SLOPE, leaning=OWN_CURVE, seed_share=0.0, seeds=1, sets=4, seed=0
) -> xr.Dataset:
    """Measurements whose means are known: `data_dependent[h]` is a curve for each height -1..1, the common part is 1.

    On its own members the loss of a network is lower than on others' by `leaning`; all losses have noise of 0.01.
    Pairs on one data set have `seed_share` of the split and of the data-dependent part. Each group of sequences has its
    own noise, and each data set its own factor.
    """
    rng = np.random.default_rng(seed)
    data_set = np.repeat(np.arange(sets), seeds)
    networks = len(data_set)
    first, second = pairs(networks)
    level = np.array([1.0, seed_share])[(data_set[first] == data_set[second]).astype(int)]
    factor = 1 + 0.03 * rng.standard_normal(sets)

    def noisy(x, units):
        return x[..., None, None] * units[:, None] * (1 + 0.05 * rng.standard_normal((*x.shape, len(units), GROUPS)))

    every_noise = np.stack(len(NOISE) * [split], 1)
    own = np.stack(len(NOISE) * [np.stack(data_dependent, 1)], 1)
    shape = (len(STEPS), len(NOISE), 3)
    # <d e_A, d e_B> = 1, and less by the pair's data-dependent part than the diagonal, which is 1 + the full one.
    spectrum = np.ones((*shape, networks, networks, GROUPS))
    index = np.arange(networks)
    spectrum[..., index, index, :] += own[..., None, None]
    same = (data_set[:, None] == data_set[None]) & ~np.eye(networks, dtype=bool)
    spectrum += (1 - seed_share) * own[..., None, None, None] * same[..., None]
    spectrum += 1e-3 * rng.standard_normal(GROUPS)
    by_network, by_pair = np.ones(networks), level * 0.5 * (factor[data_set[first]] + factor[data_set[second]])
    towards = np.stack(len(NOISE) * [4 * np.asarray(slope)], 1)
    members = 5 - leaning[:, None, None, None] * (data_set[:, None] == np.arange(sets)) * np.ones((len(NOISE), 1, 1))
    return xr.Dataset(
        {
            "split": (("step", "noise", "pair", "group"), noisy(every_noise, by_pair)),
            "excess": (("step", "network", "group"), noisy(np.asarray(excess), factor[data_set])),
            "spectrum": (("step", "noise", "height", "network", "other", "group"), spectrum),
            "learned": (("step", "noise", "height", "network", "group"), noisy(0.5 * np.ones(shape), by_network)),
            "slope": (("step", "noise", "pair", "group"), noisy(towards, by_pair)),
            "member_loss": (
                ("step", "noise", "network", "members_of"),
                members + 0.01 * rng.standard_normal(members.shape),
            ),
            "divergence": (
                ("step", "noise", "filtered", "network", "group"),
                noisy(np.stack(2 * [every_noise], 2), by_network),
            ),
            "excess_bound": (("step", "network", "group"), noisy(10 * valley(1500), factor[data_set])),
            "scale": (("noise", "filtered", "group"), np.ones((len(NOISE), 2, GROUPS))),
            "increment": (("noise", "height", "group"), np.full((len(NOISE), 3, GROUPS), 2.0)),
            "empirical": (("noise", "pair", "group"), np.full((len(NOISE), len(first), GROUPS), 4.0)),
        },
        {
            "step": STEPS,
            "noise": NOISE,
            "filtered": [0, 1],
            "height": [-1, 0, 1],
            "network": index,
            "other": index,
            "members_of": np.arange(sets),
            "first": ("pair", first),
            "second": ("pair", second),
            "data_set": ("network", data_set),
        },
    )


HEIGHTS = [0.1 * valley(100), 0.2 * valley(300), 0.4 * valley(900, 0.3)]


ABOUT = {"coincidences": 0, "seconds_training": 60.0, "seconds_measuring": 6.0}
LOOKED = Looked(onset_noise=0.15, slope_noise=0.15, slope_level=0.01, members=50, networks=4)


def statistics(results: xr.Dataset) -> Statistics:
    return laboratory.statistics(Sequences, results)


def summary_of(results: xr.Dataset) -> Summary:
    return story.summarise(Sequences.STORY, statistics(results), looked=LOOKED, epoch=8.0, about=ABOUT)


def table(summary: Summary) -> str:
    return words.table(Sequences.STORY, summary)


def verdict(summary: Summary) -> str:
    return words.verdict(Sequences.STORY, summary)


@pytest.fixture(scope="module")
def summary():
    return summary_of(planted(split=valley(800), excess=valley(3000), data_dependent=HEIGHTS))


def test_planted_minima_are_found_with_their_intervals(summary):
    """Give or take the 2% that a fit to so few checkpoints may shift them: the planted noise is less."""
    for found, step in ((summary.onset, 800), (summary.memorization, 1000), (summary.best, 3000)):
        assert found.reached
        assert found.step == pytest.approx(step, rel=0.03)
        assert 0.98 * found.low < step < 1.02 * found.high
    assert summary.ratio.low < 3000 / 800 < summary.ratio.high
    assert summary.ratio.confidence > 0.99
    assert [row["onset"].step for row in summary.rows["heights"]] == pytest.approx([100, 300, 900], rel=0.05)
    assert summary.rows["heights"][2]["ratio"].ratio == pytest.approx(3000 / 900, rel=0.1)
    assert [row["noise"] for row in summary.rows["noise"]] == NOISE
    assert summary.rows["noise"][0]["onset"].low < 800 < summary.rows["noise"][0]["onset"].high


def test_values_and_errors_at_the_minima(summary):
    for row, curve in zip(summary.rows["heights"], HEIGHTS, strict=True):
        expected = np.interp(np.log(summary.onset.step), np.log(STEPS), curve)
        assert row["data_dependent"].at_onset == pytest.approx(expected, rel=1e-6)
        assert row["error"].at_onset == pytest.approx(1 + expected, rel=1e-2)
        assert row["share"].at_onset == pytest.approx(expected / row["error"].at_onset, rel=1e-3)
        assert row["learned"].at_best == pytest.approx(0.25, rel=0.02)
        # 0.05 / 4 from each of 4 networks and 50 groups, at the two checkpoints that the value is made of.
        share = np.interp(np.log(summary.best.step), np.log(STEPS), np.arange(len(STEPS))) % 1
        expected = 0.0125 / np.sqrt(4 * 50) * np.hypot(share, 1 - share)
        assert 0.5 < row["learned"].at_best_error / expected < 2
    assert summary.values["slope"].at_best == pytest.approx(at(summary.best.step, SLOPE), rel=0.05)


def at(step: float, curve: np.ndarray) -> float:
    return float(np.interp(np.log(step), np.log(STEPS), curve))


def test_own_against_other_and_the_price_of_stopping_late(summary):
    """What is planted is its mean; the growth from turning point to best has an interval that holds the truth."""
    own = summary.values[OWN]
    assert own.at_onset == pytest.approx(at(summary.onset.step, OWN_CURVE), abs=0.02)
    assert own.at_best == pytest.approx(at(summary.best.step, OWN_CURVE), abs=0.02)
    grown = at(summary.best.step, OWN_CURVE) - at(summary.onset.step, OWN_CURVE)
    assert abs(summary.price.value - grown) < summary.price.half_width < 0.1
    assert summary.price.significant
    # The curve leaves zero at step 200.
    assert 200 <= summary.own_since < 300
    priced = around(summary.price.value, summary.price.half_width, 3)
    assert f"grows by {priced} until best, the price of stopping late" in verdict(summary)
    told = f"it is told from zero from step {summary.own_since:,.0f} on, with more from earlier on"
    assert f"with 50 members of each set and 4 networks looked at {told}" in verdict(summary)


def test_own_against_other_that_stays_at_zero_is_not_told_from_it():
    none = planted(split=valley(800), excess=valley(3000), data_dependent=HEIGHTS, leaning=np.zeros_like(STEPS))
    summary = summary_of(none)
    assert np.isnan(summary.own_since)
    assert summary.price is not None
    assert abs(summary.price.value) < summary.price.half_width
    assert "it is not told from zero for good" in verdict(summary)


@pytest.mark.parametrize(
    ("slope", "sets", "expected"),
    [
        (SLOPE, 4, "passes 0.01 at step {}"),
        (SLOPE, 2, "passes 0.01 at step {}"),
        (np.full_like(STEPS, 0.05), 4, "is above 0.01 from the first checkpoint on"),
        (np.full_like(STEPS, 0.005), 4, "is not told to pass 0.01 within 8,000 steps"),
    ],
)
def test_the_onset_of_memorization_in_words(slope, sets, expected):
    results = planted(split=valley(800), excess=valley(3000), data_dependent=HEIGHTS, slope=slope, sets=sets)
    summary = summary_of(results)
    found = summary.memorization
    assert (found.reached, found.located) == ("{}" in expected and sets > 2, "{}" in expected)
    said = f"the memorization slope at t/T = 0.15 {expected.format(interval(found))};"
    assert said in verdict(summary)
    assert f"onset of memorization, slope 0.01 at t/T = 0.15: step {interval(found)}" in table(summary)


def landmark(step=800.0, low=600.0, high=900.0, **more):
    return Landmark(step, low, high, 0.3, **{"reached": True, "from_start": False, **more})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (landmark(), "800 (600 to 900)"),
        (landmark(low=0.0), "800 (open to 900)"),
        (landmark(high=np.inf), "800 (600 to open)"),
        (landmark(low=np.nan, high=np.nan, reached=False), "800 (not estimated)"),
        (landmark(resolved=False), "between 600 and 900"),
        (nowhere(), "not reached"),
        (nowhere(from_start=True), "from the start"),
    ],
)
def test_a_landmark_in_words(found, expected):
    assert interval(found) == expected


def test_a_turning_point_that_no_checkpoint_resolves_lies_between_two(summary):
    summary = dataclasses.replace(summary, onset=landmark(resolved=False))
    assert "the turning point lies between 600 and 900 of the training steps" in verdict(summary)
    assert "turning point of the sample split: step between 600 and 900" in table(summary)


def test_since_when_something_is_told_from_zero_in_words():
    assert since("they copy", 1200.0, 4) == "they copy from step 1,200 on"
    assert since("they copy", np.nan, 4) == "they copy at no step for good"
    assert since("they copy", np.nan, 2) == "from which step on they copy is not estimated with two data sets"


def test_other_measures_beside_the_split(summary):
    """As a summary in JSON has them; with two data sets no step is none."""
    content = record.as_json(summary.content()) | {"membership": {"since": None}}
    said = agreement(content, "the sample split")
    assert said.startswith(f"Minima, by measure: sample split {interval(summary.onset)}; test loss ")
    assert said.endswith("Significant since step: membership none.")
    assert agreement(content | {"sets": 2}, "the sample split").endswith("membership not estimated.")


def test_onsets_of_heights_are_shown_where_their_interval_is_closed_and_called_indicative(summary):
    def line(summary, height):
        return next(line for line in table(summary).splitlines() if line.lstrip().startswith(f"{height}  "))

    assert "indicative onset, step (95%)" in table(summary)
    row = summary.rows["heights"][2]
    assert interval(row["onset"]) in line(summary, 1)
    assert line(summary, 1).endswith(f"{row['ratio'].confidence:.2f}")
    for end in ({"low": 0.0}, {"high": np.inf}):
        rows = [*summary.rows["heights"][:2], row | {"onset": dataclasses.replace(row["onset"], **end)}]
        hidden = dataclasses.replace(summary, rows=summary.rows | {"heights": rows})
        assert line(hidden, 1).split()[-2:] == ["-", "-"]


def test_where_the_bound_is_smallest_is_said(summary):
    least = summary.minima["excess_bound"]
    assert least.low < 1500 < least.high
    assert least.value == pytest.approx(3, rel=0.05)
    line = next(line for line in table(summary).splitlines() if line.startswith("excess of the bound"))
    assert line.endswith(f", smallest at step {interval(least)}")
    assert table(summary).count("smallest at step") == 2


def test_the_error_of_a_curve_counts_data_sets_and_sequences():
    """The standard error of the split, against its spread over independent experiments."""
    runs = [
        statistics(planted(split=valley(800), excess=valley(3000), data_dependent=HEIGHTS, seed=seed)).curves()
        for seed in range(30)
    ]
    spread = np.std([run.split.values for run in runs], axis=0, ddof=1)
    claimed = np.sqrt(np.mean([run.split_error.values**2 for run in runs], axis=0))
    assert np.mean(claimed / spread) == pytest.approx(1, abs=0.25)


def test_the_table_and_the_verdict_name_what_was_planted(summary):
    assert f"step {summary.onset.step:,.0f}" in verdict(summary)
    assert "3.7" in verdict(summary) or "3.8" in verdict(summary)
    assert "grows most at height 1" in verdict(summary)
    words = table(summary)
    assert words.count("not reached") == 0
    assert sum(line.strip().startswith(("0 ", "1 ", "prior ")) for line in words.splitlines()) == 5


def test_without_a_rise_no_onset_is_claimed():
    falling = 0.3 + 1 / np.log(STEPS)
    summary = summary_of(planted(split=falling, excess=valley(3000), data_dependent=[falling] * 3))
    assert not summary.onset.reached
    said = "At t/T = 0.15 there is no turning point within 8,000 steps: the sample split does not rise significantly"
    assert verdict(summary).startswith(said)
    assert "not reached" in table(summary)
    assert np.isnan(summary.values["split"].at_onset)


def test_a_split_that_rises_from_the_first_checkpoint_is_not_taken_for_one_that_falls():
    rising = 0.05 * np.log(STEPS / 20)
    summary = summary_of(planted(split=rising, excess=valley(3000), data_dependent=[rising, *HEIGHTS[1:]]))
    assert verdict(summary).startswith("At t/T = 0.15 networks on different data part from the first checkpoint on")
    assert "from the start" in table(summary)


def test_growth_is_claimed_only_where_there_is_some():
    falling = [0.2 - 0.01 * np.log(STEPS)] * 3
    summary = summary_of(planted(split=valley(800), excess=valley(3000), data_dependent=falling))
    assert "grows significantly at no height" in verdict(summary)


def test_two_data_sets_give_steps_without_intervals():
    """Nothing is reached, no confidence is given and nothing is told from zero."""
    summary = summary_of(planted(split=valley(800), excess=valley(3000), data_dependent=HEIGHTS, sets=2))
    for found, step in ((summary.onset, 800), (summary.memorization, 1000), (summary.best, 3000)):
        assert found.step == pytest.approx(step, rel=0.1)
        assert (found.reached, np.isnan(found.low), np.isnan(found.high)) == (False, True, True)
        assert f"step {found.step:,.0f} (not estimated)" in verdict(summary)
    assert summary.price is not None
    assert np.isnan([summary.ratio.confidence, summary.own_since, summary.price.half_width]).all()
    assert summary.price.value == pytest.approx(0.2 * np.log(3000 / 800), abs=0.05)
    # What is measured on members has no test samples.
    assert np.isnan(summary.values[OWN].at_best_error)
    assert "confidence" not in verdict(summary)
    assert "told from zero" not in verdict(summary)
    assert verdict(summary).endswith("tell nothing of how the choice of the data moves any of this; four would do.")
    assert "standard errors of the test samples alone" in table(summary)


def test_a_best_step_beyond_the_run_is_said():
    summary = summary_of(planted(split=valley(800), excess=1 / np.log(STEPS), data_dependent=HEIGHTS))
    assert "no clear minimum within 8,000 steps" in verdict(summary)
    assert "at the last step, 8,000 (best is not reached)" in table(summary)
    assert summary.read_at["best"] == 8000
    assert np.isnan(summary.ratio.confidence)
    assert "own against other" in verdict(summary)
    assert "until the end, the price of stopping late" in verdict(summary)


def test_an_onset_after_the_best_step_is_said():
    summary = summary_of(planted(split=valley(3000), excess=valley(800), data_dependent=HEIGHTS))
    assert "the test loss is smallest before that, at step" in verdict(summary)
    assert "later with confidence 0.00 (one-sided)" in verdict(summary)
    assert summary.ratio.confidence < 0.01


def test_heights_decide_where_the_split_has_two_minima():
    bumps = np.interp(np.log(STEPS), np.log([40, 60, 300, 700, 1500, 8000]), [0, 1, 0.2, 0.5, 0.3, 0.9])
    summary = summary_of(planted(split=bumps, excess=valley(4000), data_dependent=HEIGHTS))
    assert summary.onset.step == pytest.approx(300, rel=0.15)
    assert summary.last_significant_minimum == pytest.approx(1500, rel=0.15)
    assert "turns up from another minimum too, at step 1," in verdict(summary)
    assert "(height 0)" in verdict(summary)
    assert "(height 1)" in verdict(summary)
    ends_low = np.interp(np.log(STEPS), np.log([40, 60, 300, 700, 8000]), [0, 1, 0.3, 0.6, 0.1])
    for best, above in ((1500, True), (4000, False)):
        summary = summary_of(planted(split=ends_low, excess=valley(best), data_dependent=HEIGHTS))
        assert "there is no turning point" in verdict(summary)
        assert ("turns up from another minimum too" in verdict(summary)) == above


def test_two_seeds_on_one_data_set_tell_the_seeds_part_from_the_datas():
    results = planted(split=valley(800), excess=valley(3000), data_dependent=HEIGHTS, seeds=2, sets=3, seed_share=0.25)
    summary = summary_of(results)
    split, seed, data = summary.values["split"], summary.values["seed_split"], summary.values["data_split"]
    assert seed is not None
    assert data is not None
    assert seed.at_best / split.at_best == pytest.approx(0.25, rel=0.03)
    assert data.at_best == pytest.approx(split.at_best - seed.at_best)
    for row in summary.rows["heights"]:
        assert row["seed_dependent"] is not None
        assert row["of_the_data"] is not None
        assert row["seed_dependent"].at_best == pytest.approx(0.25 * row["data_dependent"].at_best, rel=1e-6)
        assert row["of_the_data"].at_best == pytest.approx(0.75 * row["data_dependent"].at_best, rel=1e-6)
    assert "two seeds on one data set" in table(summary)


def test_where_memorizers_rarely_have_an_answer_there_is_no_slope(tmp_path):
    """At the first of two noise levels: null in the summary and a dash in the table; at the other both are as ever."""
    results = planted(split=valley(800), excess=valley(3000), data_dependent=HEIGHTS)
    results.empirical[0] = np.nan
    shared = np.stack([np.full(results.empirical.shape[1:], each) for each in (0.125, 0.75)])
    summary = summary_of(results.assign(shared=(results.empirical.dims, shared)))
    record.write_json(tmp_path / "summary.json", said(summary))
    content = record.read_json(tmp_path / "summary.json")
    of_first, of_second = content["noise"]
    assert of_first["slope"] == dict.fromkeys(("at_onset", "at_onset_error", "at_best", "at_best_error"))
    assert of_second["slope"]["at_best"] == content["slope"]["at_best"] == pytest.approx(at(3000, SLOPE), rel=0.1)
    assert [row["shared"] for row in content["noise"]] == [0.125, 0.75]
    line = next(line for line in content["table"] if "both memorizers know" in line)
    of_first, of_second = content["table"][content["table"].index(line) + 1 :][:2]
    assert " - " in of_first
    assert " 0.12 " in of_first
    assert " - " not in of_second
    assert " 0.75 " in of_second


def test_where_nothing_is_to_be_learned_there_is_no_learned_fraction(tmp_path):
    """At one height the increments are rounding: blank in the record, null in the summary, a dash with its reason."""
    results = planted(split=valley(800), excess=valley(3000), data_dependent=HEIGHTS)
    rng = np.random.default_rng(0)
    results.increment[:, 2] = 1e-14 * rng.random((len(NOISE), GROUPS))
    results.learned[:, :, 2] = 1e-9 * rng.standard_normal(results.learned[:, :, 2].shape)
    curves = statistics(results).curves()
    for name in ("learned", "learned_error", "learned_half"):
        np.testing.assert_array_equal(curves[name].isnull().all(("step", "noise")), [False, False, True])
        assert np.isfinite(curves[name][:, :, :2]).all()
    np.testing.assert_array_equal(curves.increment[:, 2] > 0, True)
    summary = summary_of(results)
    record.write_json(tmp_path / "summary.json", said(summary))
    content = record.read_json(tmp_path / "summary.json")
    assert [row["learned"]["at_best"] is None for row in content["heights"]] == [False, False, True]
    reason = "learned: - where nothing is to be learned: the height adds no more than rounding"
    assert reason in content["table"]
    line = next(line for line in content["table"] if line.lstrip().startswith("1  "))
    assert line.split()[1] == "-"
    assert reason not in table(summary_of(planted(split=valley(800), excess=valley(3000), data_dependent=HEIGHTS)))


def said(summary: Summary) -> dict:
    """As `summary.json` has it."""
    return summary.content() | {"table": table(summary).splitlines(), "verdict": verdict(summary)}


def held(read, x):
    """Of what JSON holds of `x`: numbers as they were, null where they are not finite; what is None is not there."""
    if dataclasses.is_dataclass(x):
        x = {name: value for name, value in vars(x).items() if value is not None and name != "deviations"}
    if isinstance(x, dict):
        return set(read) == set(x) and all(held(read[name], value) for name, value in x.items())
    if isinstance(x, list):
        return len(read) == len(x) and all(map(held, read, x))
    return read is None if isinstance(x, float) and not np.isfinite(x) else read == x


@pytest.fixture(scope="module")
def world():
    measure = MeasureConfig(held_out=100, members=50)
    return Sequences.set_up(OnsetConfig(sets=2, size=50, grammar=GrammarConfig(depth=1), measure=measure))


@pytest.mark.parametrize("shape", ["all reached", "none reached", "open", "two minima", "two seeds"])
def test_a_summary_on_disk_holds_the_numbers_and_the_words(shape, summary, world, tmp_path, capsys):
    """Valid JSON, where what is not finite is null; shown as it was written, whatever other questions have added."""
    falling, seeds = 0.3 + 1 / np.log(STEPS), {"seeds": 2, "sets": 3, "seed_share": 0.25}
    if shape == "none reached":
        summary = summary_of(planted(split=falling, excess=falling, data_dependent=[falling] * 3))
    elif shape == "open":
        onset, ratio = (dataclasses.replace(found, low=0.0, high=np.inf) for found in (summary.onset, summary.ratio))
        summary = dataclasses.replace(summary, onset=onset, ratio=ratio)
    elif shape == "two minima":
        summary = dataclasses.replace(summary, last_significant_minimum=0.5 * summary.onset.low)
    elif shape == "two seeds":
        summary = summary_of(planted(split=valley(800), excess=valley(3000), data_dependent=HEIGHTS, **seeds))
    expected = said(summary)
    record.write_json(tmp_path / "summary.json", expected)
    text = (tmp_path / "summary.json").read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert content == record.read_json(tmp_path / "summary.json")
    assert held(content, expected)
    minima = {f"{name}_minimum": found for name, found in summary.minima.items()}
    parts = {*vars(summary), *vars(LOOKED), *summary.values, *minima, *summary.rows, *ABOUT, "table", "verdict"}
    parts -= {*story.NESTED}
    assert parts - {"data_onset"} <= set(content) <= parts
    for name in ("onset", "best", "ratio", "read_at"):
        assert held(content[name], getattr(summary, name))
    assert all(held(content[name], value) for name, value in (summary.values | minima | summary.rows | ABOUT).items())
    assert (content["table"], content["verdict"]) == (table(summary).splitlines(), verdict(summary))
    assert ("data_onset" in content) == ("of_the_data" in content["heights"][0]) == (shape == "two seeds")
    assert (content["onset"]["step"] is None) == (shape == "none reached")
    assert (content["onset"]["high"] is None) == (shape in ("none reached", "open"))
    assert ("(open to open)" in content["verdict"]) == (shape == "open")
    assert "another minimum too" in content["verdict"] or shape != "two minima"

    record.write_json(tmp_path / "summary.json", content | {"uturn": {"since": [], "sentence": ""}, "agreement": ""})
    training.show(tmp_path, world)
    assert f"{table(summary)}\n\n{verdict(summary)}\n" in capsys.readouterr().out


def test_the_parts_of_a_spectrum_are_those_planted():
    results = planted(split=valley(800), excess=valley(3000), data_dependent=HEIGHTS)
    parts = spectrum_parts(results).mean("group")
    own = np.stack(HEIGHTS, 1)[:, None, :, None]
    for name, expected in (("error", 1 + own), ("common", 1.0), ("data_dependent", own)):
        x = parts[name].transpose("step", "noise", "height", ...)
        np.testing.assert_allclose(x, np.broadcast_to(expected, x.shape), atol=2e-3)


def test_a_share_of_an_error_that_is_not_told_from_zero_is_blank():
    """At its checkpoints, height and noise level alone: its mean, its error, its interval, and what is read there."""
    results = planted(split=valley(800), excess=valley(3000), data_dependent=HEIGHTS)
    # Of one height at the first noise level until step 5, and of all heights at the second at the last step.
    noise = np.resize([1.0, -1.0], GROUPS) + 1e-3
    results.spectrum[:5, 0, 1] = noise
    results.spectrum[-1, 1] = noise
    found = statistics(results)
    curves = found.curves()
    blank = np.zeros((len(STEPS), len(NOISE), 3), bool)
    blank[:5, 0, 1] = blank[-1, 1] = True
    for name in ("share", "share_error", "share_half"):
        np.testing.assert_array_equal(np.isnan(curves[name].transpose("step", "noise", "height")), blank)
    for name in ("total_share", "total_share_error", "total_share_half"):
        np.testing.assert_array_equal(np.isnan(curves[name].transpose("step", "noise")), blank.all(-1))
    assert np.isfinite(curves[["error", "data_dependent", "total_error"]].to_array("name")).all()
    share = found.curve("share", noise=NOISE[0], height=0)
    between = np.sqrt(STEPS[10] * STEPS[11])
    assert share.at(between).mean[0] == pytest.approx(share.mean[10:12].mean())
    assert np.isfinite(share.at(STEPS[5]).replicates).all()
    assert np.isnan([share.at(step).mean[0] for step in (STEPS[4], 0.5 * (STEPS[4] + STEPS[5]), np.nan)]).all()
