"""How two images agree, scale by scale: over the orthonormal Haar wavelets, the steps of a downsampling pyramid."""

import jax.numpy as jnp
from jaxtyping import Array, Float

# The axes of an image: rows, columns, channels.
IMAGE = (-3, -2, -1)


def scales(side: int) -> list[int]:
    """The scales of an image, the finest first: the pixels along a side of the squares whose means they tell apart.

    At the last, of which no two make a square, is what is left: all differences that are coarser, and the mean.
    """
    return [1] if side % 2 else [1, *(2 * scale for scale in scales(side // 2))]


def scale_products(a: Float[Array, "*batch H W c"], b: Float[Array, "*batch H W c"]) -> Float[Array, "*batch scales"]:
    """`<a, b>` at each of `scales`, summed over the Haar wavelets of that scale; the sum over scales is `<a, b>`.

    The wavelets are of each channel alone.
    """
    if a.shape[-2] % 2:
        return (a * b).sum(IMAGE)[..., None]
    coarse_a, coarse_b = _halve(a), _halve(b)
    fine = ((a - _double(coarse_a)) * (b - _double(coarse_b))).sum(IMAGE)
    # A mean stands for four pixels.
    return jnp.concatenate([fine[..., None], 4 * scale_products(coarse_a, coarse_b)], -1)


def _halve(x: Float[Array, "*batch H W c"]) -> Float[Array, "*batch h w c"]:
    *batch, height, width, channels = x.shape
    return x.reshape(*batch, height // 2, 2, width // 2, 2, channels).mean((-2, -4))


def _double(x: Float[Array, "*batch H W c"]) -> Float[Array, "*batch h w c"]:
    return x.repeat(2, -2).repeat(2, -3)
