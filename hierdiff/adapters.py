"""Modules of other libraries as denoisers: NumPy in, NumPy out."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from hierdiff.errors import OptionError, require
from hierdiff.noising import Process
from hierdiff.noising.process import on_simplex


def torch_denoiser(
    module: Any,
    *,
    process: Process,
    predicts: Literal["logits", "x0", "noise", "score", "v"] = "x0",
    time: Literal["index", "fraction"] = "index",
    channels: Literal["last", "first"] = "last",
) -> Callable[[ArrayLike, int], np.ndarray]:
    """A torch module `(x_t, t) -> output` as a denoiser `(x_t, t) -> p(x_0 | x_t)`, or E[x_0 | x_t] of numbers.

    The module is called in evaluation mode, without gradients, on the device of its parameters, and all its parts are
    left in the mode in which they were. It is given a copy of x_t as `process` makes it, float32 or integers, and a
    time for each sample.

    Args:
      module: a `torch.nn.Module`.
      process: the noise that the module was trained with; `noise`, `score` and `v` need a Gaussian one.
      predicts: what it gives: log-probabilities of symbols up to a constant (`logits`), p(x_0 | x_t) or E[x_0 | x_t]
        (`x0`), the noise, the score, or v = sqrt(ab) noise - sqrt(1 - ab) x_0. Estimates of p(x_0 | x_t) by the last
        three leave the simplex: below 1e-6 they are cut off, and rows are divided by their sums.
      time: its second argument: the `index` t - 1, int64, or the `fraction` t/T, float32; t counts from 1.
      channels: the axis of symbols, in its output and in a Gaussian x_t: the last, `(n, L, v)`, or the `first` of a
        sample, `(n, v, L)`. Numbers that are no symbols are given as they are.

    Raises:
      ValueError: an argument is none of these, or the process is not one for it; when it is called, that the module
        gives something else than a tensor of the shape that it should.

    Examples:
      >>> import torch
      >>> class Untrained(torch.nn.Module):
      ...     def forward(self, x_t, time):
      ...         return torch.zeros(*x_t.shape, 4)
      >>> denoiser = hd.torch_denoiser(Untrained(), process=hd.Masking(vocab=4), predicts="logits")
      >>> denoiser(np.array([[0, 4]]), 250)
      array([[[0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25]]], dtype=float32)
    """
    for name, value, values in (
        ("predicts", predicts, ("logits", "x0", "noise", "score", "v")),
        ("time", time, ("index", "fraction")),
        ("channels", channels, ("last", "first")),
    ):
        if value not in values:
            raise OptionError(name, value, f"one of {', '.join(values)}")
    symbols = process.vocab is not None
    of_noise = predicts in ("noise", "score", "v")
    noises = hasattr(process, "x_0_of")
    require(noises or not of_noise, "predicts", predicts, f"logits or x0 of {process.name} noise")
    require(symbols or predicts != "logits", "predicts", predicts, "x0, noise, score or v: numbers have no logits")
    first = symbols and channels == "first"

    def denoiser(x_t: ArrayLike, t: int) -> np.ndarray:
        import torch  # pyright: ignore[reportMissingImports]

        noised = np.asarray(x_t)
        numbers = np.issubdtype(noised.dtype, np.floating)
        x = np.moveaxis(noised, -1, 1) if first and numbers else noised
        where = next((each.device for each in module.parameters()), torch.device("cpu"))
        # A contiguous copy, which the module may change.
        read = torch.from_numpy(np.array(x, np.float32 if numbers else np.int64, order="C")).to(where)
        times = np.full(len(x), t - 1) if time == "index" else np.full(len(x), t / process.levels, np.float32)
        modes = [(part, part.training) for part in module.modules()]
        module.eval()
        try:
            with torch.no_grad():
                output = module(read, torch.from_numpy(times).to(where))
        finally:
            for part, mode in modes:
                part.training = mode
        require(isinstance(output, torch.Tensor), "module", type(output).__name__, "one tensor as its output")
        output = output.detach().float().cpu().numpy()
        output = np.moveaxis(output, 1, -1) if first and output.ndim == 3 else output
        shape = noised.shape if numbers else (*noised.shape, process.vocab)
        need = f"an output of the shape {shape}{f', or what channels={channels!r} makes it' if symbols else ''}"
        require(output.shape == shape, "module", output.shape, need)
        if predicts == "logits":
            return np.asarray(jax.nn.softmax(output, -1))
        if not of_noise:
            return output
        given, said = jnp.asarray(noised), jnp.asarray(output)
        x_0 = process.x_0_of(given, t, said, predicts)  # pyright: ignore[reportAttributeAccessIssue]
        return np.asarray(on_simplex(x_0) if symbols else x_0)

    return denoiser
