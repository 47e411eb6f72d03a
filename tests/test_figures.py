"""What the figures plot is what the records hold; what is missing is said, and made."""

import importlib
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.image import AxesImage
from runs import asked

from figures.__main__ import main as draw_all
from hierdiff import called
from hierdiff.pictures import album, command, style
from hierdiff.pictures.records import (
    ATTRIBUTION,
    LABELS,
    LARGE,
    MIDDLE,
    ONSET,
    PROCESSES,
    SIZES,
    SMALL,
    STOPPING,
    Need,
    Records,
    needs,
)
from hierdiff.questions import QUESTIONS, Entry, stopping
from hierdiff.questions.configs import Both
from hierdiff.runs import record

STEPS, NOISE, HEIGHTS, FILTERED = [10, 100, 1000], [0.1, 0.15], [-1, 0, 1, 2], [0, 1, 2]
TURNS, KINDS, INPUTS, ATTACKS = (
    [0.1, 0.3],
    ["training", "held-out", "random"],
    ["training", "held-out"],
    ["calibrated", "uncalibrated"],
)
COORDINATES = {
    "step": STEPS,
    "noise": NOISE,
    "height": HEIGHTS,
    "filtered": FILTERED,
    "turn": TURNS,
    "start": KINDS,
    "inputs": INPUTS,
    "attack": ATTACKS,
    "false_positives": [0.01, 0.001],
    "reverse_steps": [5, 50],
    "weight": [0.0, 2.0],
    "way": ["w = 0", "w = 2", "late"],
    "states": ["held-out", "exact", "own", "other"],
    "block": [0, 1, 2],
    "copies": [1, 2, 4],
}
MEASURED = {
    "divergence": ("step", "noise", "filtered"),
    "split": ("step", "noise"),
    "member_split": ("step", "noise"),
    "slope": ("step", "noise"),
    "excess": ("step",),
    "member_excess": ("step",),
    "learned": ("step", "noise", "height"),
    "error": ("step", "noise", "height"),
    "data_dependent": ("step", "noise", "height"),
    "share": ("step", "noise", "height"),
    "excess_bound": ("step",),
    "information": ("noise",),
}
# Of each question, the variables that figures read, and their dimensions.
VARIABLES = {
    ONSET: MEASURED,
    "noise": MEASURED,
    "neighbours": {"neighbour_divergence": ("step",), "own_divergence": ("step",), "neighbour_floor": ()},
    "membership": {"area": ("step", "attack"), "true_positives": ("step", "attack", "false_positives")},
    "losses": {
        "loss_average": ("step", "inputs"),
        "to_exact_average": ("step", "inputs"),
        "known_average": ("inputs", "step"),
    },
    "first": {
        "probability": ("step",),
        "distance": ("step",),
        "frequency": ("step", "height"),
        "weights": ("step", "height"),
        "by_copies": ("step", "copies"),
    },
    "copying": {
        "more_copies": ("step", "reverse_steps", "height"),
        "excess_bound": ("step",),
    },
    "trajectories": dict.fromkeys(("data_dependent", "share", "beyond_exact"), ("step", "states", "noise")),
    "uturn": {
        "ratio_of_means": ("step", "turn", "start"),
        "overlap": ("step", "turn", "start"),
        "of_filtered": ("turn", "filtered"),
        "of_empirical": ("turn",),
    },
}
GUIDED = {
    **{
        f"{of}_{name}": ("step", "noise", "weight")
        for of in ("total", "times")
        for name in ("common", "data_dependent")
    },
    **dict.fromkeys(("nearer", "beyond_agreement", "beyond_diversity"), ("step", "way")),
    "more_copies": ("step", "way", "block"),
}
FIGURES = command.albums(QUESTIONS)
STOPS = Need(STOPPING, STOPPING)
THREE = Need(PROCESSES, PROCESSES)
ATTRIBUTED, SCORED = Need(ATTRIBUTION, ATTRIBUTION), ("loss of a sequence", "data-dependent part")

