"""Noise levels t = 1..T, as shares t/T; nothing here needs JAX."""

from typing import Any

from hierdiff.errors import Domain, require

MOST_LEVELS = 10**6
# The last beta of Gaussian noise is 20 / T.
LEAST_GAUSSIAN = 21
# What a share may be.
SHARE: dict[str, Any] = {"above": 0, "most": 1}
SHARES = Domain(type=float, several=True, **SHARE)


def require_levels(name: str, shares: tuple[float, ...], levels: int) -> None:
    """Raise `OptionError` unless these shares are distinct ones of so many noise levels."""
    chosen = [noise_level(share, levels) for share in shares]
    need = f"values that are distinct among the {levels} noise levels, not {chosen}"
    require(min(chosen) >= 1 and len(set(chosen)) == len(chosen), name, shares, need)


def noise_level(share: float, levels: int) -> int:
    """The level t in 1..levels nearest to the share t/T."""
    return round(share * levels)
