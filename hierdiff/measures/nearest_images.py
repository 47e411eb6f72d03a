"""How generated images lie to each other and to training images."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hierdiff.errors import require
from hierdiff.measures.scales import IMAGE

# A sample is a copy where its nearest training image is nearer than a third of the distance to the second nearest
# (Yoon et al., "Diffusion Probabilistic Models Generalize when They Fail to Memorize", 2023).
MUCH_NEARER = 1 / 3


def standardised(x: Float[Array, "*batch H W c"]) -> Float[Array, "*batch H W c"]:
    """Each image with mean 0 and variance 1 over all its numbers; one without contrast becomes 0."""
    centred = x - x.mean(IMAGE, keepdims=True)
    spread = jnp.sqrt(jnp.square(centred).mean(IMAGE, keepdims=True))
    return centred / jnp.where(spread > 0, spread, 1)


def cosine_distance(a: Float[Array, "*batch H W c"], b: Float[Array, "*batch H W c"]) -> Float[Array, "*batch"]:
    """1 minus the cosine of the angle between two images; 1 where one of them is 0."""
    norms = jnp.sqrt(jnp.square(a).sum(IMAGE) * jnp.square(b).sum(IMAGE))
    return 1 - (a * b).sum(IMAGE) / jnp.where(norms > 0, norms, 1)


def two_nearest(
    x: Float[Array, "n H W c"], train: Float[Array, "P H W c"]
) -> tuple[Int[Array, "n 2"], Float[Array, "n 2"]]:
    """The numbers of the two training images nearest to each image, and their Euclidean distances."""
    require(len(train) >= 2, "train", train.shape, "at least two images")
    a, b = (images.reshape(len(images), math.prod(images.shape[1:])) for images in (x, train))
    products = jnp.matmul(a, b.T, precision="highest")
    squared = jnp.square(a).sum(-1)[:, None] + jnp.square(b).sum(-1)[None] - 2 * products
    smallest, number = jax.lax.top_k(-squared, 2)
    return number, jnp.sqrt(jnp.maximum(-smallest, 0))