MADE = {"command": "python -m experiments.made", "commit": "0123"}


def found(step, **more):
    return {"step": step, "low": 0.5 * step, "high": None, "value": 0.3, "reached": True, **more}


NOWHERE = {"step": None, "low": None, "high": None, "reached": False}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Records of all questions with values of their own, in the form of the program's."""
    rng = np.random.default_rng(0)
    records = Records(tmp_path_factory.mktemp("runs"), "smoke", QUESTIONS)
    three = [records.run(PROCESSES) / name for name in ("gaussian", "masking", "uniform")]
    for number, folder in enumerate([*map(records.run, SIZES), *three], 1):
        folder.mkdir(parents=True)
        for question, variables in VARIABLES.items():
            curves = xr.Dataset(attrs=MADE)
            for name, dims in variables.items():
                shape = [len(COORDINATES[dim]) for dim in dims]
                curves[name] = dims, rng.uniform(0.1, 1, shape)
                for end in ("error", "half"):
                    curves[f"{name}_{end}"] = dims, rng.uniform(0.01, 0.02, shape)
                if name == "share":
                    # Not told from zero is what it is of.
                    curves[name] = curves[name].where(rng.uniform(size=shape) < 0.8)
            used = {dim: COORDINATES[str(dim)] for dim in curves.dims}
            file = "curves.nc" if question == ONSET else f"{question}.curves.nc"
            record.write_results(folder / file, curves.assign_coords(used))
        summary = {
            "onset": found(30.0 * number),
            "memorization": found(60.0 * number),
            "best": found(400.0 * number),
            "read_at": {"onset": 30.0 * number, "best": 400.0 * number},
            "onset_noise": 0.15,
            "steps": 1000,
            "divergences": [{"filtered": k, "minimum": found(100.0)} for k in FILTERED],
            **{question: {} for question in VARIABLES if question != ONSET},
        }
        record.write_json(folder / "summary.json", summary)
    labels = records.run(LABELS)
    labels.mkdir()
    for file, variables in (("curves.nc", {"excess": ("step",)}), ("guidance.curves.nc", GUIDED)):
        curves = xr.Dataset(attrs=MADE)
        for name, dims in variables.items():
            for end in ("", "_half"):
                curves[f"{name}{end}"] = dims, rng.uniform(0.1, 1, [len(COORDINATES[dim]) for dim in dims])
        used = {dim: COORDINATES[str(dim)] for dim in curves.dims}
        record.write_results(labels / file, curves.assign_coords(used))
    by_weight = [{"weight": w, "onset": found(30.0 - w), "best": found(300.0 - w)} for w in COORDINATES["weight"]]
    record.write_json(labels / "summary.json", {"guidance": {"weights": by_weight}})
    stops = [
        {"seed": seed, "size": size, "rule": rule, "reached": True, "step": 10.0 * (1 + seed)}
        | dict.fromkeys(stopping.COSTS, 0.1 * (1 + seed))
        for seed in range(3)
        for size in (200, 300)
        for rule in stopping.RULES
    ]
    records.file(STOPS).parent.mkdir()
    rows = stopping.summarise(stops)
    record.write_json(records.file(STOPS), {"stops": stops, "rows": rows, **MADE})
    minima = {name: found(100.0) for name in ("onset", "best", "excess_bound_minimum")}
    landmarks = [
        {"process": folder.name, "folder": folder.name, "noise": 0.15, "bits": 20.0, **minima} for folder in three
    ]
    record.write_json(records.file(THREE), {"landmarks": landmarks, **MADE})
    scores = [
        {"method": method, "share": share, "kind": kind, "step": step, "value": rng.uniform(), "error": 0.1}
        for method in ("one", "another")
        for share in (0.5, 0.1)
        for kind in SCORED
        for step in STEPS
    ]
    shared = [
        {"method": method, "height": height, "step": step, "value": rng.uniform(), "error": 0.1}
        for method in ("metagradient", "retrained")
        for height in HEIGHTS
        for step in STEPS
    ]
    records.file(ATTRIBUTED).parent.mkdir()
    told = {"read_at": {"turning point": 100, "end": 1000}, "scores": scores, "shared": shared}
    record.write_json(records.file(ATTRIBUTED), told | MADE)
    return records


