"""Numbers in words: steps with their intervals, values with their errors, rows of a table."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from hierdiff.statistics.landmarks import Landmark, Landmarks, Ratio, Values


def interval(found: Landmark) -> str:
    """A step and its 95% interval in words; an end beyond the run is open."""
    if not found.reached:
        return "from the start" if found.from_start else "not reached"
    low = f"{found.low:,.0f}" if found.low > 0 else "open"
    high = f"{found.high:,.0f}" if np.isfinite(found.high) else "open"
    return f"{found.step:,.0f} ({low} to {high})"


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


def two_minima(found: Landmarks) -> bool:
    """Whether the split turns up, before the best step, from another minimum than that in the onset's interval."""
    last, onset = found.last_significant_minimum, found.onset
    # An open end is inf, and nan once it has been on disk.
    return bool(np.isfinite(last)) and not (onset.reached and onset.low <= last and not last > onset.high)


def stopping(found: Landmarks) -> str:
    """When the test loss would have stopped."""
    onset, best, later = found.onset, found.best, found.ratio
    if not best.reached:
        return f"the test loss has no clear minimum within {found.steps:,} steps"
    if not onset.reached:
        return f"the test loss is smallest at step {interval(best)}"
    low, high = (f"{end:.1f}" if 0 < end < np.inf else "open" for end in (later.low, later.high))
    when = "would have stopped" if best.step > onset.step else "is smallest before that,"
    return (
        f"the test loss {when} at step {interval(best)}, {later.ratio:.1f} ({low} to {high}) times the onset, "
        f"with P(onset < best) = {later.before:.2f}"
    )


def from_onset_to_best(values: Values | None, digits: int = 3) -> str:
    """`a > b`, each with its standard error in units of its last digit."""
    if values is None:
        return "-"
    shown = ((values.at_onset, values.at_onset_error), (values.at_best, values.at_best_error))
    return " > ".join(with_error(x, error, digits) if np.isfinite(x) else "-" for x, error in shown)


def onset_of(onset: Landmark, ratio: Ratio) -> str:
    """The onset of a row of a table, and the probability that it comes before best."""
    return f"{interval(onset):>26}" + (f"  {ratio.before:.2f}" if onset.reached else "")


def how_to_read(what: str, found: Landmarks) -> str:
    """The line above a table of values from onset to best."""
    at_best = "best" if found.best.reached else f"the last step, {found.steps:,} (best is not reached)"
    brackets = "standard errors in brackets, in units of the last digit"
    return f"{what}; 'a > b': at onset > at {at_best}; {brackets}"
