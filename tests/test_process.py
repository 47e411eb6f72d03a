"""Noise as a value: Gaussian noise against its definition, and processes that the project does not have.

The level spectrum is held against its definition under each kind of noise, for denoisers that are no function of the
exact posterior.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import test_laws
from scipy.special import softmax

from hierdiff import noising
from hierdiff.compare import compare
from hierdiff.grammar import GrammarConfig, random_grammar
from hierdiff.keys import keys_of
from hierdiff.learning.network import TreeConfig
from hierdiff.learning.train_config import TrainConfig
from hierdiff.measures import spectrum
from hierdiff.measures.probe import at, make_pieces, make_reference
from hierdiff.noising import Gaussian, Masking, Uniform, linear_schedule, respaced
from hierdiff.noising.process import divergence, stratified_times
from hierdiff.posterior import exact_denoiser, memorizer
from hierdiff.questions import training
from hierdiff.runs import record
from hierdiff.sampling import sample
from hierdiff.statistics.groups import in_groups
from hierdiff.worlds.run_config import MeasureConfig, OnsetConfig
from hierdiff.worlds.sequences import Sequences


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Gaussian):
    """The cosine schedule of arXiv 2102.09672, eq. 17, with s = 0.008 and betas of at most 0.999."""

    name: ClassVar[str] = "cosine"

    @property
    def alpha_bar(self):
        f = np.cos((np.arange(self.levels + 1) / self.levels + 0.008) / 1.008 * np.pi / 2) ** 2
        return jnp.asarray(np.cumprod(np.maximum(f[1:] / f[:-1], 0.001)), float)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Steps in each of which a symbol moves to one of its two cyclic neighbours with probability b, half for each.

    There are t^3 of them up to level t, so that the first levels have little noise.
    """

    vocab: int
    levels: int = 500
    name: ClassVar[str] = "neighbours"
    defaults: ClassVar[Mapping[str, Any]] = {}

    @property
    def channels(self):
        return self.vocab

    def law(self, first, last):
        """q(x_last | x_first), `(n, v, v)`: a power of a circulant matrix, by its eigenvalues 1 - b (1 - cos)."""
        symbols, b = np.arange(self.vocab, dtype=np.int32), 8 / self.levels**3
        apart = np.abs(symbols[:, None] - symbols[None])
        apart = np.minimum(apart, self.vocab - apart)
        cosines = np.cos(2 * np.pi / self.vocab * symbols)
        waves = np.cos(2 * np.pi / self.vocab * apart[..., None] * symbols) / self.vocab
        steps = last**3 - first**3
        left = jnp.expm1(steps[:, None].astype(float) * jnp.asarray(np.log1p(-b * (1 - cosines)), float)[None])
        law = jnp.eye(self.vocab)[None] + jnp.einsum("nk,abk->nab", left, jnp.asarray(waves, float))
        # So far and no farther.
        return jnp.where(apart[None] <= steps[:, None, None], jnp.maximum(law, 0), 0)

    def of_symbols(self, x, first, last):
        """q(symbol | x) from level `first` to level `last`, `(n, L, v)`; the matrix is symmetric."""
        first, last = (jnp.broadcast_to(jnp.asarray(level, jnp.int32), len(x)) for level in (first, last))
        return jnp.take_along_axis(self.law(first, last), x[..., None], axis=1)

    def encode(self, x_t):
        return jax.nn.one_hot(x_t, self.vocab)

    def decode(self, x_0):
        return x_0

    def known(self, x_t):
        return jnp.zeros(x_t.shape, bool)

    def corrupt(self, key, tokens, t):
        return jax.random.categorical(key, jnp.log(self.of_symbols(tokens, 0, t))).astype(jnp.int32)

    def log_likelihood(self, x_t, t):
        return jnp.log(self.of_symbols(x_t, 0, t))

    def start(self, keys, leaves):
        return jax.vmap(lambda key: jax.random.randint(key, (leaves,), 0, self.vocab, jnp.int32))(keys)

    def before(self, x_t, t, s, posterior):
        """`sum_a q(x_s | x_t, x_0 = a) p(a | x_t)`, by Bayes' rule."""
        seen = self.of_symbols(x_t, 0, t)
        share = jnp.where(seen > 0, posterior / jnp.where(seen > 0, seen, 1), 0)
        s = jnp.broadcast_to(jnp.asarray(s, jnp.int32), len(x_t))
        return (share @ self.law(0 * s, s)) * self.of_symbols(x_t, s, t)

    def step(self, keys, x_t, t, s, posterior):
        law = jnp.log(self.before(x_t, t, s, posterior))
        return jax.vmap(jax.random.categorical)(keys, law).astype(jnp.int32)

    def step_divergence(self, x_t, t, exact, posterior):
        true, ours = (self.before(x_t, t, t - 1, p) for p in (exact, posterior))
        return divergence(true, ours).sum(-1)

    def bound(self, tokens, x_t, t, posterior):
        start = self.of_symbols(tokens, 0, t)
        of_start = (start * jnp.log(start * self.vocab)).sum((-1, -2))
        of_step = self.step_divergence(x_t, t, jax.nn.one_hot(tokens, self.vocab), posterior)
        return of_step + jnp.where(jnp.asarray(t) == self.levels, of_start, 0)