def function(name):
    """What draws a figure."""
    return getattr(importlib.import_module(FIGURES[name]), name)


def drawn(name, records):
    """The axes of a figure."""
    with style.drawing():
        figure = function(name)(records)
    return figure.axes


def curves(records, size=MIDDLE, question=ONSET):
    return record.read_results(records.file(Need(question, size)))


def same(line, expected, x=None):
    np.testing.assert_array_equal(line.get_ydata(), expected)
    if x is not None:
        np.testing.assert_array_equal(line.get_xdata(), x)


def labelled(axes):
    """The curves of a panel that have a name."""
    return [line for line in axes.lines if not str(line.get_label()).startswith("_")]


def test_training_and_set_sizes(records):
    for name, sizes in (("training", [MIDDLE]), ("set_sizes", [SMALL, LARGE])):
        axes = drawn(name, records)
        for size, (left, right) in zip(sizes, np.reshape(axes, (-1, 2)), strict=True):
            at = curves(records, size).sel(noise=0.15)
            for k, line in zip(FILTERED, labelled(left), strict=True):
                same(line, at.divergence.sel(filtered=k), STEPS)
            for variable, line in zip(
                ("split", "member_split", "excess", "member_excess"), labelled(right), strict=True
            ):
                same(line, at[variable], STEPS)


def test_noise(records):
    """The middle step 800 of the middle size is read at the snapshot 1,000; the small one's 400 at 100."""
    for size, step, axes in zip(SIZES, (100, 1000, 1000), drawn("noise", records), strict=True):
        at = curves(records, size, "noise").sel(step=step)
        for k, line in zip(FILTERED, labelled(axes), strict=True):
            same(line, at.divergence.sel(filtered=k), NOISE)


def test_which_sequences_come_first(records):
    at, (alone, blocks, rules, several) = curves(records, question="first"), drawn("first", records)
    for name, line in zip(("probability", "distance"), labelled(alone), strict=True):
        same(line, at[name], STEPS)
    for name, axes in (("frequency", blocks), ("weights", rules)):
        for height, line in zip(HEIGHTS, labelled(axes), strict=True):
            same(line, at[name].sel(height=height), STEPS)
    for number, line in zip(COORDINATES["copies"], labelled(several), strict=True):
        same(line, at.by_copies.sel(copies=number), STEPS)


def test_samples_losses_and_uturns(records):
    above, below = drawn("samples", records)
    at = curves(records, question="neighbours")
    floor, papers, own = labelled(above)
    same(floor, 2 * [float(at.neighbour_floor)])
    same(papers, at.neighbour_divergence, STEPS)
    same(own, at.own_divergence, STEPS)
    same(labelled(below)[0], curves(records).excess, STEPS)

    left, right = drawn("losses", records)
    at = curves(records, question="losses")
    same(labelled(left)[0], at.loss_average.sel(inputs="training"), STEPS)
    same(labelled(left)[1], at.to_exact_average.sel(inputs="training"), STEPS)
    for inputs, line in zip(INPUTS, labelled(right), strict=True):
        same(line, at.known_average.sel(inputs=inputs), STEPS)

    at = curves(records, question="uturn").ratio_of_means
    for step, axes in zip((100, 1000), drawn("uturns", records), strict=True):
        for start, line in zip(("training", "held-out"), labelled(axes), strict=True):
            same(line, at.sel(step=step, start=start), TURNS)


