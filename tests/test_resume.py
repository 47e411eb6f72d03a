"""A run that is interrupted goes on with the same command, and ends with the same results to the bit."""

import contextlib
import fcntl
import os
import shutil
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import OPTIONS, same, save_often

from experiments.onset import main
from hierdiff.errors import OptionError
from hierdiff.questions import training
from hierdiff.runs import checkpoint as resume
from hierdiff.runs import record, run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    main([*OPTIONS, "--out", str(folder)])
    return folder


class Killed(BaseException):
    """What no code catches."""


def killed_at(monkeypatch, where, call):
    """Kill the process in a call of `record`'s, after half of the file is written, before it is in its place."""
    save_often(monkeypatch)
    calls, before = 0, getattr(record, where)

    def killed(*args):
        nonlocal calls
        calls += 1
        if calls == call:
            args[0].with_name(f"{record.PARTIAL}half").write_bytes(b"of a file")
            raise Killed
        return before(*args)

    monkeypatch.setattr(record, where, killed)


def terminated_in(monkeypatch):
    """SIGTERM comes while a state is saved; the run goes on until it may leave, and saves once more."""
    before = run.save

    def terminated(*args):
        before(*args)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(run, "SAVE_AFTER", 0.0)
    monkeypatch.setattr(run, "save", terminated)