class TestGaussian:
    """Against its definition, in NumPy float64."""

    process = Gaussian(vocab=5, levels=60)

    def samples(self, seed=0, n=60):
        """Tokens, x_t of them, their noise and a level for each, all levels in turn."""
        rng = np.random.default_rng(seed)
        tokens, t = rng.integers(0, 5, (n, 3)), np.arange(n) % 60 + 1
        ab = np.asarray(self.process.alpha_bar, np.float64)[t - 1, None, None]
        z = rng.standard_normal((n, 3, 5))
        return tokens, np.sqrt(ab) * np.eye(5)[tokens] + np.sqrt(1 - ab) * z, z, t, ab

    def test_its_schedule_is_the_linear_one(self, float64):
        assert linear_schedule(60) == Gaussian(levels=60)
        beta = np.linspace(0.1 / 60, 20 / 60, 60)
        np.testing.assert_allclose(self.process.alpha_bar, np.cumprod(1 - beta), rtol=1e-12)
        with pytest.raises(ValueError, match="levels: got 20, needs an integer from 21 to 1,000,000"):
            Gaussian(vocab=5, levels=20)

    def test_it_mixes_signal_and_noise(self, float64):
        tokens, x_t, z, t, _ = self.samples()
        x_0 = jax.nn.one_hot(tokens, 5)
        np.testing.assert_allclose(self.process.mix(x_0, jnp.asarray(z), jnp.asarray(t)), x_t, atol=1e-12)
        np.testing.assert_allclose(self.process.mix(x_0, jnp.asarray(z), 7)[6], x_t[6], atol=1e-12)
        key, t = jax.random.key(0), jnp.asarray(t)
        noise = jax.random.normal(key, x_0.shape)
        for drawn in (self.process.corrupt(key, jnp.asarray(tokens), t), self.process.noise(key, x_0, t)):
            np.testing.assert_array_equal(drawn, self.process.mix(x_0, noise, t))

    def test_the_likelihood_of_a_leaf_is_the_density_at_its_symbols_up_to_a_constant(self, float64):
        _, x_t, _, t, ab = self.samples()
        own = np.asarray(self.process.log_likelihood(jnp.asarray(x_t), jnp.asarray(t)))
        distance = np.square(x_t[:, :, None] - np.sqrt(ab)[..., None] * np.eye(5)).sum(-1)
        written = -distance / (2 * (1 - ab))
        for leaf in range(3):
            x, points = jnp.asarray(x_t[:, leaf : leaf + 1]), jnp.eye(5)[:, None]
            density = np.asarray(self.process.log_density(x, points, jnp.asarray(t)))
            for other in (density, written[:, leaf]):
                gap = own[:, leaf] - other
                np.testing.assert_allclose(gap, np.broadcast_to(gap[:, :1], gap.shape), atol=1e-9)
        # Of whole sequences, the density is the sum of the likelihoods of their leaves.
        points = np.random.default_rng(1).integers(0, 5, (7, 3))
        whole = np.asarray(self.process.log_density(jnp.asarray(x_t), jnp.eye(5)[points], jnp.asarray(t)))
        gap = whole - own[:, np.arange(3), points].sum(-1)
        np.testing.assert_allclose(gap, np.broadcast_to(gap[:, :1], gap.shape), atol=1e-9)

    @pytest.mark.parametrize("predicts", ["x0", "noise", "score", "v"])
    def test_what_a_network_predicts_gives_back_the_clean_sample(self, predicts, float64):
        tokens, x_t, z, t, ab = self.samples()
        clean = np.eye(5)[tokens]
        output = {
            "x0": clean,
            "noise": z,
            "score": -z / np.sqrt(1 - ab),
            "v": np.sqrt(ab) * z - np.sqrt(1 - ab) * clean,
        }[predicts]
        found = self.process.x_0_of(jnp.asarray(x_t), jnp.asarray(t), jnp.asarray(output), predicts)
        np.testing.assert_allclose(found, clean, atol=1e-9)
        if predicts in ("noise", "v"):
            back = self.process.prediction_of(jnp.asarray(x_t), jnp.asarray(t), jnp.asarray(clean), predicts)
            np.testing.assert_allclose(back, output, atol=1e-9)
        # Outputs of two networks on the same samples.
        both = self.process.x_0_of(jnp.asarray(x_t)[None], 9, jnp.asarray(np.stack(2 * [output])), predicts)
        np.testing.assert_allclose(both[:, 8], np.stack(2 * [clean])[:, 8], atol=1e-9)

    def test_the_bound_is_the_divergence_of_two_posteriors(self, float64):
        """Of Gaussians with the means and the variance of arXiv 2006.11239, eq. 7."""
        tokens, x_t, _, t, _ = self.samples()
        answer = np.random.default_rng(2).dirichlet(np.ones(5), (60, 3))
        alpha_bar = np.concatenate([[1.0], np.asarray(self.process.alpha_bar, np.float64)])
        clean, expected = np.eye(5)[tokens], []
        for i in range(60):
            now, before = alpha_bar[t[i]], alpha_bar[t[i] - 1]
            alpha, beta = now / before, 1 - now / before
            if t[i] == 1:
                term = -np.log(answer[i, np.arange(3), tokens[i]]).sum()
            else:
                mean = [
                    np.sqrt(before) * beta / (1 - now) * x_0 + np.sqrt(alpha) * (1 - before) / (1 - now) * x_t[i]
                    for x_0 in (clean[i], answer[i])
                ]
                variance = (1 - before) / (1 - now) * beta
                term = np.square(mean[0] - mean[1]).sum() / (2 * variance)
            if t[i] == 60:
                # KL(N(sqrt(ab) x_0, 1 - ab) || N(0, 1)), number by number.
                term += 0.5 * (now * clean[i] ** 2 + (1 - now) - 1 - np.log(1 - now)).sum()
            expected.append(term)
        found = self.process.bound(jnp.asarray(tokens), jnp.asarray(x_t), jnp.asarray(t), jnp.asarray(answer))
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        at_one = self.process.bound(jnp.asarray(tokens), jnp.asarray(x_t), 1, jnp.asarray(answer))
        np.testing.assert_allclose(at_one, -np.log(np.take_along_axis(answer, tokens[..., None], -1)).sum((1, 2)))
        # The start adds something, and a symbol that is ruled out costs much and not infinitely much.
        assert self.process.bound(jnp.asarray(tokens), jnp.asarray(x_t), 60, jnp.asarray(clean)).min() > 1e-6
        sure = jnp.asarray(np.eye(5)[(tokens + 1) % 5])
        assert np.isfinite(self.process.bound(jnp.asarray(tokens), jnp.asarray(x_t), 1, sure)).all()

    def test_it_starts_from_white_noise_and_shows_no_symbol(self):
        start = np.asarray(self.process.start(jax.random.split(jax.random.key(0), 4000), 3))
        assert start.shape == (4000, 3, 5)
        np.testing.assert_allclose(start.mean(0), 0, atol=5 / np.sqrt(4000))
        np.testing.assert_allclose(start.var(0), 1, rtol=5 * np.sqrt(2 / 4000))
        np.testing.assert_array_equal(start[7:], self.process.start(jax.random.split(jax.random.key(0), 4000)[7:], 3))
        x = jnp.asarray(start)
        assert self.process.channels == 5
        np.testing.assert_array_equal(self.process.encode(x), start)
        np.testing.assert_array_equal(self.process.decode(x), start.argmax(-1))
        np.testing.assert_array_equal(self.process.known(x), np.zeros((4000, 3)))


