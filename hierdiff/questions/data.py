"""The simulator on its own: sequences with the symbols of every level, and exact posteriors, for a training elsewhere.

They are those that a run of the same options draws. Files hold parts of bounded size, and each depends on the options
alone: what was left is gone on with.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hierdiff.errors import require
from hierdiff.grammar import Grammar, random_grammar, save_grammar
from hierdiff.keys import key_for
from hierdiff.noising import PROCESSES, Process
from hierdiff.noising.levels import noise_level
from hierdiff.posterior import leaf_posterior, window_posterior
from hierdiff.questions.answers import leave
from hierdiff.questions.configs import DataConfig
from hierdiff.runs import record, saying
from hierdiff.runs.checkpoint import only_writer
from hierdiff.sampling import sample

# Numbers in the arrays of a file, and of noise that is drawn at once.
IN_FILE, AT_ONCE = 2**23, 2**25


class Source(NamedTuple):
    """What the files of one name hold: so many sequences, and about so many `numbers` of each.

    `draw(first, n)` gives the arrays of the sequences `first` to `first + n - 1`.
    """

    name: str
    sequences: int
    numbers: int
    draw: Callable[[int, int], dict[str, Any]]

    def parts(self, folder: Path, form: str) -> Iterator[tuple[Path, int, int]]:
        """Each file, with its first sequence and their number."""
        size = rows(IN_FILE, self.numbers)
        for first in range(0, self.sequences, size):
            yield folder / f"{self.name}-{first // size:05d}.{form}", first, min(size, self.sequences - first)


def rows(room: int, numbers: int) -> int:
    """How many sequences of so many numbers there is room for: a power of two, at least one."""
    return 1 << max(0, (room // numbers).bit_length() - 1)


def answer(config: DataConfig, options: argparse.Namespace) -> None:
    """Write what is missing of the data, and say what there is."""
    installed = config.format == "npz" or importlib.util.find_spec("pyarrow") is not None
    need = "npz, or an installation of pyarrow, which comes with hierdiff[parquet]"
    require(installed, "format", config.format, need)
    folder, file = options.out, options.out / "data.json"
    with in_folder(folder, config):
        grammar = random_grammar(key_for(config.seed, "grammar"), **dataclasses.asdict(config.grammar))
        every = [*sources(config, grammar)]
        whole = write_missing(folder, config.format, grammar, every)
        sequences = collections.Counter()
        for source in every:
            sequences[source.name.split("-")[0] if source.name.startswith("train") else source.name] += source.sequences
        lines = [("files", "sequences"), *((f"{name}-*.{config.format}", f"{n:,}") for name, n in sequences.items())]
        table = [f"{name:<24}  {number:>13}" for name, number in lines]
        sentence = f"Sequences have {grammar.leaves} symbols, of the grammar in grammar.npz."
        if whole and file.exists():
            saying.answer([*table, "", sentence], file)
        else:
            leave(file, config, table, sentence, sequences=sequences)


@contextlib.contextmanager
def in_folder(folder: Path, config: Any) -> Iterator[None]:
    """Hold a folder as that of what `config` stands for, begun or not.

    Raises:
      ValueError: it holds something else, or another process writes it.
    """
    record.require_folder(folder, config)
    with only_writer(folder, "out"):
        record.require_folder(folder, config)
        record.tidy(folder)
        if (folder / "config.json").exists():
            record.require_same_data("out", folder, {})
        else:
            record.write_json(folder / "config.json", record.begun(config))
        yield


def write_missing(folder: Path, form: str, grammar: Grammar, every: list[Source]) -> bool:
    """Write the files that are not there; gives whether all were."""
    write = {"npz": record.write_arrays, "parquet": write_parquet}[form]
    if not (folder / "grammar.npz").exists():
        record.write_whole(folder / "grammar.npz", lambda temporary: save_grammar(temporary, grammar))
    parts = [(source, *part) for source in every for part in source.parts(folder, form)]
    missing = [part for part in parts if not part[1].exists()]
    done = sum(number for *_, number in parts) - sum(number for *_, number in missing)
    with saying.progress(sum(number for *_, number in parts), "sequence") as show:
        show(done)
        for source, path, first, number in missing:
            write(path, source.draw(first, number))
            done += number
            show(done)
    return not missing


def sources(config: DataConfig, grammar: Grammar) -> Iterator[Source]:
    """The training sets and the held-out set, of one stream, and the latter at each noise level."""
    key, vocab = key_for(config.seed, f"split {config.split}"), grammar.vocab
    draw, before = functools.partial(sample, key_for(key, "data"), grammar), config.sets * config.size

    def derived(start: int, first: int, n: int) -> dict[str, Any]:
        return {f"level_{d}": small(x, vocab) for d, x in enumerate(draw(n, first=start + first).levels)}

    nodes = sum(grammar.branching**d for d in range(grammar.depth + 1))
    for i in range(config.sets):
        yield Source(f"train-{i}", config.size, nodes, functools.partial(derived, i * config.size))
    yield Source("held-out", config.held_out, nodes, functools.partial(derived, before))

    process = PROCESSES[config.process](vocab=vocab, levels=config.noise_levels)
    numbers = grammar.leaves * vocab
    block = rows(AT_ONCE, numbers)

    @functools.lru_cache(maxsize=1)
    def corrupted(level: int, start: int) -> tuple[np.ndarray, np.ndarray]:
        """A block of sequences, and their x_t; a held-out set of one block has the noise that a run draws for it."""
        tokens = draw(min(block, config.held_out - start), first=before + start).leaves
        of_level = key_for(key, f"held-out noise at t = {level}")
        x_t = process.corrupt(jax.random.fold_in(of_level, start) if start else of_level, tokens, level)
        return np.asarray(tokens), np.asarray(x_t)

    def noised(level: int, first: int, n: int) -> dict[str, Any]:
        start, place = first - first % block, first % block
        tokens, x_t = (x[place : place + n] for x in corrupted(level, start))
        exact = posteriors(grammar, process, jnp.asarray(x_t), jnp.full(n, level))
        return {"t": np.full(n, level, np.int32), "x_0": small(tokens, vocab), "x_t": small(x_t, vocab), **exact}

    for share in config.shares:
        level = noise_level(share, config.noise_levels)
        # Of x_0, x_t, and the posteriors.
        of_each = numbers * (2 * grammar.depth + 4)
        yield Source(f"noised-t{level}", config.held_out, of_each, functools.partial(noised, level))


@jax.jit
def posteriors(grammar: Grammar, process: Process, x_t: Array, t: Int[Array, " n"]) -> dict[str, Float[Array, "n L v"]]:
    """BP_k for each k, and the window posterior of each height."""
    ll, each = process.log_likelihood(x_t, t), range(grammar.depth + 1)
    found = {f"bp_{k}": leaf_posterior(grammar, ll, filtered=k) for k in each}
    return found | {f"window_{h}": window_posterior(grammar, ll, height=h) for h in each}


def small(x: Any, vocab: int) -> np.ndarray:
    """Symbols, or the mask, which is `vocab`, as bytes if they fit; numbers as they are."""
    x = np.asarray(x)
    return x.astype(np.uint8 if vocab < 256 else np.int32) if np.issubdtype(x.dtype, np.integer) else x


def write_parquet(path: Path, arrays: dict[str, Any]) -> None:
    """Arrays by name as columns: a row for each sequence, with lists in lists of fixed lengths."""
    import pyarrow as pa
    from pyarrow import parquet

    def column(x: np.ndarray) -> Any:
        found = pa.array(x.ravel())
        for size in reversed(x.shape[1:]):
            found = pa.FixedSizeListArray.from_arrays(found, size)
        return found

    table = pa.table({name: column(np.asarray(x)) for name, x in arrays.items()})

    def write(temporary: Path) -> None:
        # pyarrow takes no path that is not text.
        with temporary.open("wb") as file:
            parquet.write_table(table, file)

    record.write_whole(path, write)