def test_trajectories(records):
    """At the snapshots nearest to the turning point and to best; what others are compared with is a line."""
    at, axes = curves(records, question="trajectories"), np.reshape(drawn("trajectories", records), (2, 3))
    missing = {"data_dependent": None, "share": "held-out", "beyond_exact": "exact"}
    for step, row in zip((100, 1000), axes, strict=True):
        for panel, (name, reference) in zip(row, missing.items(), strict=True):
            kinds = [kind for kind in COORDINATES["states"] if kind != reference]
            for kind, bars in zip(kinds, panel.containers, strict=True):
                same(bars.lines[0], at[name].sel(step=step, states=kind))


def test_other_sizes(records):
    for size, row in zip((SMALL, LARGE), np.reshape(drawn("other_sizes", records), (4, 2)).T, strict=True):
        same(labelled(row[0])[1], curves(records, size, "neighbours").neighbour_divergence)
        same(labelled(row[1])[0], curves(records, size, "losses").known_average.sel(inputs="training"))
        ratio = curves(records, size, "uturn").ratio_of_means.sel(start="training")
        for axes, step in zip(row[2:], {SMALL: (10, 100), LARGE: (100, 1000)}[size], strict=True):
            same(labelled(axes)[0], ratio.sel(step=step))


def test_random_strings(records):
    left, right = drawn("random_strings", records)
    at = curves(records, question="uturn")
    for step, line in zip((100, 1000, 1000), labelled(left), strict=True):
        same(line, at.overlap.sel(step=step, start="random"), TURNS)
    for k, line in zip(FILTERED, labelled(right)[:-1], strict=True):
        same(line, at.of_filtered.sel(filtered=k), TURNS)
    same(labelled(right)[-1], at.of_empirical, TURNS)


def test_spectrum_and_memorization(records):
    at = curves(records)
    for variable, axes in zip(("learned", "error", "data_dependent"), drawn("spectrum", records), strict=True):
        for h, line in zip(HEIGHTS[1:], labelled(axes), strict=True):
            same(line, at[variable].sel(noise=0.15, height=h), STEPS)
    left, right = drawn("memorization", records)
    for t, line in zip(NOISE, labelled(left), strict=True):
        same(line, at.slope.sel(noise=t), STEPS)
    at = curves(records, question="membership")
    for attack, line in zip(ATTACKS, labelled(right), strict=True):
        same(line, at.area.sel(attack=attack), STEPS)
    for attack, *lines in zip(ATTACKS, *map(labelled, drawn("attacks", records)), strict=True):
        same(lines[0], at.area.sel(attack=attack), STEPS)
        for line, share in zip(lines[1:], (0.01, 0.001), strict=True):
            same(line, at.true_positives.sel(attack=attack, false_positives=share), STEPS)


def test_heights_and_noise(records):
    """At the onset, at best and at the end; what noise makes of a share stays blank."""
    axes = drawn("heights_and_noise", records)
    at = curves(records, question="noise").isel(height=slice(1, None)).transpose(..., "height", "noise")
    top = float(at.data_dependent.max())
    for column, step in enumerate((100, 1000, 1000)):
        here = at.sel(step=step)
        (image,), (share,) = (axes[column + row * 3].get_images() for row in (0, 1))
        assert isinstance(image, AxesImage)
        np.testing.assert_array_equal(image.get_array(), here.data_dependent.clip(min=1e-3 * top))
        np.testing.assert_array_equal(np.ma.getmaskarray(share.get_array()), np.isnan(here.share))


def test_stopping(records):
    content = json.loads(records.file(STOPS).read_text())
    for cost, axes in zip(stopping.COSTS, drawn("stopping", records), strict=True):
        for rule, bars in zip(stopping.RULES, axes.containers, strict=True):
            rows = [row for row in content["rows"] if row["rule"] == rule]
            same(bars.lines[0], [row[cost]["mean"] for row in rows])


