"""Modules of torch as denoisers: those that know the posterior of a tiny law say it, however they put it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from hierdiff.adapters import torch_denoiser
from hierdiff.noising import Gaussian, Masking, Uniform

torch = pytest.importorskip("torch")

# A law on three sequences of four symbols, and one on as many points.
LEAVES, WEIGHTS = np.array([[0, 1, 2, 2, 0], [3, 1, 0, 2, 1], [3, 3, 1, 0, 2]]), np.array([0.5, 0.3, 0.2])
POINTS = np.random.default_rng(0).standard_normal((3, 2, 3))
T, N = 100, 6
SYMBOLS = {"gaussian": Gaussian(vocab=4, levels=T), "masking": Masking(vocab=4, levels=T)}
SYMBOLS["uniform"] = Uniform(vocab=4, levels=T)
NUMBERS = Gaussian(levels=T)


def alpha_bar(t):
    return np.cumprod(1 - np.linspace(0.1 / T, 20 / T, T))[t - 1]


def posterior(x_t, t):
    """E[x_0 | x_t] under the law, by the density of the noise; of symbols one-hot, on the last axis."""
    if np.issubdtype(x_t.dtype, np.floating):
        clean = np.eye(4)[LEAVES] if x_t.shape[-1] == 4 else POINTS
        ab = alpha_bar(t)
        log_density = -np.square(x_t[:, None] - np.sqrt(ab) * clean).sum((-1, -2)) / (2 * (1 - ab))
    else:
        clean, rate = np.eye(4)[LEAVES], t / T
        same = x_t[:, None] == LEAVES
        shown = np.log(rate) if (x_t == 4).any() else np.log(rate / 4)
        keeps = np.log(1 - rate) if (x_t == 4).any() else np.log(1 - rate + rate / 4)
        log_density = np.where(same, keeps, shown)
        if (x_t == 4).any():
            log_density[~same & (x_t[:, None] != 4)] = -np.inf
        log_density = log_density.sum(-1)
    return np.einsum("np,pab->nab", softmax(np.log(WEIGHTS) + log_density, -1), clean)


def noised(process, t):
    """Draws of the law with noise, in float32 or integers."""
    which, key = np.arange(N) % 3, jax.random.key(t)
    if process.vocab is None:
        return np.asarray(process.noise(key, jnp.asarray(POINTS[which], float), t))
    return np.asarray(process.corrupt(key, jnp.asarray(LEAVES[which]), t))


class Knows(torch.nn.Module):
    """Gives the posterior as a network that predicts so would; with parameters, that it has a device of."""

    def __init__(self, predicts, time, first):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.predicts, self.time, self.first = predicts, time, first

    def forward(self, x_t, time):
        assert not torch.is_grad_enabled()
        assert not self.training
        assert time.shape == (len(x_t),)
        assert x_t.is_contiguous()
        if self.time == "index":
            assert time.dtype == torch.int64
            t = int(time[0]) + 1
        else:
            assert time.dtype == torch.float32
            t = round(float(time[0]) * T)
        numbers = x_t.dtype == torch.float32
        assert numbers or x_t.dtype == torch.int64
        x, ab = x_t.numpy().copy(), alpha_bar(t)
        # What is done in place changes nothing outside.
        x_t.zero_()
        x = np.moveaxis(x, 1, -1) if self.first and numbers else x
        x_0 = posterior(x, t)
        if self.predicts == "logits":
            output = np.log(np.maximum(x_0, 1e-30)) + 7
        elif self.predicts == "x0":
            output = x_0
        else:
            noise = (x - np.sqrt(ab) * x_0) / np.sqrt(1 - ab)
            score, v = -noise / np.sqrt(1 - ab), np.sqrt(ab) * noise - np.sqrt(1 - ab) * x_0
            output = {"noise": noise, "score": score, "v": v}[self.predicts]
        return torch.from_numpy(np.moveaxis(output, -1, 1) if self.first else output).requires_grad_()


@pytest.mark.parametrize("channels", ["last", "first"])
@pytest.mark.parametrize("time", ["index", "fraction"])
@pytest.mark.parametrize(
    ("name", "predicts"),
    [(name, how) for name in SYMBOLS for how in ("logits", "x0")]
    + [("gaussian", how) for how in ("noise", "score", "v")],
)
def test_of_symbols_all_ways_say_the_posterior(name, predicts, time, channels):
    process = SYMBOLS[name]
    module = Knows(predicts, time, channels == "first")
    denoiser = torch_denoiser(module, process=process, predicts=predicts, time=time, channels=channels)
    for t in (20, 45):
        x_t = noised(process, t)
        before = x_t.copy()
        found = denoiser(x_t, t)
        expected = posterior(x_t.astype(np.float64) if name == "gaussian" else x_t, t)
        # By noise, score and v no symbol has less than a millionth.
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
        np.testing.assert_array_equal(x_t, before)
        assert expected.std() > 0.1
    assert module.training


@pytest.mark.parametrize("channels", ["last", "first"])
@pytest.mark.parametrize("time", ["index", "fraction"])
@pytest.mark.parametrize("predicts", ["x0", "noise", "score", "v"])
def test_of_numbers_all_ways_say_the_mean(predicts, time, channels):
    """Whose axes are left as they are."""
    module = Knows(predicts, time, first=False)
    denoiser = torch_denoiser(module, process=NUMBERS, predicts=predicts, time=time, channels=channels)
    for t in (20, 45):
        x_t = noised(NUMBERS, t)
        np.testing.assert_allclose(denoiser(x_t, t), posterior(x_t.astype(np.float64), t), atol=1e-5)


def test_estimates_that_leave_the_simplex_are_brought_back():
    class Far(torch.nn.Module):
        def forward(self, x_t, time):
            return torch.zeros_like(x_t)

    process, x_t = SYMBOLS["gaussian"], noised(SYMBOLS["gaussian"], 45)
    assert x_t.min() < 0
    found = torch_denoiser(Far(), process=process, predicts="noise")(x_t, 45)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    kept = np.maximum(x_t / np.sqrt(alpha_bar(45)), 1e-6)
    np.testing.assert_allclose(found, kept / kept.sum(-1, keepdims=True), rtol=1e-4)


def test_parts_are_asked_as_they_are_used_and_left_as_they_were():
    """Without dropout; a part that was frozen stays so, also where the module fails."""

    class Drops(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.frozen = torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(5)
            self.inner, self.fails = torch.nn.Linear(4, 4), False
            self.frozen.eval()

        def forward(self, x_t, time):
            if self.fails:
                raise RuntimeError("this one fails")
            return self.frozen(self.drop(self.inner(x_t)))

    module, x_t = Drops(), noised(SYMBOLS["gaussian"], 20)
    denoiser = torch_denoiser(module, process=SYMBOLS["gaussian"], predicts="logits")
    np.testing.assert_array_equal(denoiser(x_t, 20), denoiser(x_t, 20))
    module.fails = True
    with pytest.raises(RuntimeError, match="this one fails"):
        denoiser(x_t, 20)
    assert module.training
    assert module.drop.training
    assert not module.frozen.training
    assert module.frozen.num_batches_tracked == 0
    assert all(weights.grad is None for weights in module.parameters())


class Gives(torch.nn.Module):
    """Something of another shape, without a parameter."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x_t, time):
        return self.output


