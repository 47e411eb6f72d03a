"""Options: each says in one sentence what it needs, and what is accepted starts training."""

import dataclasses
import itertools
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from runs import OPTIONS, asked

from hierdiff.errors import COUNTED, Domain, OptionError, Options, domains, option
from hierdiff.learning.loop import train
from hierdiff.learning.network import NETWORKS
from hierdiff.pictures.command import draw_all
from hierdiff.questions import QUESTIONS, command, configs
from hierdiff.questions.command import main
from hierdiff.runs import run
from hierdiff.runs.command_line import Parser
from hierdiff.runs.laboratory import make_measure, prepare
from hierdiff.runs.options import fields_of, flat, options_of, rebuild
from hierdiff.worlds.images import Images
from hierdiff.worlds.run_config import ImageConfig, OnsetConfig
from hierdiff.worlds.sequences import Sequences

STRANGE = ["-1", "0", "nan", "-inf", "1e308", "-1e5", "1e20", "99999999999999999999", "", "word", "~nobody-here/x"]

CHECKS: Any = list(HealthCheck)


def presets():
    """Every config of every question, and all kinds of those that are one of several."""
    for entry in QUESTIONS.values():
        yield from entry.presets.values()
    yield from (OnsetConfig(network=kind()) for kind in NETWORKS.values())


def classes():
    """Every class of config that there is, with a config of it."""
    return {type(config): config for preset in presets() for config, _ in fields_of(preset)}


# Every option of every command with each strange value, in a process without the checks of types at run time, which
# would take minutes. Questions are read and not answered; what is not told as it should be is printed.
SWEEP = """
import contextlib, importlib.metadata, io, sys
import hierdiff.learning.devices
from hierdiff.pictures import album, run
from hierdiff.pictures.command import draw_run
from hierdiff.questions import QUESTIONS, command
from hierdiff.runs.command_line import Parser

for module, name in (
    (hierdiff.learning.devices, "set_up_devices"), (command, "answer"), (album, "make"), (run, "draw_finished")
):
    setattr(module, name, lambda *_, **__: None)
importlib.metadata.entry_points = lambda **_: []
parsers = []
Parser.print_help = lambda self, *_: parsers.append(self)
commands = {name: importlib.import_module(f"experiments.{name}").main for name in QUESTIONS}
commands |= {"figures": importlib.import_module("figures.__main__").main, "picture": draw_run}


def ended(ask, line):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            ask(line)
        except SystemExit as stop:
            return stop.code, said.getvalue()
    return None


for name, ask in commands.items():
    ended(ask, ["--help"])
    words = [action.option_strings[:1] for action in parsers[-1]._actions if action.nargs != 0]
    refused = 0
    for word in words:
        for value in sys.argv[1:]:
            code, said = ended(ask, [*word, value]) or (2, "error: : got , needs \\n")
            refused += len(said) > 30
            if code != 2 or said.count("\\n") != 1 or not all(x in said for x in ("error: ", ": got ", ", needs ")):
                print(name, *word, repr(value), code, said)
    print("swept", name, len(words), refused > 0)
"""


@pytest.mark.slow
def test_every_option_takes_a_strange_value_or_refuses_it_in_one_sentence(tmp_path):
    path = os.pathsep.join(sys.path)
    sweep = [sys.executable, "-c", SWEEP, *STRANGE]
    done = subprocess.run(
        sweep, capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}
    )
    found = [line.split() for line in done.stdout.splitlines()]
    assert [(words[0], words[1]) for words in found] == [("swept", name) for name in (*QUESTIONS, "figures", "picture")]
    assert all(words[3] == "True" for words in found)
    assert sum(int(words[2]) for words in found) > 400
    assert list(tmp_path.iterdir()) == []


def ended(capsys, act):
    """How `act` ends the program, and the lines that it says then; None if it does not end it."""
    try:
        act()
    except SystemExit as stop:
        return stop.code, capsys.readouterr().err.splitlines()
    return None


def is_refusal(end):
    code, lines = end
    return code == 2 and len(lines) == 1 and all(word in lines[0] for word in ("error: ", ": got ", ", needs "))


@pytest.mark.parametrize("config", classes().values(), ids=lambda config: type(config).__name__)
def test_every_number_says_its_range_in_its_help(config):
    for name, domain in domains(type(config)).items():
        if domain.type in (int, float) and not domain.among:
            low, high = max(domain.least, domain.above), min(domain.most, domain.below)
            assert -math.inf < low < high < math.inf, name
            assert (domain.type is not int) or high <= 2**32, name