def stopped(folder, error, interrupt, *args):
    """What stops the run under an interruption, and the steps whose state is saved then."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, *args)
        with pytest.raises(error) as found:
            main([*OPTIONS, "--out", str(folder)])
    assert not (folder / "summary.json").exists()
    return found.value, record.steps_in(folder / "state")


def test_a_run_interrupted_three_times_goes_on_to_the_same_results(whole, tmp_path):
    """Killed while it writes down its first state, which follows a snapshot, and its second; then it is terminated.

    The slow tests kill it anywhere.
    """
    for where, call, saves in (("write_arrays", 2, []), ("write_arrays", 3, [20])):
        assert stopped(tmp_path, Killed, killed_at, where, call)[1] == saves
    error, saves = stopped(tmp_path, SystemExit, terminated_in)
    assert error.code == 143
    # The save during which it came, and one more.
    assert saves == [21, 22]
    main([*OPTIONS, "--out", str(tmp_path), "--resume", "must"])
    same(tmp_path, whole)
    assert not (tmp_path / "state").exists()


def test_a_finished_run_is_shown_and_not_done_again(whole, monkeypatch, capsys):
    monkeypatch.setattr(training, "carry_out", None)
    main([*OPTIONS, "--out", str(whole)])
    assert record.read_json(whole / "summary.json")["verdict"] in capsys.readouterr().out


def test_where_there_is_nothing_to_resume_it_is_said(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*OPTIONS, "--out", str(tmp_path), "--resume", "must"])
    assert "--resume: got must, needs a run that was left in" in capsys.readouterr().err


@pytest.mark.parametrize("resume", ["auto", "must"])
def test_where_no_save_is_whole_the_run_is_left_as_it_is(resume, tmp_path, monkeypatch, capsys):
    """They may be still on their way from another machine; what would discard the run is not advised."""
    monkeypatch.setattr(training, "run", lambda *_: None)
    monkeypatch.setattr(training, "show", lambda *_: None)
    main([*OPTIONS, "--out", str(tmp_path)])
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "00000010.npz").write_text("{")
    (tmp_path / "metrics.jsonl").write_text("kept")
    with pytest.raises(SystemExit, match="2"):
        main([*OPTIONS, "--out", str(tmp_path), "--resume", resume])
    printed = capsys.readouterr().err
    assert "needs a run whose state is whole; all its saves are damaged, or not yet wholly copied" in printed
    assert "never" not in printed
    assert (tmp_path / "state" / "00000010.npz").read_text() == "{"
    assert (tmp_path / "metrics.jsonl").exists()


def test_results_without_their_summary_are_not_discarded(whole, tmp_path, capsys):
    """A folder that is copied, file by file in the order of their names, has its summary last."""
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "summary.json").unlink()
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit, match="2"):
        main([*OPTIONS, "--out", str(folder)])
    assert "its summary.json is missing, or not yet copied" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_a_termination_that_nobody_has_asked_for_is_not_forgotten():
    """It comes after the last step, and ends the process then."""
    noted = []
    before = signal.signal(signal.SIGTERM, lambda *_: noted.append("before"))
    try:
        with resume.noting_termination() as termination:
            os.kill(os.getpid(), signal.SIGTERM)
            assert termination
            assert not noted
        assert noted == ["before"]
        with contextlib.suppress(SystemExit), resume.noting_termination():
            os.kill(os.getpid(), signal.SIGTERM)
            raise SystemExit(143)
        assert noted == ["before"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_may_be_carried_out_outside_the_main_thread(whole, tmp_path):
    """A program of one's own may do that: signals are the main thread's, and its handlers stay."""
    before, failed = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)], []

    def carry_out():
        try:
            main([*OPTIONS, "--out", str(tmp_path)])
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=carry_out)
    thread.start()
    thread.join()
    assert not failed
    same(tmp_path, whole)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_starting_anew_discards_what_the_run_has_left_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "run", lambda *_: None)
    monkeypatch.setattr(training, "show", lambda *_: None)
    main([*OPTIONS, "--out", str(tmp_path)])
    (tmp_path / "mine.txt").write_text("kept")
    (tmp_path / "results.nc").write_text("old")
    (tmp_path / "snapshots").mkdir()
    config = record.read_json(tmp_path / "config.json")
    record.write_json(tmp_path / "config.json", config | {"commit": "old"})
    main([*OPTIONS, "--out", str(tmp_path), "--resume", "never"])
    assert record.read_json(tmp_path / "config.json") == config
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", ".lock", "mine.txt"}


def test_what_a_run_has_left_that_cannot_be_gone_on_from_is_not_used(tmp_path, monkeypatch):
    """A summary that was taken away: what was asked of the old weights is not taken for an answer of the new ones."""
    monkeypatch.setattr(training, "run", lambda *_: None)
    monkeypatch.setattr(training, "show", lambda *_: None)
    main([*OPTIONS, "--out", str(tmp_path)])
    (tmp_path / "losses.results.nc").write_text("old")
    main([*OPTIONS, "--out", str(tmp_path)])
    assert not (tmp_path / "losses.results.nc").exists()


def test_a_state_that_an_older_version_has_left_is_refused_and_left_as_it_is(whole, tmp_path, capsys):
    """It was a folder of files for each save."""
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "summary.json").unlink()
    (folder / "state" / "00000040").mkdir(parents=True)
    with pytest.raises(SystemExit, match="2"):
        main([*OPTIONS, "--out", str(folder)])
    assert "an older one has left this, another --out starts it anew" in capsys.readouterr().err
    assert (folder / "state" / "00000040").exists()


def test_two_processes_do_not_write_one_run(tmp_path, capsys):
    onset_folder = tmp_path / "run"
    onset_folder.mkdir()
    with resume.only_writer(onset_folder, "out"), pytest.raises(SystemExit, match="2"):
        main([*OPTIONS, "--out", str(onset_folder)])
    assert "a folder that no other process is writing" in capsys.readouterr().err


def test_a_run_that_another_process_begins_meanwhile_keeps_its_options(tmp_path, monkeypatch, capsys):
    """Between the look at an empty folder and the lock, a run of another configuration begins and ends there."""
    before = run.only_writer

    def late(folder, name):
        (folder / "config.json").write_text('{"options": {"depth": 7}}')
        return before(folder, name)

    monkeypatch.setattr(run, "only_writer", late)
    with pytest.raises(SystemExit, match="2"):
        main([*OPTIONS, "--out", str(tmp_path)])
    assert "depth (7 there)" in capsys.readouterr().err
    assert record.read_json(tmp_path / "config.json") == {"options": {"depth": 7}}


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(resume.fcntl, "flock", none)
    with pytest.raises(OSError, match="cannot be locked, so two runs could write it: Function not"):
        resume.only_writer(tmp_path, "out").__enter__()


def state(value):
    return {"a": jnp.full((4, 3), value), "b": np.arange(5.0) + value}


def test_a_damaged_save_is_named_and_the_one_before_it_used(tmp_path):
    for step in (10, 20, 30):
        resume.save(tmp_path, step, state(float(step)))
    assert record.steps_in(tmp_path) == [20, 30]
    found = resume.restore(tmp_path, state(0.0))
    assert found is not None
    assert found[0] == 30
    jax.tree.map(np.testing.assert_array_equal, found[1], state(30.0))
    last = tmp_path / "00000030.npz"
    whole = last.read_bytes()
    # A bit in an array, and the end of the file.
    for damaged in (whole.replace(np.float64(34).tobytes(), np.float64(35).tobytes()), whole[:-1]):
        assert damaged != whole
        last.write_bytes(damaged)
        with pytest.warns(UserWarning, match=f"{last.name} is damaged; the save before it is used"):
            assert resume.whole_saves(tmp_path, "out") == [20]
        assert last.with_suffix(".damaged").read_bytes() == damaged
    found = resume.restore(tmp_path, state(0.0))
    assert found is not None
    assert found[0] == 20
    jax.tree.map(np.testing.assert_array_equal, found[1], state(20.0))
    for content in ("", "{", "[1]", "PK"):
        (tmp_path / "00000020.npz").write_text(content)
        with pytest.raises(OptionError, match="a run whose state is whole"):
            resume.whole_saves(tmp_path, "out")


def test_a_save_that_cannot_be_read_now_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    """Neither put aside nor passed over: another program has locked it, or the disk does not answer."""
    for step in (10, 20):
        resume.save(tmp_path, step, state(float(step)))
    before = sorted(tmp_path.iterdir())
    with (tmp_path / "00000020.npz").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OSError, match=r"20\.npz is locked by another program"):
            resume.whole_saves(tmp_path, "out")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(record.zipfile, "ZipFile", fail)
    with pytest.raises(OSError, match="Input/output error"):
        resume.whole_saves(tmp_path, "out")
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_restored_state_replaces_makes_room_for_it(tmp_path):
    first = state(0.0)
    assert resume.restore(tmp_path, first) is None
    resume.save(tmp_path, 10, state(10.0))
    assert not first["a"].is_deleted()
    resume.restore(tmp_path, first)
    assert first["a"].is_deleted()


def test_saves_go_on_after_damaged_ones_and_what_a_kill_has_left_is_removed(tmp_path):
    for step in (10, 80, 90):
        resume.save(tmp_path, step, state(float(step)))
    (tmp_path / "00000090.npz").write_text("{")
    with pytest.warns(UserWarning, match="is damaged"):
        assert resume.whole_saves(tmp_path, "out") == [80]
    (tmp_path / f"{record.PARTIAL}half.npz").touch()
    record.tidy(tmp_path)
    for step in (90, 100):
        resume.save(tmp_path, step, state(float(step)))
    assert record.steps_in(tmp_path) == [90, 100]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000090.damaged", "00000090.npz", "00000100.npz"]


def test_a_full_disk_ends_the_run_with_one_sentence(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "write_whole", full)
    with pytest.raises(SystemExit, match="No space left on device; once there is room, the same command goes on"):
        main([*OPTIONS, "--out", str(tmp_path)])
    assert not list(tmp_path.rglob("*.json"))


def test_nothing_is_compiled_once_a_checkpoint_is_measured_and_a_state_saved(tmp_path, monkeypatch):
    save_often(monkeypatch)
    compiled, by_step, before = [], {}, run.save

    def note(event, duration_secs, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    def save(folder, step, state):
        before(folder, step, state)
        by_step[step] = len(compiled)

    monkeypatch.setattr(run, "save", save)
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        main([*OPTIONS, "--out", str(tmp_path)])
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert by_step[20] > 0
    assert {by_step[step] for step in range(20, 61)} == {by_step[20]}


def test_of_a_save_that_has_no_room_nothing_is_left(tmp_path, monkeypatch):
    """The save before it stays; the message names the step."""
    resume.save(tmp_path, 10, state(10.0))

    def full(path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match=r"the state of step 20 cannot be saved in .*No space left on device"):
        resume.save(tmp_path, 20, state(20.0))
    assert record.steps_in(tmp_path) == [10]
    assert [path.name for path in tmp_path.iterdir()] == ["00000010.npz"]