TINY = random_grammar(jax.random.key(4), depth=2, vocab=3, rules=2, sigma=1.0)
LEVELS, SEQUENCES, GROUPS = 100, 20_000, 100


def mixing(x):
    """Two denoisers that are no function of the posterior: softmax of fixed linear maps of all of x, `(n, 4, c)`."""
    x = x.reshape(len(x), -1)
    maps = 1.2 * np.random.default_rng(5).standard_normal((2, x.shape[1], 12))
    return softmax((x @ maps).reshape(2, len(x), 4, 3), axis=-1)


class Estimated:
    """What the probe and the measures give for `mixing`: mean and standard error by height."""

    def __init__(self, process, t):
        self.process = process
        leaves = sample(jax.random.key(1), TINY, SEQUENCES).leaves
        t = jnp.full((1, SEQUENCES), t, jnp.int32)
        keys = keys_of(jax.random.key(2), range(1))
        self.piece = at(make_pieces(keys, TINY, process, leaves, t, filtered=(0,)), 0)
        self.reference = make_reference(jax.random.key(3), TINY, process, self.piece, leaves[None, :1])

    def errors(self, x_t, exact):
        return jnp.asarray(mixing(np.asarray(self.process.encode(x_t), np.float64)), jnp.float32) - exact[None]

    def spectrum(self, *, weigh=lambda weight: weight, completed=True):
        windows, completions, _ = self.reference
        error = self.errors(self.piece.x_t, windows[-1])
        none, whole = spectrum.ends(error, groups=GROUPS)
        blocks = []
        for height in range(TINY.depth):
            x_t, exact, weight = at(completions, height)
            there = self.errors(x_t, exact) if completed else error
            blocks.append(spectrum.on_blocks(error, there, weigh(weight)))
        products = in_groups(np.asarray(spectrum.by_height(none, jnp.stack(blocks), whole), np.float64), GROUPS)
        return products.mean(-1), products.std(-1, ddof=1) / np.sqrt(GROUPS)


