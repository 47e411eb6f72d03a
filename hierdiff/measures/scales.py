"""How two images agree, scale by scale: over the orthonormal Haar wavelets, the steps of a downsampling pyramid."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def scales(side: int) -> list[int]:
    """The scales of an image, the finest first: the pixels along a side of the squares whose means they tell apart.

    At the last, of which no two make a square, is what is left: all differences that are coarser, and the mean.
    """
    return [1] if side % 2 else [1, *(2 * scale for scale in scales(side // 2))]


def scale_products(a: Float[Array, "*batch H W"], b: Float[Array, "*batch H W"]) -> Float[Array, "*batch scales"]:
    """`<a, b>` at each of `scales`, summed over the Haar wavelets of that scale; the sum over scales is `<a, b>`."""
    if a.shape[-1] % 2:
        return (a * b).sum((-1, -2))[..., None]
    coarse_a, coarse_b = _halve(a), _halve(b)
    fine = ((a - _double(coarse_a)) * (b - _double(coarse_b))).sum((-1, -2))
    # A mean stands for four pixels.
    return jnp.concatenate([fine[..., None], 4 * scale_products(coarse_a, coarse_b)], -1)


def _halve(x: Float[Array, "*batch H W"]) -> Float[Array, "*batch h w"]:
    """Means over squares of 2 x 2 pixels."""
    return x.reshape(*x.shape[:-2], x.shape[-2] // 2, 2, x.shape[-1] // 2, 2).mean((-1, -3))


def _double(x: Float[Array, "*batch H W"]) -> Float[Array, "*batch h w"]:
    return x.repeat(2, -1).repeat(2, -2)
