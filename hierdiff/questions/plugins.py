"""Somebody's own processes, networks, optimizers and questions, registered without editing the package.

A plugin is a module that has one of these by name: `PROCESSES`, `NETWORKS`, `OPTIMIZERS`, `QUESTIONS`, each a
dictionary as the registry of that name in hierdiff.
"""

import importlib
import sys
import traceback
from collections.abc import Mapping
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
    except Exception as error:
        # Whatever somebody else's module raises; the last line of it that was run is where to look.
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if "importlib" in last.filename else f" ({last.filename}, line {last.lineno})"
        need = f"a module that can be imported: {' '.join(str(error).split()) or type(error).__name__}{where}"
        raise OptionError("plugin", name, need) from None
    for registry, there in REGISTRIES.items():
        own = getattr(module, registry, {})
        require(isinstance(own, Mapping), "plugin", name, f"a module whose {registry} is a dictionary")
        for key, value in own.items():
            need = f"names that are not taken; in {registry}, {key} is"
            require(there.setdefault(key, value) is value, "plugin", name, need)
    if name not in PLUGINS:
        PLUGINS.append(name)
