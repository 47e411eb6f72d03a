"""Numbers in words: steps with their intervals, values with their errors, rows of a table."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr


def interval(found: dict[str, Any]) -> str:
    """A step and its 95% interval in words; an end beyond the run is open."""
    if not found["reached"]:
        return "from the start" if found["from_start"] else "not reached"
    low = f"{found['low']:,.0f}" if found["low"] > 0 else "open"
    high = f"{found['high']:,.0f}" if _known(found["high"]) else "open"
    return f"{found['step']:,.0f} ({low} to {high})"


def with_error(x: float, error: float, digits: int) -> str:
    """A value with its standard error in units of the last digit."""
    return f"{x:.{digits}f}({10**digits * error:.0f})"


def cell(curves: xr.Dataset, name: str, digits: int) -> str:
    """One value of a record with its standard error."""
    return with_error(float(curves[name]), float(curves[f"{name}_error"]), digits)


def with_interval(curves: xr.Dataset, name: str, digits: int) -> str:
    """One value of a record with its 95% interval."""
    x, half = float(curves[name]), float(curves[f"{name}_half"])
    return f"{x:.{digits}f} ({x - half:.{digits}f} to {x + half:.{digits}f})"


def lines_over(dim: str, curves: xr.Dataset, columns: dict[str, Callable[[xr.Dataset], str]], width: int) -> list[str]:
    """A line of headings, and one for each value along `dim`: in each column, what it makes of the record there."""
    lines = [f"{dim:>8} " + " ".join(f"{name:>{width}}" for name in columns)]
    for value in curves[dim].values:
        at = curves.sel({dim: value})
        lines.append(f"{value:8,} " + " ".join(f"{column(at):>{width}}" for column in columns.values()))
    return lines


def agreement(summary: dict[str, Any]) -> str:
    """Onsets by other measures, where they have been measured, beside the onset by the sample split: do they agree?"""
    found, since = [f"sample split {interval(summary['onset'])}"], {}
    if "neighbours" in summary:
        of_samples = summary["neighbours"]
        found.append(f"difference of paired samples {interval(of_samples['paired'])}")
        since = {"samples nearer to the own set": of_samples["nearer_since"]}
        since |= {f"copies of blocks of height {row['height']}": row["step"] for row in of_samples["copies_since"][1:]}
    if "membership" in summary:
        since["membership"] = summary["membership"]["since"]
    shown = "; ".join(f"{name} {_step(step)}" for name, step in since.items())
    found.append(f"test loss {interval(summary['best'])}")
    return f"Minima, by measure: {'; '.join(found)}." + (f" Significant since step: {shown}." if since else "")


def _known(x: float | None) -> bool:
    """Whether a number of a summary is one; what is not finite is null once it has been on disk."""
    return x is not None and bool(np.isfinite(x))


def _step(step: float | None) -> str:
    return f"{step:,.0f}" if _known(step) else "none"


def two_minima(summary: dict[str, Any]) -> bool:
    """Whether the split turns up, before the best step, from another minimum than that in the onset's interval."""
    last, onset = summary["last_significant_minimum"], summary["onset"]
    return last is not None and not (onset["reached"] and onset["low"] <= last <= (onset["high"] or np.inf))


def stopping(summary: dict[str, Any]) -> str:
    """When the test loss would have stopped."""
    onset, best, later = (summary[name] for name in ("onset", "best", "ratio"))
    if not best["reached"]:
        return f"the test loss has no clear minimum within {summary['steps']:,} steps"
    if not onset["reached"]:
        return f"the test loss is smallest at step {interval(best)}"
    low, high = (f"{later[end]:.1f}" if _known(later[end]) and later[end] > 0 else "open" for end in ("low", "high"))
    when = "would have stopped" if best["step"] > onset["step"] else "is smallest before that,"
    return (
        f"the test loss {when} at step {interval(best)}, {later['ratio']:.1f} ({low} to {high}) times the onset, "
        f"with P(onset < best) = {later['before']:.2f}"
    )


def from_onset_to_best(values: dict[str, Any], digits: int = 3) -> str:
    """`a > b`, each with its standard error in units of its last digit."""
    shown = [(values[when], values[f"{when}_error"]) for when in ("at_onset", "at_best")]
    return " > ".join(with_error(x, error, digits) if _known(x) else "-" for x, error in shown)


def onset_of(row: dict[str, Any]) -> str:
    """The onset of a row of a table, and the probability that it comes before best."""
    if not row["onset"]["reached"]:
        return f"{interval(row['onset']):>26}"
    return f"{interval(row['onset']):>26}  {row['ratio']['before']:.2f}"


def how_to_read(what: str, summary: dict[str, Any]) -> str:
    """The line above a table of values from onset to best."""
    at_best = "best" if summary["best"]["reached"] else f"the last step, {summary['steps']:,} (best is not reached)"
    brackets = "standard errors in brackets, in units of the last digit"
    return f"{what}; 'a > b': at onset > at {at_best}; {brackets}"
