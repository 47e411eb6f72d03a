"""A client's whole programs, as the page on one's own model has them: run as they stand there, on torch (slow)."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hierdiff.runs import record

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "questions" / "models.md").read_text()


def files():
    """The files of the page, by name; those that are folded away are indented."""
    found = re.findall(r'^( *)```python title="([\w.]+)"\n(.*?)^ *```$', PAGE, re.MULTILINE | re.DOTALL)
    return {name: re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, name, text in found}


@pytest.mark.parametrize("name", ["program.py", "pictures.py"])
def test_a_program_is_short(name):
    """At most 15 lines beside imports, and the networks and their training."""
    imports = (ast.Import, ast.ImportFrom)
    said = [each for each in ast.parse(files()[name]).body if not isinstance(each, imports)]
    assert 0 < sum(each.end_lineno - each.lineno + 1 for each in said if each.end_lineno) <= 15


def run(folder, name):
    """What the program prints, in a process of its own where all files of the page lie, and the picture is drawn."""
    for each, text in files().items():
        (folder / each).write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    options = {"capture_output": True, "text": True, "cwd": folder, "env": environment}
    done = subprocess.run([sys.executable, name], **options, check=False)
    assert done.returncode == 0, done.stderr
    saved = next((folder / "runs").iterdir())
    subprocess.run([sys.executable, "-m", "figures.onset", saved], **options, check=True)
    assert (saved / "onset.png").stat().st_size > 10_000
    return done.stdout, record.read_results(saved / "curves.nc"), record.read_json(saved / "summary.json")


@pytest.mark.slow
def test_networks_of_torch_on_a_grammar(tmp_path):
    """They part while they still learn, and what they know is known by height."""
    pytest.importorskip("torch")
    said, curves, summary = run(tmp_path, "program.py")
    assert "turning point of the sample split: step" in said
    assert summary["verdict"] in said
    assert 20 < summary["onset"]["step"] < 2500
    end = curves.sel(noise=0.15).isel(step=-1)
    assert end.own_against_other > 0.1
    assert end.split > 1.1 * curves.split.sel(noise=0.15).sel(step=slice(20, None)).min()
    # Leaves first, and the whole sequence last or never; both parts of the error are there.
    assert end.learned.sel(height=0) > 0.9 > end.learned.sel(height=3)
    assert (end.error.sel(height=[0, 1, 2, 3]) > 0).all()
    assert curves.test_loss.min() < 0.9 * curves.test_loss[0]


@pytest.mark.slow
def test_unets_of_torch_on_a_folder_of_pictures(tmp_path):
    """Split, slope, own against other and landmarks, without a grammar."""
    pytest.importorskip("torch")
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:16, :16]
    (tmp_path / "pictures").mkdir()
    for number in range(400):
        centres, widths = rng.uniform(2, 14, (3, 2, 1, 1)), rng.uniform(1.5, 3.5, (3, 1, 1))
        blobs = np.exp(-np.square(np.array([y, x]) - centres).sum(1) / (2 * widths**2))
        Image.fromarray((255 * blobs.max(0)).astype(np.uint8)).save(tmp_path / "pictures" / f"{number:03}.png")
    said, curves, summary = run(tmp_path, "pictures.py")
    assert summary["verdict"] in said
    assert "turning point of the sample split: step" in said
    end = curves.isel(step=-1)
    assert (end.own_against_other > 0).all()
    assert (end.slope > 0).all()
    assert "error" not in curves
    assert summary["best"]["step"] > 10
    assert summary["memorization"]["step"] > 10
    assert curves.test_loss.min() < 0.7 * curves.test_loss[0]
