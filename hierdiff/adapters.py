"""Modules of other libraries as denoisers: NumPy in, NumPy out."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from scipy.special import softmax

from hierdiff.errors import OptionError, require
from hierdiff.noising import Process

# How far from zero the probability of a symbol is kept where an estimate of it leaves the simplex.
LEAST = 1e-6


def torch_denoiser(
    module: Any,
    *,
    process: Process,
    predicts: Literal["logits", "x0", "noise", "score", "v"] = "x0",
    time: Literal["index", "fraction"] = "index",
    channels: Literal["last", "first"] = "last",
) -> Callable[[np.ndarray, int], np.ndarray]:
    """A torch module `(x_t, t) -> output` as a denoiser `(x_t, t) -> p(x_0 | x_t)`, or E[x_0 | x_t] of numbers.

    The module is called in evaluation mode, without gradients, on the device of its parameters, and is left in the mode
    in which it was. It is given x_t as `process` makes it, float32 or integers, and a time for each sample.

    Args:
      module: the torch module.
      process: the noise that the module was trained with; `noise`, `score` and `v` need a Gaussian one.
      predicts: what it gives: log-probabilities of symbols up to a constant (`logits`), p(x_0 | x_t) or E[x_0 | x_t]
        (`x0`), the noise, the score, or v = sqrt(ab) noise - sqrt(1 - ab) x_0. Estimates of p(x_0 | x_t) by the last
        three leave the simplex: below 1e-6 they are cut off, and rows are divided by their sums.
      time: its second argument: the `index` t - 1, int64, or the `fraction` t/T, float32; t counts from 1.
      channels: the axis of symbols, in its output and in a Gaussian x_t: the last, `(n, L, v)`, or the `first` of a
        sample, `(n, v, L)`. Numbers that are no symbols are given as they are.

    Raises:
      ValueError: an argument is none of these, or the process is not one for it.
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
    require(not of_noise or hasattr(process, "x_0_of"), "predicts", predicts, "Gaussian noise, logits or x0")
    require(
        symbols or predicts != "logits", "predicts", predicts, "a process with a vocabulary: numbers have no logits"
    )
    first = symbols and channels == "first"

    def denoiser(x_t: np.ndarray, t: int) -> np.ndarray:
        import torch  # pyright: ignore[reportMissingImports]

        x = np.moveaxis(x_t, -1, 1) if first and x_t.ndim == 3 else x_t
        where = next((each.device for each in module.parameters()), torch.device("cpu"))
        given = torch.from_numpy(np.array(x, np.float32 if np.issubdtype(x.dtype, np.floating) else np.int64)).to(where)
        times = np.full(len(x), t - 1) if time == "index" else np.full(len(x), t / process.levels, np.float32)
        training = module.training
        module.eval()
        try:
            with torch.no_grad():
                output = module(given, torch.from_numpy(times).to(where)).float().cpu().numpy()
        finally:
            module.train(training)
        output = np.moveaxis(output, 1, -1) if first and output.ndim == 3 else output
        if predicts == "logits":
            return softmax(output, -1)
        if not of_noise:
            return output
        shape = x_t.shape
        require(output.shape == shape, "module", output.shape, f"outputs of the shape of x_t, {shape}")
        x_0 = np.asarray(process.x_0_of(x_t, t, output, predicts))  # pyright: ignore[reportAttributeAccessIssue]
        if not symbols:
            return x_0
        kept = np.maximum(x_0, LEAST)
        return kept / kept.sum(-1, keepdims=True)

    return denoiser
