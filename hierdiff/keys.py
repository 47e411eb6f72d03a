"""Random keys by name: what is drawn for one purpose moves nothing that is drawn for another."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def key_for(key: Array | int, name: str) -> Array:
    """The key of one purpose under `key`, a key or a seed, which is not consumed."""
    root = jax.random.key(key) if isinstance(key, int) else key
    return jax.random.fold_in(root, zlib.crc32(name.encode()))


def keys_of(key: Array, numbers: Any) -> Array:
    """A key for each number, an integer array of one axis; it depends on `key` and the number alone."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.asarray(numbers, jnp.uint32))
