"""The measure on a model that is not hierdiff's: random features, trained by gradient descent, in plain NumPy.

Two such models learn to denoise from disjoint sets of images, and `hierdiff.compare.two_denoisers` says at which step
of their training they begin to part, and how much later the test loss would have stopped. Any two functions will do in
their place: `(x_t, alpha_bar) -> E[x_0 | x_t]`.

    python -m experiments.other_models
"""

import dataclasses
import sys
from collections.abc import Callable

import jax
import numpy as np

from hierdiff.compare import Comparison, two_denoisers
from hierdiff.devices import set_up_devices
from hierdiff.images import ImageConfig, draw_images
from hierdiff.measures.probe import require_groups
from hierdiff.options import Parser, option, parse_config, require, require_seed
from hierdiff.summary import cell, interval, lines_over, plain


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherConfig:
    """Random features."""

    seed: int = option(0, "seed of the choice of images, the features and the noise")
    size: int = option(200, "images in each of the two sets")
    held_out: int = option(500, "held-out images")
    copies: int = option(10, "noised copies of each image to learn from")
    features: int = option(800, "random features")
    alpha_bar: float = option(0.8, "share of the signal's variance in the noised images")
    images: ImageConfig = dataclasses.field(default_factory=lambda: ImageConfig(side=8))

    def __post_init__(self):
        for name in ("size", "copies", "features"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of at least 1")
        require_seed("seed", self.seed)
        require_groups("held_out", self.held_out, each=2)
        require(0 < self.alpha_bar < 1, "alpha_bar", self.alpha_bar, "a number between 0 and 1")


PRESETS = {"laptop": OtherConfig()}
STEPS = [int(step) for step in np.unique(np.rint(np.geomspace(1, 1e6, 25)))]


def train(rng: np.random.Generator, images: np.ndarray, config: OtherConfig) -> Callable[[int], Callable]:
    """A model of E[x_0 | x_t] that is linear in random features; gives the denoiser after so many steps.

    Gradient descent on a quadratic loss has a closed form: along each eigenvector of the features' covariance, what is
    left of the first weights shrinks by the same factor at each step.
    """
    x_0 = np.repeat(images, config.copies, 0)
    x_t = np.sqrt(config.alpha_bar) * x_0 + np.sqrt(1 - config.alpha_bar) * rng.standard_normal(x_0.shape)
    inward = rng.standard_normal((x_0.shape[1], config.features)) / np.sqrt(x_0.shape[1])

    def features(x: np.ndarray) -> np.ndarray:
        return np.maximum(x @ inward, 0) / np.sqrt(config.features)

    phi = features(x_t)
    eigenvalues, basis = np.linalg.eigh(phi.T @ phi / len(phi))
    first = basis.T @ rng.standard_normal((config.features, x_0.shape[1]))
    product = basis.T @ (phi.T @ x_0) / len(phi)
    rate = 1 / eigenvalues[-1]

    def at(step: int) -> Callable:
        # (1 - (1 - rate e)^step) / e, also where e is next to nothing.
        log_left = step * np.log1p(-np.clip(rate * eigenvalues, 0, 1 - 1e-12))
        learned = np.where(eigenvalues > 1e-12, -np.expm1(log_left) / np.maximum(eigenvalues, 1e-12), step * rate)
        readout = basis @ (np.exp(log_left)[:, None] * first + learned[:, None] * product)
        return lambda x_t, alpha_bar: features(x_t) @ readout

    return at


def compare(config: OtherConfig) -> Comparison:
    """Train two models on disjoint sets of images, and compare them at each of `STEPS`."""
    data = draw_images(config.images, config.seed, sets=2, size=config.size, held_out=config.held_out)
    train_a, train_b = data.train.reshape(2, config.size, -1)
    models = [
        train(np.random.default_rng([config.seed, number]), images, config)
        for number, images in enumerate((train_a, train_b))
    ]
    return two_denoisers(
        {step: (models[0](step), models[1](step)) for step in STEPS},
        (train_a, train_b),
        data.held_out.reshape(config.held_out, -1),
        alpha_bar=(config.alpha_bar,),
        key=jax.random.key(config.seed),
    )


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = Parser(prog="python -m experiments.other_models", description=(__doc__ or "").split("\n\n")[0])
    config, _ = parse_config(parser, PRESETS, "laptop", argv)
    set_up_devices()
    with parser.one_sentence():
        found = compare(config)
    curves = found.curves.sel(alpha_bar=config.alpha_bar)
    columns = {
        "|f_A - f_B|^2": lambda at: cell(at, "split", 3),
        "test loss": lambda at: cell(at, "loss", 3),
        "slope": lambda at: cell(at, "slope", 4),
    }
    print("\n".join(lines_over("step", curves, columns, 15)))
    onset, best = (interval(plain(each)) for each in (found.onset, found.best))
    print(f"\nThe two agree best at step {onset}; their loss at this noise level is smallest at step {best}.")


if __name__ == "__main__":
    main(sys.argv[1:])
