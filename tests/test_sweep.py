"""Sweeps: which runs they are of, who makes each, and what is gathered."""

import os
import shlex
import signal
import threading
import time

import pytest
import xarray as xr
from runs import OPTIONS, ask, asked

from hierdiff.questions import QUESTIONS, laws, sweep
from hierdiff.questions.configs import Both, SweepConfig
from hierdiff.runs import record, run, saying
from hierdiff.runs.checkpoint import only_writer
from hierdiff.worlds.sequences import Sequences

SMOKE = QUESTIONS["onset"].presets["smoke"]


def points(*over, seeds=(0,), epochs=0):
    own = SweepConfig(over=over, seeds=seeds, epochs=epochs)
    return Both(training=SMOKE, own=own).own.points(SMOKE)


def test_the_points_of_a_grid_are_all_combinations_for_each_seed():
    found = points("size=100,200", "width=8,16,24", seeds=(3, 5))
    assert [(p.config.size, p.config.network.width, p.config.seed) for p in found] == [
        (size, width, seed) for size in (100, 200) for width in (8, 16, 24) for seed in (3, 5)
    ]
    assert found[1].name == "size-100-width-8-seed-5"
    assert len({p.name for p in found}) == len(found) == 12
    assert {p.config.train.steps for p in found} == {SMOKE.train.steps}


def test_options_that_go_together_are_walked_together():
    found = points("size,steps=100:300,200:600", "shared=yes,no")
    assert [(p.config.size, p.config.train.steps, p.config.grammar.shared) for p in found] == [
        (100, 300, True),
        (100, 300, False),
        (200, 600, True),
        (200, 600, False),
    ]
    assert found[1].name == "size-100-steps-300-shared-no-seed-0"


def test_epochs_follow_size_and_batch():
    found = points("size=100,200", "batch=10,40", epochs=7)
    assert [p.config.train.steps for p in found] == [70, 18, 140, 35]


