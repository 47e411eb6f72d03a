"""What a command says: remarks, how far its work has come, and its answer.

In a terminal progress is a bar, in a log a line a minute. What is carried out quietly says its answer alone, and of
several processes that carry out one run only the first says anything.
"""

import contextlib
import contextvars
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
from tqdm import tqdm

# Seconds between two lines of a log, and before the first one, which waits longer for what is found.
EVERY, FIRST = 60.0, 1.0
_quiet = contextvars.ContextVar("quiet", default=False)
# By what it is shown how far a part of the work has come, as a share.
_shown: contextvars.ContextVar[Callable[[float], None] | None] = contextvars.ContextVar("shown", default=None)


def be_quiet(quiet: bool) -> None:
    """Say nothing but answers from now on, if `quiet`."""
    _quiet.set(quiet)


def remark(*lines: object) -> None:
    if not _hidden():
        print(*lines, sep="\n", flush=True)


def answer(lines: Sequence[str], *files: Path) -> None:
    """Print what was found, and, unless quietly, where it is."""
    if in_first_process():
        print("", *lines, sep="\n", flush=True)
        if files:
            remark("", *files)


def aside(lines: Sequence[str]) -> None:
    """What was found on the way to an answer."""
    remark("", *lines)


@contextlib.contextmanager
def progress(total: int | float, unit: str, form: str | None = None) -> Iterator[Callable[..., None]]:
    """Shows how much of `total` units of work is done; `form` is that of the bar.

    It gives `show(done, left=None, **found)`: `found` is shown besides, as text, and `left` are the seconds that are
    left, where more is known of them than the pace. What is shown in the first moment was done before.
    """
    if shown := _shown.get():
        yield lambda done, left=None, **found: shown(done / total)
    elif _hidden():
        yield lambda done, left=None, **found: None
    elif sys.stderr.isatty():
        with tqdm(total=total, unit=unit, bar_format=form, dynamic_ncols=True) as bar:

            def show(done: int | float, left: int | float | None = None, **found: str) -> None:
                bar.update(done - bar.n)
                if found or left is not None:
                    words = named(found, "="), "" if left is None else time_left(left)
                    bar.set_postfix_str(", ".join(filter(None, words)))

            yield show
    else:
        yield Log(total, unit).show


@contextlib.contextmanager
def part(show: Callable[[float], None]) -> Iterator[None]:
    """Say nothing but answers inside, and `show` how far the work there has come, as a share of it."""
    quiet, shown = _quiet.set(True), _shown.set(show)
    try:
        yield
    finally:
        _quiet.reset(quiet)
        _shown.reset(shown)


class Log:
    """Progress in a log: the first line once a pace is known, then one a minute, and one at the end."""

    def __init__(self, total: int | float, unit: str):
        self.total, self.unit = total, unit
        self.found: dict[str, str] = {}
        # When something was shown first; when a line was printed; and since when, after `before`, the pace counts: that
        # is since the last line, or since something was found, until when much is compiled.
        self.begun = self.said = self.since = -math.inf
        self.before: int | float = 0

    def show(self, done: int | float, left: int | float | None = None, **found: str) -> None:
        now, first_found = time.monotonic(), bool(found) and not self.found
        self.found = found or self.found
        if self.begun < 0:
            self.begun = now
        if first_found or now - self.begun <= 0.5 * FIRST:
            self.since, self.before = now, done
        due = now - self.said >= EVERY if self.said >= 0 else now - self.since >= FIRST * (1 if self.found else 10)
        if done > self.before and (due or done >= self.total):
            if left is None:
                left = (self.total - done) * (now - self.since) / (done - self.before)
            words = ", ".join(filter(None, (f"{self.unit} {done:,.0f} of {self.total:,.0f}", named(self.found, " "))))
            print(f"{words}; {time_left(left)}", file=sys.stderr, flush=True)
            self.said, self.since, self.before = now, now, done


def named(found: dict[str, str], between: str) -> str:
    return ", ".join(f"{name}{between}{x}" for name, x in found.items())


def time_left(seconds: int | float) -> str:
    if not math.isfinite(seconds):
        return "time left not known yet"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.{1 if unit == 'h' else 0}f} {unit} left"
    return f"about {seconds:.0f} s left"


def in_first_process() -> bool:
    return jax.process_index() == 0


def _hidden() -> bool:
    return _quiet.get() or not in_first_process()
