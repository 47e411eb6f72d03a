"""The measure on a model that is not hierdiff's: random features, trained by gradient descent, in plain NumPy.

Two such models learn to denoise from disjoint sets of images, and `hierdiff.compare.compare` says at which step
of their training they begin to part, and how much later the test loss would have stopped. Any two functions will do in
their place: `(x_t, t) -> E[x_0 | x_t]`.
"""

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hierdiff.compare import compare
from hierdiff.noising import Gaussian
from hierdiff.questions.answers import leave
from hierdiff.questions.configs import OtherConfig
from hierdiff.runs import record
from hierdiff.statistics.words import column, interval, lines_over
from hierdiff.worlds.image_files import draw_images

PROCESS = Gaussian()
STEPS = [int(step) for step in np.unique(np.rint(np.geomspace(1, 1e6, 25)))]


def train(rng: np.random.Generator, images: np.ndarray, config: OtherConfig) -> Callable[[int], Callable]:
    """A model of E[x_0 | x_t] that is linear in random features of x_t and its level; gives it after so many steps.

    Gradient descent on a quadratic loss, over all noise levels, has a closed form: along each eigenvector of the
    features' covariance, what is left of the first weights shrinks by the same factor at each step.
    """
    x_0 = np.repeat(images, config.copies, 0)
    pixels = x_0.shape[1]
    z, t = jnp.asarray(rng.standard_normal(x_0.shape), float), rng.integers(1, PROCESS.levels + 1, len(x_0))
    x_t = np.asarray(PROCESS.mix(jnp.asarray(x_0), z, jnp.asarray(t)))
    # sqrt(ab), sqrt(1 - ab) and 1 at each level.
    every, one, none = jnp.arange(1, PROCESS.levels + 1), jnp.ones((PROCESS.levels, 1)), jnp.zeros((PROCESS.levels, 1))
    levels = np.concatenate([PROCESS.mix(one, none, every), PROCESS.mix(none, one, every), one], 1)
    of_pixels = rng.standard_normal((pixels, config.features)) / np.sqrt(pixels)
    of_level = levels @ rng.standard_normal((3, config.features))

    def features(x: np.ndarray, t: int | np.ndarray) -> np.ndarray:
        return np.maximum(x @ of_pixels + of_level[t - 1], 0) / np.sqrt(config.features)

    phi = features(x_t, t)
    eigenvalues, basis = np.linalg.eigh(phi.T @ phi / len(phi))
    first = basis.T @ rng.standard_normal((config.features, pixels))
    product = basis.T @ (phi.T @ x_0) / len(phi)
    rate = 1 / eigenvalues[-1]

    def at(step: int) -> Callable:
        # (1 - (1 - rate e)^step) / e, also where e is next to nothing.
        log_left = step * np.log1p(-np.clip(rate * eigenvalues, 0, 1 - 1e-12))
        learned = np.where(eigenvalues > 1e-12, -np.expm1(log_left) / np.maximum(eigenvalues, 1e-12), step * rate)
        readout = basis @ (np.exp(log_left)[:, None] * first + learned[:, None] * product)
        return lambda x_t, t: features(x_t, t) @ readout

    return at


def answer(config: OtherConfig, options: argparse.Namespace) -> None:
    """Train two models on disjoint sets of images, and compare them at each of `STEPS`; a table, and the curves."""
    record.require_writable("out", options.out)
    data = draw_images(config.images, config.seed, sets=2, size=config.size, held_out=config.held_out)
    sets = [*data.train.reshape(2, config.size, -1)]
    models = [train(np.random.default_rng([config.seed, i]), images, config) for i, images in enumerate(sets)]
    found = compare(
        {step: [model(step) for model in models] for step in STEPS},
        sets,
        data.held_out.reshape(config.held_out, -1),
        process=PROCESS,
        noise=(config.noise,),
        key=jax.random.key(config.seed),
    )
    columns = {"|f_A - f_B|^2": column("split", 3), "test loss": column("test_loss", 3), "slope": column("slope", 4)}
    sentence = (
        f"The two agree best at step {interval(found.onset)}; their loss over all noise levels is smallest at "
        f"step {interval(found.best)}."
    )
    record.write_results(options.out / "other_models.curves.nc", found.curves.assign_attrs(record.origin(config)))
    table = lines_over("step", found.curves.sel(noise=config.noise), columns)
    leave(options.out / "other_models.json", config, table, sentence, onset=found.onset, best=found.best)
