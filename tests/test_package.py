"""What an installation brings: one package, one version, one command that says of itself how it was called."""

import os
import re
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder

import hierdiff
from hierdiff import called
from hierdiff.questions import QUESTIONS
from hierdiff.questions.command import main

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_one_package(tmp_path):
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"hierdiff", f"hierdiff-{hierdiff.__version__}.dist-info"}
    tracked = subprocess.run(["git", "ls-files", "hierdiff"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert {*tracked.stdout.splitlines()} <= {*names}
    assert {Path(name).suffix for name in names if name.startswith("hierdiff/")} == {".py", ".typed", ".html", ".js"}


def test_the_version_is_one():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == hierdiff.__version__
    assert re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == hierdiff.__version__


def run_as(monkeypatch, module, argv):
    """Have this process look as one that was started so; `module` is what was run by `python -m`."""
    spec = module and types.SimpleNamespace(name=module)
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(__spec__=spec))
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", *argv])


@pytest.mark.parametrize(
    ("module", "script", "others", "own"),
    [
        ("experiments.onset", "/x/experiments/onset.py", "python -m experiments.{}", "python -m experiments.onset"),
        ("figures.__main__", "/x/figures/__main__.py", "python -m experiments.{}", "python -m figures"),
        ("hierdiff.__main__", "/x/hierdiff/__main__.py", "python -m hierdiff {}", "python -m hierdiff"),
        (None, "/x/bin/hierdiff", "hierdiff {}", "hierdiff"),
        (None, "mine.py", "hierdiff {}", "python3 mine.py"),
        ("ipykernel_launcher", "/x/ipykernel_launcher.py", "hierdiff {}", "python -m ipykernel_launcher"),
    ],
)
def test_what_is_called_is_called_as_the_program_was(module, script, others, own, monkeypatch):
    run_as(monkeypatch, module, [script, "--out", "my runs"])
    assert called.form("noise") == others.format("noise")
    assert called.command() == f"{own} --out 'my runs'"
    checkout = "experiments" in others
    assert called.form("figures") == ("python -m figures" if checkout else others.format("figures"))
    assert called.form("figures onset") == ("python -m figures.onset" if checkout else others.format("figures onset"))
    words = others.format("noise").split()[1:]
    if others.startswith("hierdiff"):
        words = [script, "noise"] if script.endswith("/hierdiff") else ["-m", "hierdiff", "noise"]
    assert called.start("noise") == [sys.executable, *words]


def test_a_folder_of_the_user_that_hides_a_command_is_not_named(tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").touch()
    for folder, command in ((tmp_path, "python -m hierdiff onset"), (ROOT, "python -m experiments.onset")):
        words = [sys.executable, "-m", "figures.onset", "--help"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder, env=environment)
        assert f"folder of a finished run of {command}\n" in done.stdout
        assert done.stdout.startswith("usage: python -m figures.onset ")


def test_a_command_can_be_repeated(monkeypatch):
    """Of words that are no text, too, and of such as look like bytes."""
    words = ["a b", "it's", "$HOME", "x;y", "[1]*", "back\\slash", "new\nline", "", "é"]
    words += [os.fsdecode(word) for word in (b"\xff", b"it's \xe9\\x41 'a'")]
    run_as(monkeypatch, None, ["/x/bin/hierdiff", *words])
    line = called.command().removeprefix("hierdiff ").encode()
    done = subprocess.run(["bash", "-c", b"printf '%s\\0' " + line], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words]


def test_without_a_name_the_questions_are_listed(monkeypatch, capsys):
    """Each on one line of a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    main([])
    listed = dict(re.findall(r"^    (\w+) +(.+[.?!])$", capsys.readouterr().out, re.MULTILINE))
    assert set(listed) == {*QUESTIONS, "figures"}
    assert all(entry.asks.startswith(listed[name]) for name, entry in QUESTIONS.items())


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["onst"], "error: NAME: got 'onst', needs one of 'onset', 'noise'"),
        (["--novel"], "error: --novel is not an option of hierdiff"),
        (["figures", "onst"], "error: FIGURE: got onst, needs one of training"),
        (["figures", "onset"], "error: run: got nothing, needs a value"),
        (["figures", "onset", "--novel", "x"], "error: --novel is not an option of hierdiff figures onset"),
        (["--completion", "sh"], "error: --completion: got 'sh', needs one of bash, zsh, fish"),
    ],
)
def test_what_is_none_of_its_commands_is_refused(argv, sentence, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert capsys.readouterr().err.startswith(sentence)


def test_the_version_is_said_without_jax():
    code = "import sys\nfrom hierdiff.questions.command import main\n"
    code += "try: main(['--version'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    version, modules = done.stdout.splitlines()
    assert version == f"hierdiff {hierdiff.__version__}"
    assert not {"jax", "flax", "xarray", "matplotlib"} & {*modules.split()}


@pytest.mark.slow
def test_bash_completes_names_and_options(tmp_path, capsys):
    """Of every network, not of the default one alone; and what options may be."""
    main(["--completion", "bash"])
    (tmp_path / "completion.bash").write_text(capsys.readouterr().out)
    (tmp_path / "folder").mkdir()
    tried = {
        "onse": {"onset"},
        "onset --hea": {"--heads"},
        "onset --network t": {"tree", "transformer"},
        "neighbours --run fold": {"folder"},
        "images --data-dir fold": {"folder"},
        "figures spec": {"spectrum"},
        "--completion z": {"zsh"},
    }
    script = """
        source completion.bash
        for words in "$@"; do
            COMP_WORDS=(hierdiff $words) COMPREPLY=()
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _shtab_hierdiff
            echo "${COMPREPLY[*]}"
        done
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", *tried], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert [{*line.split()} for line in done.stdout.splitlines()] == list(tried.values())