def test_attribution(records):
    content, axes = record.read_json(records.file(ATTRIBUTED)), drawn("attribution", records)
    for panel, share, kind in zip(axes, (0.5, 0.1, 0.5), (SCORED[0], *SCORED), strict=False):
        for bars, method in zip(panel.containers, ("one", "another"), strict=True):
            rows = [
                row for row in content["scores"] if (row["method"], row["share"], row["kind"]) == (method, share, kind)
            ]
            same(bars.lines[0], [row["value"] for row in rows], STEPS)
    # A quarter of the turning point's step is nearest to 10.
    drawn_at = [(step, method) for step in (10, 100, 1000) for method in ("metagradient", "retrained")]
    for bars, at in zip(axes[3].containers, drawn_at, strict=True):
        rows = [row for row in content["shared"] if (row["step"], row["method"]) == at]
        np.testing.assert_allclose(bars.lines[0].get_ydata(), [1e3 * row["value"] for row in rows])


def test_three_noises_beside_each_other(records):
    folders = [records.run(PROCESSES) / name for name in ("gaussian", "masking", "uniform")]
    axes = drawn("processes", records)
    for panel, name in zip(axes[:3], ("split", "excess", "excess_bound"), strict=True):
        for line, folder in zip(labelled(panel), folders, strict=True):
            at = record.read_results(folder / "curves.nc").sel(noise=0.15)
            same(line, at[name], STEPS)
    for panel, folder, step in zip(axes[3:], folders, (1000, 1000, 1000), strict=True):
        at = record.read_results(folder / "curves.nc").sel(step=step)
        order = np.argsort(at.information.values)
        for line, height in zip(labelled(panel), HEIGHTS[1:], strict=True):
            same(line, at.data_dependent.sel(height=height)[order], at.information.values[order])
    for panel, steps in zip(drawn("copies", records), (5, 50), strict=True):
        for bars, folder in zip(panel.containers, folders, strict=True):
            at = record.read_results(folder / "copying.curves.nc").sel(reverse_steps=steps, height=2)
            same(bars.lines[0], at.more_copies, at.excess_bound)


def marks(found):
    """The lines and the bands at the turning point of a run, in the panel of a record."""
    _, axes = style.subplots(1, 1, figsize=(4, 3))
    axes.plot(STEPS, STEPS)
    style.mark(axes, {"onset": found, "best": NOWHERE}, ["turning point"])
    lines = [float(np.asarray(line.get_xdata())[0]) for line in axes.lines[1:]]
    boxes = [patch.get_path().get_extents(patch.get_patch_transform()) for patch in axes.patches]
    return lines, [(float(box.x0), float(box.x1)) for box in boxes], [text.get_text() for text in axes.texts]


def test_landmarks_are_marked_by_what_is_known_of_them():
    """An open end reaches to the end of the panel; without an interval there is a line, unresolved a band alone."""
    assert marks(found(100.0, high=200.0)) == ([100.0], [(50.0, 200.0)], ["turning point"])
    assert marks(found(100.0, low=0.0)) == ([100.0], [(10.0, 1000.0)], ["turning point"])
    assert marks(found(100.0, low=None, reached=False)) == ([100.0], [], ["turning point"])
    assert marks(found(100.0, high=200.0, resolved=False)) == ([], [(50.0, 200.0)], ["turning point"])
    assert marks(NOWHERE) == ([], [], [])


def test_names_of_landmarks_that_are_near_do_not_overlap():
    _, axes = style.subplots(1, 1, figsize=(4, 3))
    axes.plot(STEPS, STEPS)
    near = {"onset": found(100.0), "memorization": found(105.0), "best": found(500.0)}
    style.over_training(axes, near, None)
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 3
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


