"""How this program was called, and others are: as the command of the package, or as modules of a checkout."""

import importlib.util
import os
import shlex
import sys
from pathlib import Path

# The packages beside this one in a checkout, whose modules are commands.
CHECKOUT = ("experiments", "figures")


def form(name: str = "") -> str:
    """What is typed before the options of a question, or of `figures`: as in the call of this program.

    By itself, without a name, the command that has them all.
    """
    package, _, _ = _module().partition(".")
    if package in CHECKOUT:
        module = name.replace(" ", ".") if name.startswith("figures") else f"experiments.{name}"
        if _is_ours(module.partition(".")[0]):
            return f"python -m {module}"
    return " ".join(["python -m hierdiff" if package in ("hierdiff", *CHECKOUT) else "hierdiff", *name.split()])


def finished_run(name: str) -> str:
    """What a question, or a figure, that is put to a run of the training `name` is to be given."""
    return f"folder of a finished run of {form(name)}"


def start(name: str) -> list[str]:
    """The words that start such a program beside this one, by the same interpreter."""
    first, *words = form(name).split()
    if first == "python":
        return [sys.executable, *words]
    return [sys.executable, *([sys.argv[0]] if _is_command() else ["-m", "hierdiff"]), *words]


def command() -> str:
    """The call of this program, for a shell."""
    if module := _module():
        words = ["python", "-m", module, *sys.argv[1:]]
    elif _is_command():
        words = ["hierdiff", *sys.argv[1:]]
    else:
        words = [Path(*sys.orig_argv[:1]).name, *sys.orig_argv[1:]]
    return quoted(words)


def quoted(words: list[str]) -> str:
    """Words for a shell; of one that is not UTF-8, bash and zsh make its bytes."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    try:
        word.encode()
    except UnicodeEncodeError:
        escaped = os.fsencode(word.replace("\\", "\\\\").replace("'", "\\'"))
        return f"$'{escaped.decode('ascii', 'backslashreplace')}'"
    return shlex.quote(word)


def _module() -> str:
    """The module that was run by `python -m`, if one was."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else ""


def _is_ours(package: str) -> bool:
    """Whether a package is the one beside this, and not a folder of that name of the user's own, which hides it."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None and Path(spec.origin).parents[1] == Path(__file__).parents[1]


def _is_command() -> bool:
    """Whether it is the script that an installation makes."""
    return not _module() and Path(*sys.argv[:1]).name == "hierdiff"
