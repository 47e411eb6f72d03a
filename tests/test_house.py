"""The house: rooms import only what comes before them, and options are read before anything heavy is imported."""

import ast
import collections
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from hierdiff.questions import QUESTIONS

ROOT = Path(__file__).parents[1]
# Rooms in one tuple do not import each other.
ORDER = [
    ("errors", "called", "chunks", "keys"),
    ("noising", "grammar_config"),
    ("grammar", "layouts", "adapters"),
    ("posterior",),
    ("sampling",),
    ("statistics",),
    ("measures",),
    ("learning",),
    ("runs",),
    ("worlds",),
    ("compare",),
    ("pictures",),
    ("questions",),
    ("__main__",),
]
FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}
HEAVY = ("jax", "flax", "optax", "orbax", "xarray", "pandas", "scipy", "matplotlib", "bokeh", "jinja2")


def imported(path):
    """The modules that a file imports, with the names that may be modules of a package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def files():
    return [
        path
        for path in sorted((ROOT / "hierdiff").rglob("*.py"))
        if path.parent.name != "hierdiff" or path.stem != "__init__"
    ]


def room_of(path):
    return path.relative_to(ROOT / "hierdiff").parts[0].removesuffix(".py")


def test_every_room_has_its_place():
    assert {room_of(path) for path in files()} == set(FLOOR)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_earlier_ones(path):
    room = room_of(path)
    for name in imported(path):
        package, *inner = name.split(".")
        assert package not in ("experiments", "figures"), name
        if package == "hierdiff" and inner[0] not in (room, "__version__"):
            assert FLOOR[inner[0]] < FLOOR[room], f"{path} imports {name}"


def test_learning_knows_of_noise_and_of_nothing_that_is_measured():
    for path in (ROOT / "hierdiff" / "learning").glob("*.py"):
        rooms = {name.split(".")[1] for name in imported(path) if name.startswith("hierdiff.")}
        assert rooms <= {"learning", "noising", "errors", "chunks", "keys"}, path


def test_outside_the_noise_nobody_knows_its_schedule():
    """But for the one-line Gaussian form of the memorizer."""
    for path in files():
        if room_of(path) != "noising" and "alpha_bar" in path.read_text():
            assert path.name == "posterior.py"


def test_the_name_of_a_file_occurs_once():
    """Questions and pictures bear the names of their commands."""
    names = collections.Counter(
        path.stem for path in files() if room_of(path) not in ("questions", "pictures") and path.stem != "__init__"
    )
    assert [name for name, times in names.items() if times > 1] == []


def test_no_file_has_the_name_of_what_its_package_gives():
    """The import of the file would put it in the place of the function."""
    for package in ("hierdiff", "hierdiff.noising"):
        given = importlib.import_module(package)
        files = {path.stem for place in given.__path__ for path in Path(place).glob("*.py")} - {"compare"}
        assert files & {*given.__all__} == set(), package


def test_every_question_has_its_command():
    """`experiments` and `figures` hold these and the script that needs torch, and nothing else."""
    assert {path.stem for path in (ROOT / "experiments").glob("*.py")} == {*QUESTIONS, "__init__", "benchmark_torch"}
    assert {path.stem for path in (ROOT / "figures").glob("*.py")} == {"__init__", "__main__", "onset"}
    ends = {f"experiments/{name}.py": (f"main = command('{name}')", "main") for name in QUESTIONS}
    ends["figures/__main__.py"] = "main = functools.partial(draw_all, QUESTIONS)", "main"
    ends["figures/onset.py"] = "from hierdiff.pictures.command import draw_run", "draw_run"
    for file, (line, name) in ends.items():
        *_, bound, called = map(ast.unparse, ast.parse((ROOT / file).read_text()).body)
        assert (bound, called) == (line, f"if __name__ == '__main__':\n    {name}()"), file


COMMANDS = [
    *(f"experiments.{name}.main" for name in QUESTIONS),
    "figures.__main__.main",
    "figures.onset.draw_run",
    "hierdiff.questions.command.main",
]
# What else is refused, or helped with, by `hierdiff`.
LINES = [
    ["nothing"],
    ["figures", "nothing"],
    ["onset", "--process", "masking", "--help"],
    ["onset", "--depth", "0"],
    ["onset", "--network", "transformer", "--heads", "5"],
    ["onset", "--out", "/proc/self/status"],
    ["losses", "--run", "/nowhere"],
    ["noise", "--levels", "0.1", "0.1001"],
    ["stopping", "--train-epochs", "1"],
    ["images", "--side", "9"],
]


def test_options_are_read_before_anything_heavy_is_imported():
    """Help and refusals, in a program that says after each what it has imported by then."""
    code = (
        "import importlib, sys\n"
        f"lines = [(command, line) for command in {COMMANDS} for line in (['--help'], ['--novel'])]\n"
        f"for command, line in lines + [({COMMANDS[-1]!r}, line) for line in {LINES}]:\n"
        "    module, _, name = command.rpartition('.')\n"
        "    try:\n        getattr(importlib.import_module(module), name)(line)\n"
        "    except SystemExit as stop:\n"
        f"        print('found', command, *line, stop.code, *(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    found = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    lines = [(command, line) for command in COMMANDS for line in (["--help"], ["--novel"])]
    lines += [(COMMANDS[-1], line) for line in LINES]
    assert found == [" ".join(["found", command, *line, "0" if "--help" in line else "2"]) for command, line in lines]