@pytest.mark.slow
def test_a_minimum_that_is_not_located_is_not_drawn(records, tmp_path):
    shutil.copytree(records.folder, tmp_path, dirs_exist_ok=True)
    without = Records(tmp_path, "smoke", QUESTIONS)
    three = [without.run(PROCESSES) / name for name in ("gaussian", "masking", "uniform")]
    for folder in [*map(without.run, SIZES), *three]:
        summary = record.read_json(folder / "summary.json")
        for name in ("onset", "best"):
            summary[name] |= NOWHERE
        summary["read_at"] = {"onset": None, "best": 1000.0}
        record.write_json(folder / "summary.json", summary)
    labels = without.run(LABELS) / "summary.json"
    by_weight = record.read_json(labels)["guidance"]["weights"]
    nowhere = [row | {"onset": NOWHERE, "best": NOWHERE} for row in by_weight]
    record.write_json(labels, {"guidance": {"weights": nowhere}})
    for name in FIGURES:
        # Those of images and of laws have records of their own in their tests.
        if name.startswith("image_") or name in QUESTIONS["sweep"].pictures:
            continue
        axes = drawn(name, without)
        words = [text.get_text() for each in axes for text in (*each.texts, each.title)]
        words += [str(line.get_label()).removeprefix("networks, ") for each in axes for line in each.lines]
        words = [word for word in words if word in style.MINIMA or (", step" in word and "end" not in word)]
        assert not words


def test_pictures_name_the_record_and_the_command_that_made_it(records, tmp_path, capsys):
    draw_all(["stopping", "noise", "--preset", "smoke", "--runs", str(records.folder), "--out", str(tmp_path)])
    assert capsys.readouterr().out.split() == [str(tmp_path / f"{name}.png") for name in ("stopping", "noise")]
    for suffix in ("png", "pdf"):
        content = (tmp_path / f"stopping.{suffix}").read_bytes()
        assert b"stopping.json: python -m experiments.made; commit 0123" in content
    assert b"smoke-0/noise.curves.nc" in (tmp_path / "noise.png").read_bytes()


def test_a_record_is_named_from_where_the_command_was_given(tmp_path, monkeypatch):
    made = {"command": "python -m x", "commit": None}
    here = tmp_path / "here"
    here.mkdir()
    (here / "linked").symlink_to(tmp_path)
    monkeypatch.chdir(here)
    for path, name in (
        ("runs/a/curves.nc", "runs/a/curves.nc"),
        (here / "runs" / "a" / "curves.nc", "runs/a/curves.nc"),
        ("linked/a/curves.nc", "linked/a/curves.nc"),
        (tmp_path / "elsewhere" / "a" / "curves.nc", "a/curves.nc"),
        ("../curves.nc", f"{tmp_path.name}/curves.nc"),
    ):
        assert style.origin(Path(path), made) == f"{name}: python -m x; commit unknown"


def test_what_is_missing_is_said_with_the_command_that_makes_it(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        draw_all(["samples", "--preset", "smoke", "--runs", str(tmp_path)])
    run, question = capsys.readouterr().out.splitlines()
    assert run.endswith(f"curves.nc is missing; this makes it: hierdiff {shlex.join(job(tmp_path, Need(ONSET)))}")
    made = shlex.join(job(tmp_path, Need("neighbours")))
    assert question.endswith(f"neighbours.curves.nc is missing; this makes it: hierdiff {made}")
    with pytest.raises(SystemExit, match="2"):
        draw_all(["nothing"])
    assert "FIGURE: got nothing, needs one of training" in capsys.readouterr().err


def job(folder, need):
    return Records(folder, "smoke", QUESTIONS).job(need)[0]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("smoke-0/curves.nc", b"\x89HDF\r\n\x1a\n and no more"),
        ("smoke-0/summary.json", b"{"),
        ("stopping-smoke/stopping.json", b'{"stops": ['),
    ],
)
def test_a_damaged_record_is_named_and_the_other_figures_are_drawn(file, content, records, tmp_path, capsys):
    shutil.copytree(records.folder, tmp_path / "runs")
    (tmp_path / "runs" / file).write_bytes(content)
    names = ["spectrum", "stopping"]
    with pytest.raises(SystemExit, match="1"):
        draw_all([*names, "--preset", "smoke", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)])
    bad = "stopping" if "stopping" in file else "spectrum"
    printed = capsys.readouterr().out
    assert f"{bad}: {tmp_path / 'runs' / file}: needs a whole record" in printed
    assert [path.stem for path in tmp_path.glob("*.pdf")] == [name for name in names if name != bad]