@pytest.mark.parametrize(
    ("output", "options", "words"),
    [
        (torch.zeros(N, 5), {}, r"module: got \(6, 5\), needs an .* \(6, 5, 4\), or what channels='last'"),
        (torch.zeros(N, 4, 5), {}, r"module: got \(6, 4, 5\), needs an output of the shape \(6, 5, 4\)"),
        (torch.zeros(N, 5, 4), {"channels": "first"}, r"module: got \(6, 4, 5\), needs .* channels='first'"),
        (torch.zeros(N, 4, 4), {"predicts": "v"}, r"module: got \(6, 4, 4\), needs an output of the shape \(6, 5, 4\)"),
        ((torch.zeros(N, 5, 4),), {}, "module: got 'tuple', needs one tensor as its output"),
    ],
)
def test_outputs_of_another_shape_are_refused(output, options, words):
    denoiser = torch_denoiser(Gives(output), process=SYMBOLS["gaussian"], **options)
    with pytest.raises(ValueError, match=words):
        denoiser(noised(SYMBOLS["gaussian"], 20), 20)


@pytest.mark.parametrize(
    ("process", "options", "words"),
    [
        (NUMBERS, {"predicts": "eps"}, "predicts: got 'eps', needs one of logits, x0, noise, score, v"),
        (NUMBERS, {"time": "sigma"}, "time: got 'sigma', needs one of index, fraction"),
        (NUMBERS, {"channels": "middle"}, "channels: got 'middle', needs one of last, first"),
        (NUMBERS, {"predicts": "logits"}, "predicts: got 'logits', needs x0, noise, score or v: numbers"),
        (SYMBOLS["masking"], {"predicts": "noise"}, "predicts: got 'noise', needs logits or x0 of masking noise"),
        (SYMBOLS["uniform"], {"predicts": "v"}, "predicts: got 'v', needs logits or x0 of uniform noise"),
    ],
)
def test_options_that_are_none_are_refused(process, options, words):
    # Types would be checked first in a test.
    with pytest.raises(ValueError, match=words):
        inspect.unwrap(torch_denoiser)(Gives(None), process=process, **options)
