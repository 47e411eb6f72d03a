"""What is compiled is kept for the next process, where that can be done."""

import os
import stat

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from hierdiff.learning import compiled

NAMES = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_enable_compilation_cache",
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The cache folder of a user; JAX is told nothing of it yet, and afterwards again what it was told."""
    before = {name: getattr(jax.config, name) for name in NAMES}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def folder_told():
    return getattr(jax.config, NAMES[0])


def test_programs_are_kept_in_the_folder_of_the_user_for_such_cpus_alone(home, monkeypatch):
    compiled.keep_compiled()
    [folder] = (home / "hierdiff").iterdir()
    assert folder_told() == str(folder)
    monkeypatch.setattr(compiled, "LEAST", 0.0)
    jax.config.update("jax_compilation_cache_dir", None)
    compiled.keep_compiled()
    compilation_cache.reset_cache()
    jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((3, 3)))
    assert list(folder.glob("*-cache"))
    # Another kind of CPU.
    monkeypatch.setattr(compiled, "cpu", lambda: "another one")
    jax.config.update("jax_compilation_cache_dir", None)
    compiled.keep_compiled()
    assert len(list((home / "hierdiff").iterdir())) == 2


def test_what_was_half_written_is_dropped_and_what_is_whole_stays(home):
    compiled.keep_compiled()
    [folder] = (home / "hierdiff").iterdir()
    for name in ("whole-cache", "whole-atime", "half-cache"):
        (folder / name).write_bytes(b"x")
    compiled.tidy(folder)
    assert sorted(path.name for path in folder.glob("[a-z]*")) == ["whole-atime", "whole-cache"]


def test_what_the_user_has_told_jax_stays(home):
    jax.config.update("jax_compilation_cache_dir", str(home / "mine"))
    compiled.keep_compiled()
    assert folder_told() == str(home / "mine")
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    compiled.keep_compiled()
    assert folder_told() is None
    assert not (home / "hierdiff").exists()


@pytest.mark.parametrize("how", ["no home", "a file", "read only"])
def test_without_a_folder_that_will_do_nothing_is_kept(how, home, monkeypatch):
    if how == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    elif how == "a file":
        (home / "hierdiff").write_text("not a folder")
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    else:
        home.chmod(stat.S_IRUSR | stat.S_IXUSR)
    compiled.keep_compiled()
    assert folder_told() is None