def test_a_record_that_is_not_whole_is_missing(records, tmp_path):
    """A sweep whose runs are there and not gathered; a question that was killed before its last file."""
    shutil.copytree(records.folder, tmp_path, dirs_exist_ok=True)
    part = Records(tmp_path, "smoke", QUESTIONS)
    for need in (STOPS, Need("uturn"), Need(ONSET, LARGE)):
        assert records.there(need)
    part.file(STOPS).unlink()
    summary = {name: value for name, value in records.summary(MIDDLE).items() if name != "uturn"}
    record.write_json(part.run(MIDDLE) / "summary.json", summary)
    for need in (STOPS, Need("uturn"), Need("sweep", "sweep")):
        assert not part.there(need)


def test_missing_records_are_made_in_order_and_a_failure_stops(tmp_path, monkeypatch, capsys):
    ran = []

    def carry_out(command, log, report):
        ran.append(command[0])
        assert ("not known" if len(ran) == 1 else "about") in report(1.0)
        if command[0] == "losses":
            raise SystemExit(3)

    monkeypatch.setattr(album, "carry_out", carry_out)
    with pytest.raises(SystemExit, match="3"):
        draw_all(["losses", "samples", "--run-missing", "--preset", "smoke", "--runs", str(tmp_path)])
    assert ran == ["onset", "neighbours", "losses"]
    printed = capsys.readouterr()
    assert "job 1 of 3, time left not known yet: hierdiff onset" in printed.out
    assert "job 2 of 3, about 0 s left: hierdiff neighbours" in printed.out
    assert "the job ended with status 3" in printed.err


def test_what_is_made_is_drawn_at_once(records, tmp_path, monkeypatch, capsys):
    """Though the summary to which a job adds its part has been read before."""
    shutil.copytree(records.folder, tmp_path / "runs")
    summary = tmp_path / "runs" / "smoke-0" / "summary.json"
    content = record.read_json(summary)
    record.write_json(summary, {name: value for name, value in content.items() if name != "losses"})
    monkeypatch.setattr(album, "carry_out", lambda *_: record.write_json(summary, content))
    options = ["--run-missing", "--preset", "smoke", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    draw_all(["losses", *options])
    assert "job 1 of 1" in capsys.readouterr().out
    assert (tmp_path / "losses.pdf").exists()


def test_sigterm_ends_a_job_too(tmp_path, monkeypatch):
    """The job is asked to end, and its status is that of a program which SIGTERM has ended."""
    folder = tmp_path / "waits"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "__main__.py").write_text("import time; print('begun', flush=True); time.sleep(60)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(called, "start", lambda name: [sys.executable, "-m", name])
    log = tmp_path / "log"

    def report(_):
        if log.exists() and "begun" in log.read_text():
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        album.carry_out(("waits",), log, report)
    assert stop.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["smoke", "laptop", "paper"])
