"""Somebody's own processes, networks, optimizers and questions, registered without editing the package.

A plugin is a module that has one of these by name: `PROCESSES`, `NETWORKS`, `OPTIMIZERS`, `QUESTIONS`, each a
dictionary as the registry of that name in hierdiff.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

from hierdiff.errors import OptionError, require
from hierdiff.learning.network import NETWORKS
from hierdiff.learning.train_config import OPTIMIZERS
from hierdiff.noising import PROCESSES
from hierdiff.questions import QUESTIONS
from hierdiff.runs.options import PLUGINS

REGISTRIES: dict[str, dict[str, Any]] = {
    "PROCESSES": PROCESSES,
    "NETWORKS": NETWORKS,
    "OPTIMIZERS": OPTIMIZERS,
    "QUESTIONS": QUESTIONS,
}


def load(name: str) -> None:
    """Import a plugin and register what it has.

    Raises:
      ValueError: there is no such module, or a name in it is taken.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise OptionError("plugin", name, f"a module that can be imported: {error}") from None
    for registry, there in REGISTRIES.items():
        for key, value in getattr(module, registry, {}).items():
            require(
                there.setdefault(key, value) is value,
                "plugin",
                name,
                f"names that are not taken; in {registry}, {key} is",
            )
    if name not in PLUGINS:
        PLUGINS.append(name)
