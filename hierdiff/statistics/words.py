"""Numbers in words: steps with their intervals, values with their errors, rows of a table."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from hierdiff.statistics.landmarks import Landmark


def interval(found: Landmark) -> str:
    """A step and its 95% interval in words; an end beyond the run is open."""
    if not found.reached:
        return "from the start" if found.from_start else "not reached"
    low = f"{found.low:,.0f}" if found.low > 0 else "open"
    high = f"{found.high:,.0f}" if np.isfinite(found.high) else "open"
    return f"{found.step:,.0f} ({low} to {high})"


def with_error(x: float, error: float, digits: int) -> str:
    """A value with its standard error in units of the last digit; '-' where there is none."""
    return "-" if np.isnan(x) else f"{x:.{digits}f}({10**digits * error:.0f})"


def cell(curves: xr.Dataset, name: str, digits: int) -> str:
    """One value of a record with its standard error."""
    return with_error(float(curves[name]), float(curves[f"{name}_error"]), digits)


def column(name: str, digits: int, **where: Any) -> Callable[[xr.Dataset], str]:
    """A column of `lines_over`: one value with its standard error, at the coordinates `where`."""
    return lambda curves: cell(curves.sel(where), name, digits)


def with_interval(curves: xr.Dataset, name: str, digits: int) -> str:
    """One value of a record with its 95% interval, where that is estimated."""
    x, half = float(curves[name]), float(curves[f"{name}_half"])
    interval = "not estimated" if np.isnan(half) else f"{x - half:.{digits}f} to {x + half:.{digits}f}"
    return f"{x:.{digits}f} ({interval})"


def lines_over(dim: str, curves: xr.Dataset, columns: dict[str, Callable[[xr.Dataset], str]], width: int) -> list[str]:
    """A line of headings, and one for each value along `dim`: in each column, what it makes of the record there."""
    lines = [f"{dim:>8} " + " ".join(f"{name:>{width}}" for name in columns)]
    for value in curves[dim].values:
        at = curves.sel({dim: value})
        lines.append(f"{value:8,} " + " ".join(f"{column(at):>{width}}" for column in columns.values()))
    return lines