def test_what_an_option_moves_comes_with_its_values():
    gaussian, masking = points("process=gaussian,masking")
    assert (gaussian.config.measure.onset_noise, masking.config.measure.onset_noise) == (0.15, 0.4)
    (_, tall), (_, wide) = points("network,width=transformer:16,tree:8")
    assert (type(tall.network).__name__, tall.network.width, wide.network.width) == ("TransformerConfig", 16, 8)
    assert points("noise=0.15,0.1+0.15")[1].config.measure.noise == (0.1, 0.15)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--over sise=1,2", "--over: got sise, needs an option of a run; did you mean size?"),
        ("--over size=0,100", "--over: got size=0, needs an integer from 1 to 10,000,000"),
        ("--over width=24,x", "--over: got width=x, needs an integer from 1 to 65,536"),
        ("--over network=tree,bush", "--over: got network=bush, needs one of tree, transformer"),
        ("--over shared=yes,maybe", "--over: got shared=maybe, needs yes or no"),
        ("--over size", "--over: got size, needs NAME=VALUE,VALUE, or options that go together"),
        ("--over size,steps=100:300,200", "--over: got size,steps=100:300,200, needs NAME=VALUE,VALUE"),
        ("--over size=100,0100", "--over: got size=100,0100, needs each value once"),
        ("--over size=100 --over width,size=8:100", "--over: got size, needs an option that is swept once"),
        ("--over seed=0,1", "--over: got seed, needs another option: --seeds gives the seeds"),
        ("--over steps=90,100 --epochs 3", "--over: got steps, needs another option: --epochs gives the steps"),
        ("--over heads=2,4", "--over: got heads, needs an option of every run, whatever its network"),
        ("--over width=8,16 --width 24", "--width is not an option of hierdiff sweep: --over gives it"),
        ("--over width=8,16 --seed 24", "--seed is not an option of hierdiff sweep: --seeds gives it"),
        ("--over width=8,16 --epochs 9 --steps 24", "--steps is not an option of hierdiff sweep: --epochs gives it"),
        (
            "--over size=100 --epochs 1",
            "--first-checkpoint: got 10, needs an integer from 1 to below the number of steps",
        ),
        ("--over size=100,200 --then noses", "--then: got noses, needs none, or questions of noise, neighbours"),
        ("--over size=100,200 --then samples", "--then: got samples, needs none, or questions of noise, neighbours"),
        ("--over snapshots=0,3", "--snapshots: got 0, needs at least 1, of which the question is asked"),
        ("--over size=100,200 --seeds 0 1 --job 4", "--job: got 4, needs the number of a run, from 0 to 3"),
        ("--over size=100,200 --job -1", "--job: got -1, needs the number of a run"),
    ],
)
def test_what_cannot_be_swept_is_said_in_one_sentence(options, said, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        ask("sweep", ["--preset", "smoke", *options.split(), "--out", str(tmp_path / "out")])
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_swept_may_be_said_at_once_or_in_parts(monkeypatch):
    for line in ("--over size=100,200 width=8,16", "--over size=100,200 --over width=8,16"):
        config, _ = asked(monkeypatch, "sweep", line.split())
        assert config.own.over == ("size=100,200", "width=8,16")
    # Of what else is given twice, the last counts.
    config, _ = asked(monkeypatch, "sweep", ["--seeds", "0", "1", "--noise", "0.1", "--seeds", "3", "--noise", "0.15"])
    assert (config.own.seeds, config.training.measure.noise) == ((3,), (0.15,))


def test_questions_are_put_to_runs_as_these_can_answer_them(monkeypatch):
    config, _ = asked(monkeypatch, "sweep", ["--over", "size=300,2000", "--then", "membership", "uturn"])
    small, large = (
        QUESTIONS["sweep"].asked(config.own, p.config, "laptop") for p in config.own.points(config.training)[::3]
    )
    assert (small["membership"].targets, large["membership"].targets) == (300, 1000)
    assert small["uturn"] == QUESTIONS["uturn"].presets["laptop"]


# ---- Who makes which run; what is trained is another thing.

LINE = ["--preset", "smoke", "--over", "size=100,200,300", "--over", "width=8,16", "--seeds", "0", "--then", "none"]
NAMES = [f"size-{size}-width-{width}-seed-0" for size in (100, 200, 300) for width in (8, 16)]


def landmark(step):
    return {"step": step, "low": step / 2, "high": None, "value": 0.3, "reached": True, "from_start": False}


def leave_record(config, folder):
    record.write_json(folder / "config.json", record.begun(config))
    record.write_results(folder / "curves.nc", xr.Dataset(attrs=record.origin(config)))
    summary = {
        "onset": landmark(1.0 * config.size),
        "memorization": landmark(3.0 * config.size),
        "best": landmark(4.0 * config.size),
        "ratio": {"ratio": 4.0, "low": 3.0, "high": None, "confidence": 0.9},
        "excess": {"at_onset": 0.5, "at_onset_error": 0.1, "at_best": 10 / config.size, "at_best_error": None},
        "verdict": "",
    }
    record.write_json(folder / "summary.json", summary)


@pytest.fixture
def trained(monkeypatch):
    """The names of the runs that are trained, in order; each is as good as a run."""
    names = []

    def train(config, world, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with only_writer(folder, "out"):
            if not (folder / "summary.json").exists():
                names.append(folder.name)
                time.sleep(0.02)
                leave_record(config, folder)

    monkeypatch.setattr("hierdiff.questions.training.train", train)
    monkeypatch.setattr(record, "commit", lambda root: None)
    monkeypatch.setattr(Sequences, "set_up", lambda config: None)
    monkeypatch.setattr(
        laws, "found", lambda runs, of="size": laws.Found([f"{of}: {len(runs)}"], f"It grows with {of}.", {"runs": 1})
    )
    return names


def gathered(folder):
    return record.read_json(folder / "sweep.json")


def test_all_runs_are_made_once_and_gathered(trained, tmp_path, capsys):
    ask("sweep", [*LINE, "--out", str(tmp_path)])
    assert trained == NAMES
    found = gathered(tmp_path)
    assert [point["folder"] for point in found["points"]] == NAMES
    assert found["points"][-1]["values"] == {"size": 300, "width": 16}
    assert found["points"][-1]["seed"] == 0
    assert found["points"][-1]["best"]["step"] == 1200
    assert found["points"][-1]["excess"]["at_best"] == pytest.approx(1 / 30)
    assert found["options"]["own"]["over"] == ["size=100,200,300", "width=8,16"]
    printed = capsys.readouterr().out
    assert "300     16     0  300 (150 to open)" in printed
    assert "\n".join(found["table"]) in printed
    ask("sweep", [*LINE, "--out", str(tmp_path)])
    assert trained == NAMES


def test_laws_are_asked_of_numbers_at_each_combination_of_the_rest(trained, tmp_path, monkeypatch):
    calls = []

    def found(runs, of="size"):
        calls.append((of, [run.folder.name for run in runs]))
        return laws.Found(["a law"], "A law.", {"exponent": 1.0})

    monkeypatch.setattr(laws, "found", found)
    ask("sweep", [*LINE, "--out", str(tmp_path)])
    assert calls == [("size", [name for name in NAMES if f"width-{width}-" in name]) for width in (8, 16)]
    said = gathered(tmp_path)
    assert [law["at"] for law in said["laws"]] == [{"width": 8}, {"width": 16}]
    assert said["laws"][0]["numbers"] == {"exponent": 1.0}
    assert said["sentence"] == "A law. A law."
    assert said["table"][-5:] == ["at width 8:", "a law", "", "at width 16:", "a law"]
    calls.clear()
    together = [
        "--preset",
        "smoke",
        "--over",
        "width=8,16",
        "network=tree,transformer",
        "--seeds",
        "0",
        "--then",
        "none",
    ]
    ask("sweep", [*together, "--out", str(tmp_path / "none")])
    assert calls == []
    walk = ["--preset", "smoke", "--over", "size,steps=100:300,200:600,300:900", "--seeds", "0", "1", "--then", "none"]
    ask("sweep", [*walk, "--out", str(tmp_path / "walk")])
    assert [(of, len(names)) for of, names in calls] == [("size", 6)]
    calls.clear()
    # Of one size there are two runs, which differ in something else.
    mixed = ["--over", "size,width=100:8,200:8,300:8,100:16", "--seeds", "0", "--then", "none", "--preset", "smoke"]
    ask("sweep", [*mixed, "--out", str(tmp_path / "mixed")])
    assert calls == []


def test_a_run_that_another_worker_makes_is_skipped_and_made_once_that_has_died(trained, tmp_path, capsys):
    held = tmp_path / NAMES[3]
    held.mkdir()
    with only_writer(held, "out"):
        ask("sweep", [*LINE, "--out", str(tmp_path)])
        with pytest.raises(SystemExit, match="2"):
            ask("sweep", [*LINE, "--out", str(tmp_path), "--job", "3"])
    assert trained == [name for name in NAMES if name != held.name]
    assert f"other workers are making {held.name}; the same command gathers all" in capsys.readouterr().out
    assert not (tmp_path / "sweep.json").exists()
    ask("sweep", [*LINE, "--out", str(tmp_path)])
    assert trained[-1] == held.name
    assert len(trained) == len(NAMES)
    assert [point["folder"] for point in gathered(tmp_path)["points"]] == NAMES


def test_two_workers_share_the_runs_and_one_gathers(trained, tmp_path):
    workers = [threading.Thread(target=ask, args=("sweep", [*LINE, "--out", str(tmp_path)])) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(trained) == sorted(NAMES)
    assert [point["folder"] for point in gathered(tmp_path)["points"]] == NAMES


def test_what_another_worker_tries_in_a_folder_is_not_taken_for_what_a_kill_has_left(tmp_path):
    trial, left = (tmp_path / f"{record.PARTIAL}{name}.npz" for name in (record.TRIAL, "results"))
    for path in (trial, left):
        path.touch()
    record.tidy(tmp_path)
    assert list(tmp_path.iterdir()) == [trial]
    os.utime(trial, (0, 0))
    record.tidy(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_goes_round_again_for_a_run_that_is_let_go(trained, tmp_path, monkeypatch):
    """Another worker has the first run until this one has made its last."""
    first = tmp_path / NAMES[0]
    first.mkdir()
    lock = only_writer(first, "out")
    lock.__enter__()
    before = sweep.training.train

    def train(config, world, folder):
        before(config, world, folder)
        if folder.name == NAMES[-1]:
            lock.__exit__(None, None, None)

    monkeypatch.setattr("hierdiff.questions.training.train", train)
    ask("sweep", [*LINE, "--out", str(tmp_path)])
    assert trained == [*NAMES[1:], NAMES[0]]
    assert (tmp_path / "sweep.json").exists()


def test_the_jobs_make_what_the_whole_makes(trained, tmp_path, capsys):
    line = [*LINE, "--out", str(tmp_path / "jobs")]
    ask("sweep", [*line, "--list-jobs"])
    jobs = capsys.readouterr().out.splitlines()
    assert list(tmp_path.iterdir()) == []
    for number, job in enumerate(jobs):
        assert shlex.split(job) == ["hierdiff", "sweep", *line, "--job", str(number)]
        ask("sweep", shlex.split(job)[2:])
        assert trained == NAMES[: number + 1]
    assert not (tmp_path / "jobs" / "sweep.json").exists()
    ask("sweep", line)
    assert trained == NAMES
    ask("sweep", [*LINE, "--out", str(tmp_path / "whole")])
    assert gathered(tmp_path / "jobs") == gathered(tmp_path / "whole")


def test_a_run_that_fails_is_named_once_the_others_are_there(trained, tmp_path, monkeypatch):
    before = sweep.training.train

    def train(config, world, folder):
        if folder.name == NAMES[1]:
            raise FloatingPointError("the loss is not finite at step 3")
        before(config, world, folder)

    monkeypatch.setattr("hierdiff.questions.training.train", train)
    with pytest.raises(SystemExit, match=f"stopped: {NAMES[1]}: the loss is not finite at step 3; a smaller --learn"):
        ask("sweep", [*LINE, "--out", str(tmp_path)])
    assert trained == [name for name in NAMES if name != NAMES[1]]
    assert not (tmp_path / "sweep.json").exists()


def test_a_folder_that_holds_another_run_is_refused_before_anything_is_made(trained, tmp_path, capsys):
    ask("sweep", [*LINE, "--out", str(tmp_path), "--job", "5"])
    with pytest.raises(SystemExit, match="2"):
        ask("sweep", [*LINE, "--out", str(tmp_path), "--steps", "90"])
    said = f"--out: got {tmp_path / NAMES[5]}, needs another folder: this one holds a run with other steps (600 there)"
    assert said in capsys.readouterr().err
    assert trained == [NAMES[5]]


def test_questions_are_a_part_of_each_run(trained, tmp_path, monkeypatch):
    """They are asked where they were not, or otherwise."""
    said = []

    def extend(question, opened, config):
        folder = opened
        with only_writer(folder, "run"):
            said.append((folder.name, question.name))
            record.write_results(folder / f"{question.name}.curves.nc", xr.Dataset(attrs=record.origin(config)))
            summary = record.read_json(folder / "summary.json")
            record.write_json(folder / "summary.json", {**summary, question.name: {}})

    monkeypatch.setattr(sweep, "extend", extend)
    monkeypatch.setattr(sweep, "open_run", lambda folder, world: folder)
    line = ["--preset", "smoke", "--over", "size=100,200", "--seeds", "0", "--out", str(tmp_path), "--then"]
    names = ["size-100-seed-0", "size-200-seed-0"]
    ask("sweep", [*line, "neighbours"])
    ask("sweep", [*line, "neighbours", "membership"])
    assert trained == names
    asked_before = [(name, "neighbours") for name in names]
    assert sorted({*said}) == sorted(asked_before + [(name, "membership") for name in names])
    done = len(said)
    ask("sweep", [*line, "neighbours", "membership"])
    assert len(said) == done
    curves = tmp_path / names[0] / "membership.curves.nc"
    other = QUESTIONS["membership"].presets["laptop"]
    record.write_results(curves, xr.Dataset(attrs=record.origin(other)))
    ask("sweep", [*line, "membership"])
    assert said[done:] == [(names[0], "membership")]


def test_progress_is_that_of_all_runs(trained, tmp_path, monkeypatch, capsys):
    def train(config, world, folder):
        with saying.progress(10, "step") as show:
            saying.remark("not said")
            for step in range(11):
                show(step)
        folder.mkdir(parents=True)
        leave_record(config, folder)

    monkeypatch.setattr("hierdiff.questions.training.train", train)
    monkeypatch.setattr(saying, "FIRST", 0.0)
    monkeypatch.setattr(saying, "EVERY", 0.0)
    line = ["--preset", "smoke", "--over", "size,steps=100:100,300:300", "--seeds", "0", "--then", "none"]
    ask("sweep", [*line, "--out", str(tmp_path)])
    printed = capsys.readouterr()
    assert "not said" not in printed.out
    lines = printed.err.splitlines()
    assert any(line.startswith("percent 25 of 100, run 1 of 2; about ") for line in lines)
    assert any(line.startswith("percent 62 of 100, run 2 of 2; about ") for line in lines)
    assert lines[-1].startswith("percent 100 of 100, run 2 of 2")


@pytest.mark.slow
def test_a_worker_that_is_ended_leaves_a_run_that_another_goes_on_with(tmp_path, monkeypatch, capsys):
    before, begun = run.train, []

    def interrupted(config, training, done):
        begun.append(done)
        for step, state in before(config, training, done):
            if step == 42 and len(begun) == 1:
                signal.raise_signal(signal.SIGTERM)
            yield step, state

    monkeypatch.setattr(run, "train", interrupted)
    line = ["--over", "size=60,80", "--seeds", "0", *OPTIONS, "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="143"):
        ask("sweep", line)
    assert "the state of step 42 is saved in" in capsys.readouterr().err
    ask("sweep", line)
    assert begun == [0, 42, 0]
    found = gathered(tmp_path)
    assert [point["folder"] for point in found["points"]] == ["size-60-seed-0", "size-80-seed-0"]
    for point in found["points"]:
        summary = record.read_json(tmp_path / point["folder"] / "summary.json")
        assert point["best"] == summary["best"]
        assert "neighbours" in summary