SYMBOLS, LOG_PROB = oracles.derivations(TINY)
STRINGS = SYMBOLS[-1]


def blocks_of(height):
    """The leaves of each block of a height; at -1, where nothing is seen, all that are asked for."""
    return [np.arange(4)] if height < 0 else np.split(np.arange(4), 4 // 2**height)


def increments(conditional, window, x_t):
    """`d_h e`, `(heights, S, n, L, v)`, of what f and w are on average given x_t on the leaves that are seen."""
    given = np.zeros((4, 2, len(x_t), 4, 3))
    for height in range(-1, 3):
        for block in blocks_of(height):
            seen = block if height >= 0 else block[:0]
            given[height + 1][..., block, :] = conditional(seen)[..., block, :] - window(seen)[None][..., block, :]
    return np.concatenate([given[:1], np.diff(given, axis=0)])


def defined_gaussian(process, t, *, inputs=2000, draws=40):
    """`E<d_h e_A, d_h e_B>` by its definition, and its standard error.

    The means of f given x_t on a block are of Monte Carlo draws: the string from its posterior over all strings of the
    grammar, and fresh noise outside the block. Two independent sets of them make the products unbiased; their noise is
    a part of the standard error.
    """
    rng, ab = np.random.default_rng(6), float(process.alpha_bar[t - 1])

    def noised(which):
        clean = np.eye(3)[STRINGS[which]]
        return np.sqrt(ab) * clean + np.sqrt(1 - ab) * rng.standard_normal(clean.shape)

    x_t = noised(rng.choice(len(STRINGS), inputs, p=np.exp(LOG_PROB)))
    ll = -np.square(x_t[:, :, None] - np.sqrt(ab) * np.eye(3)).sum(-1) / (2 * (1 - ab))

    def conditional(seen):
        if len(seen) == 4:
            return mixing(x_t)
        weight = softmax(LOG_PROB + ll[:, seen, STRINGS[:, seen]].sum(-1), axis=1)
        which = (np.cumsum(weight, 1)[:, None] < rng.random((inputs, draws, 1))).sum(-1)
        x = noised(np.minimum(which, len(STRINGS) - 1))
        x[:, :, seen] = x_t[:, None, seen]
        return mixing(x.reshape(-1, 4, 3)).reshape(2, inputs, draws, 4, 3).mean(2)

    def window(seen):
        shown = np.zeros_like(ll)
        shown[:, seen] = ll[:, seen]
        return oracles.enumerated(TINY, shown)[1][-1]

    first, second = (increments(conditional, window, x_t) for _ in range(2))
    products = np.einsum("hanlv,hbnlv->habn", first, second)
    products = 0.5 * (products + products.swapaxes(1, 2))
    return products.mean(-1), products.std(-1, ddof=1) / np.sqrt(inputs)


def law_of_neighbours(process, t):
    return np.asarray(process.law(jnp.array([0]), jnp.array([t]))[0], np.float64)


def law_of_masking(process, t):
    share = t / process.levels
    return np.hstack([(1 - share) * np.eye(3), np.full((3, 1), share)])


def law_of_uniform(process, t):
    share = t / process.levels
    return (1 - share) * np.eye(3) + share / 3


def defined_by_all_states(law):
    """The same by summing over all x_t, exactly; `law(process, t)` is q(x_t | x_0) of a leaf, a row for each symbol."""

    def define(process, t):
        of_leaf = law(process, t)
        channels = of_leaf.shape[1]
        states = np.stack(np.unravel_index(np.arange(channels**4), (channels,) * 4), -1)
        joint = np.exp(LOG_PROB) * of_leaf[STRINGS[None], states[:, None]].prod(-1)
        possible = joint.sum(1) > 0
        states, joint = states[possible], joint[possible]
        probability, f = joint.sum(1), mixing(np.eye(channels)[states])

        def alike(seen):
            """p(x' | x on the block), a row for each x."""
            same = (states[:, None, seen] == states[None, :, seen]).all(-1) * probability
            return same / same.sum(1, keepdims=True)

        def window(seen):
            of_clean = np.einsum("yc,clv->ylv", joint / probability[:, None], np.eye(3)[STRINGS])
            return np.einsum("xy,ylv->xlv", alike(seen), of_clean)

        d = increments(lambda seen: np.einsum("xy,sylv->sxlv", alike(seen), f), window, states)
        products = np.einsum("hanlv,hbnlv,n->hab", d, d, probability)
        return products, np.zeros_like(products)

    return define


CASES = {
    "gaussian": (Gaussian, 22, defined_gaussian),
    "neighbours": (Neighbours, 63, defined_by_all_states(law_of_neighbours)),
    "masking": (Masking, 50, defined_by_all_states(law_of_masking)),
    "uniform": (Uniform, 40, defined_by_all_states(law_of_uniform)),
}


@pytest.fixture(
    scope="module",
    params=["gaussian", "masking", *(pytest.param(name, marks=pytest.mark.slow) for name in ("neighbours", "uniform"))],
)
def case(request):
    process, t, define = CASES[request.param]
    process = process(vocab=3, levels=LEVELS)
    return Estimated(process, t), define(process, t)


def deviations(found, defined):
    """In standard errors of the difference, `(heights, S, S)`."""
    (mean, error), (expected, of_definition) = found, defined
    return (mean - expected) / np.sqrt(error**2 + of_definition**2)


def test_the_level_spectrum_is_its_definition(case):
    """Each term of both denoisers and of the pair; the standard error is below 6% of a denoiser's own terms."""
    estimated, defined = case
    found = estimated.spectrum()
    assert np.abs(deviations(found, defined)).max() < 4.5
    for denoiser in (0, 1):
        expected, *errors = (x[:, denoiser, denoiser] for x in (defined[0], defined[1], found[1]))
        assert (np.hypot(*errors) < 0.06 * expected).all()


@pytest.mark.parametrize(
    "wrong",
    [{"weigh": lambda weight: (weight > 0).astype(jnp.float32)}, {"completed": False}],
    ids=["without the number of blocks", "with all of x_t kept"],
)
def test_a_wrong_factor_is_not_the_definition(case, wrong):
    estimated, defined = case
    assert np.abs(deviations(estimated.spectrum(**wrong), defined)).max() > 8


def test_the_cosine_schedule_is_the_papers(float64):
    """Alpha_bar, but for the last level, where beta is held below 1."""
    t = np.arange(1, 100)
    expected = np.cos((t / 100 + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    alpha_bar = np.asarray(Cosine(vocab=3, levels=100).alpha_bar)
    np.testing.assert_allclose(alpha_bar[:-1], expected, rtol=1e-9)
    assert 0 < alpha_bar[-1] < 2e-3 * alpha_bar[-2]


def test_neighbours_are_reached_first_and_all_symbols_at_last(float64):
    process, t = Neighbours(vocab=5, levels=40), jnp.array([0, 1, 2, 40], jnp.int32)
    law, b = np.asarray(process.law(0 * t, t)), 8 / 40**3
    np.testing.assert_array_equal(law[0], np.eye(5))
    np.testing.assert_allclose(law[1][0], [1 - b, b / 2, 0, 0, b / 2], rtol=1e-9)
    np.testing.assert_allclose(law[2], np.linalg.matrix_power(law[1], 8), atol=1e-15)
    np.testing.assert_allclose(law[3], 1 / 5, atol=0.01)
    np.testing.assert_allclose(process.law(t[1:2], t[2:3])[0], np.linalg.matrix_power(law[1], 7), atol=1e-15)
    tokens = jnp.tile(jnp.arange(5, dtype=jnp.int32)[None], (20_000, 1))
    x_t = np.asarray(process.corrupt(jax.random.key(0), tokens, 20))
    drawn = np.stack([np.bincount(x_t[:, a], minlength=5) for a in range(5)]) / 20_000
    expected = np.exp(np.asarray(process.log_likelihood(jnp.arange(5, dtype=jnp.int32)[None], 20)))[0].T
    np.testing.assert_allclose(drawn, expected, atol=5 * np.sqrt(0.25 / 20_000))


@pytest.mark.slow
def test_a_run_goes_through_with_a_process_of_ones_own(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(noising.PROCESSES, Neighbours.name, Neighbours)
    config = OnsetConfig(
        process=Neighbours.name,
        sets=3,
        size=60,
        noise_levels=40,
        grammar=GrammarConfig(depth=2, vocab=4, rules=2),
        network=TreeConfig(width=8),
        train=TrainConfig(steps=60, checkpoints=4, first_checkpoint=5, batch=16, snapshots=2),
        measure=MeasureConfig(held_out=100, members=50, noise=(0.1, 0.5), onset_noise=0.1),
    )
    training.train(config, Sequences.set_up(config), tmp_path)
    printed, summary = capsys.readouterr().out, record.read_json(tmp_path / "summary.json")
    assert "\n".join(summary["table"]) in printed
    assert summary["verdict"] in printed
    assert record.read_json(tmp_path / "config.json")["options"]["process"] == Neighbours.name
    results = record.read_results(tmp_path / "results.nc")
    assert results.sizes["step"] == 4
    for name in ("divergence", "split", "spectrum", "slope", "excess", "excess_bound", "member_divergence"):
        assert np.isfinite(results[name]).all(), name
    # The networks learn, and their loss is what the exact posterior's is and the excess.
    assert results.excess.isel(step=-1).mean() < 0.95 * results.excess.isel(step=0).mean()
    assert (results.divergence.sel(filtered=0).mean("group") > 0).all()
    assert "shared" not in results
    assert (results.empirical.mean("group") > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("process", [Masking, Uniform], ids=lambda each: each.name)
def test_the_exact_denoiser_has_no_error_and_memorizers_have_slope_one(process):
    """The slope is taken of inputs where both memorizers have an answer; elsewhere these answer anything."""
    process = process(vocab=3, levels=LEVELS)
    exact = exact_denoiser(TINY, process)
    sets = [sample(jax.random.key(10 + i), TINY, 20).leaves for i in range(2)]

    def of_sequences(train):
        def denoise(x_t, t):
            memory = np.asarray(memorizer(train, process.log_likelihood(jnp.asarray(x_t), t)))
            return np.where(memory.sum(-1, keepdims=True) > 0, memory, 1 / 3)

        return denoise

    checkpoints = {
        1: 2 * [lambda x_t, t: np.asarray(exact(jnp.asarray(x_t), t))],
        2: [of_sequences(train) for train in sets],
    }
    held_out = np.asarray(sample(jax.random.key(20), TINY, 400).leaves)
    train = [np.asarray(each) for each in sets]
    key = jax.random.key(0)
    found = compare(checkpoints, train, held_out, process=process, noise=(0.5, 0.8), key=key, grammar=TINY).curves
    for name in ("error", "common", "data_dependent", "split"):
        np.testing.assert_allclose(found[name].sel(step=1), 0, atol=1e-7)
    np.testing.assert_allclose(found.divergence.sel(step=1, filtered=0), 0, atol=1e-5)
    np.testing.assert_allclose(found.slope.sel(step=2), 1, atol=1e-5)
    assert (found.data_dependent.sel(step=2).sum("height") > 0.1).all()


@pytest.mark.parametrize("process", [Gaussian, Cosine, Neighbours], ids=lambda each: each.name)
def test_the_terms_of_the_bound_sum_to_the_entropy_and_little_more(process):
    """Of the exact denoiser; with 400 levels, what is lost between them is below 0.12 of 2.96 nats a sequence."""
    process, n = process(vocab=3, levels=400), 80_000
    tokens = sample(jax.random.key(1), TINY, n).leaves
    t = stratified_times(jax.random.key(2), n, process.levels)
    x_t = process.corrupt(jax.random.key(3), tokens, t)
    terms = np.asarray(process.bound(tokens, x_t, t, exact_denoiser(TINY, process)(x_t, t)), np.float64)
    strata = process.levels * terms.reshape(process.levels, -1)
    error = np.sqrt(strata.var(1, ddof=1).mean() / n)
    gap = strata.mean() + (np.exp(LOG_PROB) * LOG_PROB).sum()
    assert error < 0.04
    assert -4 * error < gap < 0.12 + 4 * error


def test_reverse_diffusion_of_the_exact_denoiser_draws_from_the_grammar():
    process, options = Neighbours(vocab=3, levels=200), {"times": respaced(200, 200)}
    test_laws.chains_draw_from_the_grammar(process, TINY, test_laws.Language(TINY), **options)


@pytest.mark.parametrize("process", [Cosine, Neighbours], ids=lambda each: each.name)
def test_a_process_of_ones_own_obeys_the_laws(process, float64):
    process, language = process(vocab=3, levels=40), test_laws.Language(TINY)
    test_laws.posteriors_are_calibrated(process, language, 20)
    for t in (1, 20, 40):
        test_laws.the_bound_lies_above_by_the_step_divergence(process, language, t)
    test_laws.steps_depend_on_the_keys_alone(process, language)
