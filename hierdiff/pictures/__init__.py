"""The figures of each question, and the picture of a run; they read records and compute nothing."""

import importlib
import os
import sys
from unittest import mock

try:
    importlib.import_module("matplotlib")
except ValueError:
    # MPLBACKEND names no backend, or the user's matplotlibrc is no text: here neither matters.
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[name]
    with mock.patch.dict(os.environ, {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}):
        importlib.import_module("matplotlib")
