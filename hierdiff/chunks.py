"""How many sequences exact code works on at a time, and for which kind of machine programs are made."""

import jax


def on_cpu() -> bool:
    """Whether the programs are made for a CPU."""
    return jax.default_backend() == "cpu"


def chunk(leaves: int) -> int:
    """Sequences that exact code works on at a time: what a core's cache holds, or what keeps an accelerator busy."""
    if not on_cpu():
        return max(16, 2**19 // leaves)
    size = min(128, 2**12 // leaves)
    # Of rows that short, XLA's loops over 8 are faster than those over 16.
    return size if size >= 32 else 8
