"""How many sequences exact code works on at a time, and for which kind of machine programs are made."""

import jax


def on_cpu() -> bool:
    """Whether the programs are made for a CPU."""
    return jax.default_backend() == "cpu"


def chunk(leaves: int, symbols: int) -> int:
    """Sequences that exact code works on at a time: what a core's cache holds, or what keeps an accelerator busy."""
    if not on_cpu():
        return max(16, 2**19 // leaves)
    # Rows of whole cache lines; of shorter ones, XLA's loops over 8 are the fastest.
    return next((size for size in (128, 64) if size * leaves * symbols <= 2**17), 8)