def test_help_shows_meaning_range_and_default(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["onset", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--steps int training steps: an integer from 2 to 2,147,483,647 (default: 10000)" in text
    assert "a number from 0.001 to below 0.28 (default: 0.1)" in text
    assert "--optimizer {adam,adamw,sgd,smooth_adam} what follows the gradient (default: adam)" in text
    assert "(default: None)" not in text


# What anybody may give an option, of whichever type.
ANYTHING = st.one_of(
    st.integers(),
    st.integers(-3, 300),
    st.floats(),
    st.floats(0, 1),
    st.booleans(),
    st.text(),
    st.none(),
    st.sampled_from([2**31, 2**32, np.int64(3), np.float32(0.5), "word", "", 10**400, -0.0, {}, [], [0.5, 0.5]]),
)


@settings(max_examples=300, deadline=None, suppress_health_check=CHECKS)
@given(data=st.data())
def test_a_config_has_what_its_options_allow_or_is_refused_with_what_was_given(data):
    config = data.draw(st.sampled_from(list(classes().values())))
    name, domain = data.draw(st.sampled_from(list(domains(type(config)).items())))
    value = data.draw(st.one_of(ANYTHING, st.lists(ANYTHING, max_size=3)))
    try:
        made = getattr(rebuild(config, {name: value}), name)
    except OptionError:
        return
    values = made if isinstance(made, tuple) else [made]
    assert all(type(x) is domain.type for x in values)
    assert domain.read(name, made) == made
    if domain.type in (int, float) and not domain.path:
        given = list(value) if domain.several else np.unique(value) if len(values) == 1 else value
        np.testing.assert_array_equal(np.asarray(values, float), np.asarray(given, float))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mine(Options):
    """Mine."""

    share: float = option(0.5, "a share", above=0, below=1)
    number: int = option(0, "a number")
    several: tuple[int, ...] = option((1,), "numbers", least=1, most=9)
    levels: float | tuple[float, ...] = option(1.0, "numbers of levels", least=0, most=9)
    place: str = option("", "a place", path=True)


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        (Domain(type=int, least=1, most=4096), "an integer from 1 to 4,096"),
        (Domain(type=float, above=0, most=1, several=True), "distinct numbers above 0 and up to 1"),
        (Domain(type=float, above=0, below=1), "a number between 0 and 1"),
        (Domain(type=float, least=0.001, below=0.28, also=(0,)), "0, or a number from 0.001 to below 0.28"),
        (Domain(type=float), "a number between -inf and inf"),
        (Domain(type=float, least=0, most=2, by_level=True), "a number from 0 to 2, or one for each level"),
        (Domain(type=str, among=("a", "b")), "one of a, b"),
        (Domain(type=str, among=("a", "b"), several=True), "distinct ones of a, b"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_would_do_is_said_in_words(domain, words):
    assert str(domain) == words


def test_a_record_holds_plain_numbers_whatever_numbers_were_given():
    made = rebuild(Mine(), {"share": np.float32(0.25), "number": np.int64(7), "several": [np.int32(2), 3]})
    assert (made.share, made.number, made.several) == (0.25, 7, (2, 3))
    assert [type(x) for x in (made.share, made.number, *made.several)] == [float, int, int, int]
    assert Mine(number=-COUNTED).number == -COUNTED
    # Where all levels have one value, that is the value.
    assert [rebuild(Mine(), {"levels": x}).levels for x in (2, [2, 2], [2, 0, 2])] == [2.0, 2.0, (2.0, 0.0, 2.0)]
    for change in ({"number": 2**31}, {"number": True}, {"share": "0.5"}, {"several": ()}, {"several": 3}):
        with pytest.raises(OptionError, match="needs "):
            rebuild(Mine(), change)


def test_a_tilde_is_the_folder_of_the_user_wherever_a_path_is_read(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Mine(place="~/a b").place == str(tmp_path / "a b")
    assert Mine(place="./~").place == "./~"
    assert ImageConfig(data_dir="~").data_dir == str(tmp_path)
    _, options = asked(monkeypatch, "onset", ["--out", "~/runs/x"])
    assert options.out == tmp_path / "runs" / "x"
    _, options = asked(monkeypatch, "losses", ["--run", "~/runs/x"])
    assert options.run == tmp_path / "runs" / "x"
    config, _ = asked(monkeypatch, "images", ["--data-dir", "~/pictures"])
    assert config.images.data_dir == str(tmp_path / "pictures")
    config, _ = asked(monkeypatch, "benchmark", ["--json", "~/figures.json"])
    assert config.own.json == str(tmp_path / "figures.json")
    found = []
    monkeypatch.setattr("hierdiff.pictures.album.make", lambda _, options: found.append((options.runs, options.out)))
    draw_all(QUESTIONS, ["--runs", "~/runs", "--out", "~/figures"])
    assert found == [(tmp_path / "runs", tmp_path / "figures")]
    with pytest.raises(OptionError, match="place: got '~nobody-here/x', needs the name of a user"):
        Mine(place="~nobody-here/x")


def test_a_question_is_refused_before_the_run_that_it_would_be_put_to_is_trained():
    for own, training in (
        (configs.NoiseConfig(levels=(0.1, 0.1001)), OnsetConfig()),
        (configs.UTurnConfig(turns=(0.1, 0.1001)), OnsetConfig()),
        (configs.UTurnConfig(starts=2000), OnsetConfig()),
        (configs.LossesConfig(targets=2000), OnsetConfig()),
        (configs.NeighboursConfig(order="random"), OnsetConfig()),
        (configs.StoppingConfig(train_epochs=1), OnsetConfig()),
        (configs.CalibrationConfig(), rebuild(OnsetConfig(), {"snapshots": 0})),
    ):
        with pytest.raises(OptionError):
            configs.Both(training=training, own=own)


def test_a_run_that_does_not_fit_a_question_is_refused_before_it_is_opened(smoke_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "answer", None)
    folder = str(smoke_run[0])
    for line, said in (
        (["losses", "--targets", "5000", "--run", folder], "--targets: got 5000, needs at most the size of a data set"),
        (["noise", "--levels", "0.1", "0.1001", "--run", folder], "--levels: got (0.1, 0.1001), needs values that are"),
        (["losses", "--run", str(tmp_path)], f"--run: got {tmp_path}, needs the folder of a finished run of"),
        (["samples"], "--run: got nothing, needs the folder of a finished run of hierdiff images"),
        (
            ["onset", "--out", folder, "--depth", "2"],
            f"--out: got {folder}, needs another folder: this one holds a run",
        ),
        (["losses", "--out", folder, "--depth", "2"], f"--out: got {folder}, needs another folder: this one holds"),
        (["onset", "--out", f"{folder}/config.json"], "config.json, needs a folder that can be written"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(line)
        assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_options_that_a_question_gives_itself_are_named(capsys):
    for name, given_, instead in (
        ("stopping", ["--seed", "0"], "--seeds"),
        ("stopping", ["--steps", "90"], "--train-epochs"),
        ("processes", ["--process", "masking"], "--processes"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([name, *given_])
        said = f"{given_[0]} is not an option of hierdiff {name}: {instead} gives it"
        assert said in capsys.readouterr().err


# In a tiny setting, a network is trained for a step within a second or two.
TINY = {
    "sets": 3,
    "seeds_per_set": 2,
    "size": 200,
    "held_out": 200,
    "depth": 4,
    "vocab": 12,
    "rules": 12,
    "branching": 4,
    "width": 24,
    "expansion": 4,
    "layers": 2,
    "channels": 16,
    "grids": 4,
    "blocks": 2,
    "side": 16,
    "batch": 64,
    "draws": 3,
}
SMALL = {
    "onset": rebuild(QUESTIONS["onset"].presets["smoke"], {"held_out": 100, "size": 60, "depth": 2, "width": 8}),
    "images": rebuild(QUESTIONS["images"].presets["smoke"], {"size": 60, "batch": 8}),
}


def typed(name, domain):
    """A strategy for an option as somebody would type it: small values most of the time, ends, and what is none."""
    word = f"--{name.replace('_', '-')}"
    if domain.type is bool:
        return st.sampled_from([[word], [word.replace("--", "--no-")]])
    if domain.among:
        good = st.sampled_from(list(domain.among))
    elif domain.type is int:
        most = int(min(domain.most, TINY.get(name) or domain.least + 50))
        good = st.one_of(st.integers(int(domain.least), most), st.just(int(domain.most)))
    elif domain.type is float:
        low, high = max(domain.least, domain.above), min(domain.most, domain.below)
        good = st.one_of(st.floats(low, high), st.sampled_from([low, high, *domain.also]))
    else:
        good = st.text("abc/.", max_size=3)
    one = st.one_of(*3 * [good.map(str)], st.sampled_from(STRANGE))
    most = 3 if domain.several or domain.by_level else 1
    return st.lists(one, min_size=1, max_size=most).map(lambda values: [word, *values])


def command_lines(name):
    """Some options of a question that trains, those of one kind of network among them."""
    of_kinds = []
    for kind in NETWORKS if name == "onset" else [None]:
        preset, first = (rebuild(SMALL[name], {"network": kind}), ["--network", kind]) if kind else (SMALL[name], [])
        fields = [(config, field.name) for config, field in fields_of(preset) if "domain" in field.metadata]
        each = [typed(option_, domains(type(config))[option_]) for config, option_ in fields]
        some = st.lists(st.sampled_from(each).flatmap(lambda x: x), max_size=5, unique_by=lambda words: words[0])
        of_kinds.append(some.map(lambda lines, first=first: [*first, *itertools.chain(*lines)]))
    return st.one_of(of_kinds)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Presets that are small, and images to read."""
    images = np.random.default_rng(0).integers(0, 256, (600, 20, 20), np.uint8)
    np.savez(tmp_path / "images.npz", images)
    presets = SMALL | {"images": rebuild(SMALL["images"], {"data_dir": str(tmp_path / "images.npz")})}
    for name, preset in presets.items():
        monkeypatch.setitem(QUESTIONS[name].presets, "laptop", preset)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def start(name, words, monkeypatch, really):
    """Train as far as the first step, or up to its compilation; of what is not tiny, the options are read."""
    # As users have it: networks in bfloat16 promote their inputs.
    with Parser().one_sentence(), jax.numpy_dtype_promotion("standard"):
        config, _ = asked(monkeypatch, name, words)
        told = flat(options_of(config))
        if any(told[option_] > most for option_, most in TINY.items() if option_ in told):
            return
        world = {"onset": Sequences, "images": Images}[name].set_up(config)
        training, inputs = prepare(config, world), jax.eval_shape(lambda: world.inputs(config.measure))
        jax.eval_shape(make_measure(world), training.state.average, inputs)
        if really:
            next(train(config.train, training))
        else:
            training.advance.trace(training.state, training.data, training.keys, 0, 1)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("examples", "really"), [(3, False), pytest.param(100, True, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_what_is_accepted_starts_training_or_is_refused_in_one_sentence(name, examples, really, monkeypatch, capsys):
    """Nothing is written by then."""
    ends, lines = [], command_lines(name)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=CHECKS,
        phases=[Phase.generate],
    )
    @given(words=lines)
    def each(words):
        end = ended(capsys, lambda: start(name, words, monkeypatch, really))
        assert end is None or is_refusal(end) or str(end[0]).startswith("stopped: the loss"), (words, end)
        ends.append(end)

    each()
    assert None in ends
    assert any(ends)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_ends_a_run_with_what_is_saved(number, status, tmp_path, monkeypatch, capsys):
    before = run.train

    def interrupted(*args):
        for step, state in before(*args):
            if step == 42:
                signal.raise_signal(number)
            yield step, state

    monkeypatch.setattr(run, "train", interrupted)
    line = ["onset", *OPTIONS, "--out", str(tmp_path / "run")]
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit) as stop:
        main(line)
    assert stop.value.code == status
    said, saved = capsys.readouterr().err.splitlines()[-1], tmp_path / "run" / "state"
    goes_on = f"the state of step 42 is saved in {saved}, and the same command goes on from there"
    assert said == f"stopped by {number.name}: {goes_on}"
    assert [path.stem for path in saved.iterdir()] == ["00000042"]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_ctrl_c_says_what_there_is_of_a_question(monkeypatch, capsys, tmp_path):
    def stop(*_, **__):
        signal.raise_signal(signal.SIGINT)

    (tmp_path / "run").mkdir()
    (tmp_path / "losses.pieces").mkdir()
    (tmp_path / "losses.pieces" / "00000010.npz").touch()

    monkeypatch.setattr(command, "answer", stop)
    monkeypatch.setattr(command, "require_folders", lambda *_: None)
    for line, said in (
        (["benchmark"], "nothing was saved, and the same command starts anew"),
        (["onset", "--out", str(tmp_path / "none")], "nothing was saved, and the same command starts anew"),
        (["losses", "--run", str(tmp_path / "run")], "nothing was saved, and the same command starts anew"),
        (["losses", "--run", str(tmp_path)], f"what was finished is saved in {tmp_path}, and the same command goes on"),
    ):
        with pytest.raises(SystemExit, match="130"):
            main(line)
        assert capsys.readouterr().err.startswith(f"stopped by SIGINT: {said}")


def test_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch, capsys):
    def twice(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        yield

    monkeypatch.setattr(run, "train", twice)
    with pytest.raises(SystemExit, match="130"):
        main(["onset", *OPTIONS, "--out", str(tmp_path / "run")])
    assert "stopped by SIGINT: nothing was saved" in capsys.readouterr().err