def test_every_job_is_a_command_of_the_program(preset, monkeypatch, capsys):
    """The options of each are good, and those of a question are so for the size of its run."""
    draw_all(["--list-jobs", "--preset", preset])
    chains = capsys.readouterr().out.splitlines()
    configs = {}
    for line in [line for chain in chains for line in chain.split(" && ")]:
        program, name, *arguments = shlex.split(line)
        assert program == "hierdiff"
        config, options = asked(monkeypatch, name, arguments)
        entry = QUESTIONS[name]
        if entry.of == "training":
            configs[options.out] = config
        elif entry.of == "runs":
            point = config.own.points(config.training)[options.job]
            configs[options.out / point.name] = point.config
        elif entry.of == "run":
            Both(training=configs[options.run], own=config)
    swept = [config for folder, config in configs.items() if folder.parent.name.startswith("sweep-")]
    epochs = {config.size: config.train.steps * config.train.batch / config.size for config in swept}
    assert len(epochs) >= 3
    np.testing.assert_allclose(list(epochs.values()), max(epochs.values()), rtol=1e-3)
    # What they make is all that the figures need; what is said of several runs is gathered from them.
    records = Records(Path("runs"), preset, QUESTIONS)
    needed = set().union(*(function(name).needs for name in FIGURES))
    assert set(records.in_order(needed)) == needed
    listed = {command for chain in chains for command in chain.split(" && ")}
    of_runs = {need for need in needed if records.of_runs(need.question)}
    assert {need.question for need in of_runs} == {"sweep", "stopping", "remedies", "processes"}
    assert {f"hierdiff {shlex.join(records.job(need)[0])}" for need in needed - of_runs} <= listed
    for need in of_runs:
        jobs = [shlex.split(command) for command in listed if f"hierdiff {need.question} " in command]
        numbers = sorted(int(job[job.index("--job") + 1]) for job in jobs)
        assert numbers == [*range(len(records.points(need.question)))]


@needs(Need("own"))
@style.panels(figsize=(2, 2))
def own_figure(records, axes):
    """A figure of a question that somebody adds."""
    style.curve(axes, records.read("own"), "excess", "excess", color="C0")


def test_a_figure_of_a_question_that_somebody_adds(records, tmp_path, monkeypatch, capsys):
    """Its record is made and drawn as any other, though nobody knows how long it takes."""
    entry = Entry(
        module=__name__, asks="?", of="run", presets={"smoke": None}, pictures=("own_figure",), album=__name__
    )
    runs, made = tmp_path / "runs", []
    shutil.copytree(records.folder, runs)
    own = Records(runs, "smoke", {**QUESTIONS, "own": entry})

    def carry_out(command, *_):
        made.append(command)
        shutil.copy(own.file(Need(ONSET)), own.file(Need("own")))
        record.write_json(own.run(MIDDLE) / "summary.json", {**records.summary(), "own": {}})

    monkeypatch.setattr(album, "carry_out", carry_out)
    options = ["own_figure", "--run-missing", "--preset", "smoke", "--runs", str(runs), "--out", str(tmp_path)]
    command.draw_all(own.registry, options)
    assert made == [("own", "--preset", "smoke", "--run", str(own.run(MIDDLE)))]
    assert (tmp_path / "own_figure.pdf").exists()
    with pytest.raises(SystemExit, match="2"):
        draw_all(options)
    assert "FIGURE: got own_figure, needs one of training" in capsys.readouterr().err


def test_a_picture_is_the_same_whatever_the_users_settings_of_matplotlib_are(tmp_path):
    """To the byte; a name may have the signs of mathematics, and letters that the font has not."""
    name = "$x_y^2$ 50% {\\frac \u4e2d \udcff"
    origin = style.origin(Path("runs", name, "curves.nc"), {"command": f"python -m x {name}", "commit": None})

    def picture(file):
        def draw():
            figure, axes = style.subplots(1, 1, figsize=(3, 3))
            axes.plot([1, 2], [3, 4], label=name[:5])
            axes.set(title=name[:7], xscale="log", ylabel="KL(BP_k || f)")
            axes.legend()
            return figure

        style.save(draw, [tmp_path / file], [origin])
        return (tmp_path / file).read_bytes()

    users: Any = {"text.usetex": True, "font.size": 30, "savefig.dpi": 20, "text.parse_math": True, "axes.grid": True}
    expected = picture("a.png")
    with mpl.rc_context(users):
        assert picture("b.png") == expected
        assert mpl.rcParams["font.size"] == 30


def test_folders_of_the_user_that_are_called_as_ours_hide_no_job(tmp_path, monkeypatch):
    """Somebody's own `experiments` and `figures` in the folder where this happens."""
    for name in ("experiments", "figures"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(style.__file__).parents[2]))
    done = subprocess.run([*called.start("onset"), "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python -m hierdiff onset")
