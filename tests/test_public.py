"""The public names: what `import hierdiff as hd` gives, what that imports, and the examples of their docstrings."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hierdiff as hd

ROOT = Path(__file__).parents[1]
# What is imported when it is used, and by none of the exact tools.
HEAVY = {"bokeh", "flax", "h5netcdf", "h5py", "jinja2", "matplotlib", "optax", "pandas", "scipy", "torch", "xarray"}
# These measure and say all that a run does.
MEASURE = {"compare", "Comparison"}


def test_nothing_heavy_is_imported_before_it_is_used():
    """Nor JAX by the import alone; names that JAX has imported itself do not count."""
    code = (
        "import sys\nimport hierdiff as hd\nassert 'jax' not in sys.modules\n"
        "import jax\nbefore = {*sys.modules}\nhd.noising, hd.grammar, hd.posterior, hd.sampling\n"
        f"for name in set(hd.__all__) - {MEASURE}: getattr(hd, name)\n"
        "grammar = hd.random_grammar(jax.random.key(0), depth=1, vocab=2, rules=2)\n"
        "assert hd.sample(jax.random.key(0), grammar, 1).leaves.shape == (1, 2)\n"
        f"print(*{HEAVY} & ({{*sys.modules}} - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


def test_all_names_and_modules_are_there():
    modules = {path.stem for path in (ROOT / "hierdiff").iterdir() if not path.name.startswith("_")} - {"py"}
    assert {*dir(hd)} == {*hd.__all__, *modules, "__version__"}
    assert [name for name in dir(hd) if getattr(hd, name) is None] == []
    assert hd.noising.Gaussian is hd.Gaussian
    assert re.fullmatch(r"\d+\.\d+\.\d+", hd.__version__)
    with pytest.raises(AttributeError, match="module 'hierdiff' has no attribute 'novel'"):
        _ = hd.novel


@pytest.mark.parametrize("name", sorted({*hd.__all__} - {"compare"}))
def test_examples_say_what_is_so(name):
    """Each public name has one, as it would be typed after the usual imports."""
    if name == "torch_denoiser":
        pytest.importorskip("torch")
    known = {"hd": hd, "jax": jax, "jnp": jnp, "np": np}
    test = doctest.DocTestParser().get_doctest(getattr(hd, name).__doc__, known, name, None, 0)
    assert test.examples
    said = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
    assert "".join(said) == ""
