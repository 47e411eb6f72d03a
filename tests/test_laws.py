"""The laws that every process obeys, whatever the grammar. Each law is held to fail for a process with a planted fault.

What is exact is a sum over all strings of a small grammar; discrete noise is written as matrices of single steps
(arXiv 2107.03006, eq. 2 and 3).
"""

import dataclasses
import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.special import rel_entr
from scipy.stats import chi2

from hierdiff.grammar import grammar_from_tensor, random_grammar
from hierdiff.noising import Gaussian, Masking, Uniform, respaced, reverse
from hierdiff.noising.discrete import draw_symbols
from hierdiff.posterior import exact_denoiser


def with_zeros():
    """Symbols with one rule to three, of four leaves; a root that is never 1."""
    table = np.zeros((3, 3, 3))
    table[0, 0, 1], table[0, 1, 1] = 0.7, 0.3
    table[1, 2, 0] = 1
    table[2, 1, 2], table[2, 2, 2], table[2, 1, 0] = 0.5, 0.3, 0.2
    grammar = grammar_from_tensor(table, 2)
    return dataclasses.replace(grammar, log_root=jnp.log(jnp.array([0.6, 0, 0.4])))


GRAMMARS = {
    "binary": random_grammar(jax.random.key(4), depth=2, vocab=3, rules=2),
    "zeros": with_zeros(),
    "ternary": random_grammar(jax.random.key(5), depth=2, vocab=3, rules=2, branching=3),
    "rules of each level": random_grammar(jax.random.key(6), depth=3, vocab=3, rules=2, shared=False),
}
# Those of which all states can be summed over.
FOUR_LEAVES = ["binary", "zeros"]
MASKING, UNIFORM = Masking(vocab=3, levels=10), Uniform(vocab=3, levels=10)
PROCESSES = [Gaussian(vocab=3, levels=40), MASKING, UNIFORM]


class Language:
    """The strings of a grammar, `(S, L)`, and their probabilities."""

    def __init__(self, grammar):
        levels, log_prob = oracles.derivations(grammar)
        self.strings, which = np.unique(levels[-1], axis=0, return_inverse=True)
        probability = np.bincount(which.ravel(), np.exp(log_prob))
        self.strings, probability = self.strings[probability > 0], probability[probability > 0]
        self.probability = probability / probability.sum()
        self.leaves = grammar.leaves

    def sample(self, n, seed=0):
        return self.strings[np.random.default_rng(seed).choice(len(self.strings), n, p=self.probability)]

    def given(self, log_likelihood):
        """p(string | x_t), `(n, S)`, and of each leaf, `(n, L, v)`; zeros where x_t comes from none."""
        ll = np.asarray(log_likelihood, np.float64)
        fit = ll[:, np.arange(self.leaves), self.strings].sum(-1)
        top = fit.max(1, keepdims=True)
        weight = self.probability * np.exp(fit - np.where(top > -np.inf, top, 0))
        weight /= np.maximum(weight.sum(1, keepdims=True), 1e-300)
        return weight, np.einsum("ns,slv->nlv", weight, np.eye(3)[self.strings])


LANGUAGES = {name: Language(grammar) for name, grammar in GRAMMARS.items()}


class Matrices:
    """Discrete noise by its steps from t - 1 to t, in which 1 / (T - t + 1) of what is left is lost."""

    def __init__(self, process):
        masking = isinstance(process, Masking)
        self.size, levels = 3 + masking, process.levels
        lost = 1 / (levels - np.arange(levels))[:, None, None]
        end = np.eye(4)[3] if masking else np.full(3, 1 / 3)
        self.one_step = (1 - lost) * np.eye(self.size) + lost * end

    def law(self, s, t):
        """q(x_t | x_s), a row for each x_s."""
        return functools.reduce(np.matmul, self.one_step[s:t], np.eye(self.size))

    def joint(self, t, s):
        """q(x_s, x_t | x_0 = a), by x_t, a and x_s."""
        return self.law(0, s)[None, :3] * self.law(s, t).T[:, None]

    def before(self, t, s):
        """q(x_s | x_t, x_0 = a), by x_t, a and x_s; zeros where a cannot become x_t."""
        joint = self.joint(t, s)
        total = joint.sum(-1, keepdims=True)
        return np.divide(joint, total, out=np.zeros_like(joint), where=total > 0)

    def step(self, x_t, t, s, posterior):
        """`sum_a q(x_s | x_t, x_0 = a) p(a | x_t)`, `(n, L, size)`; where p is zeros, x_t stays."""
        law = np.einsum("nia,niax->nix", posterior, self.before(t, s)[x_t])
        return np.where(law.any(-1, keepdims=True), law, np.eye(self.size)[x_t])


def spoiled(process, **methods):
    """The process with something wrong: each of these functions is given the right method and its arguments."""

    def method(right, wrong):
        return lambda _, *args, **options: wrong(right, *args, **options)

    bodies = {name: method(getattr(process, name), wrong) for name, wrong in methods.items()}
    return type("Spoiled", (type(process),), bodies)(vocab=process.vocab, levels=process.levels)


def fails(law, *args):
    """Assert that a law does not hold."""
    with pytest.raises(AssertionError):
        law(*args)


def corrupted(process, language, t, n, seed=0):
    """Tokens, x_t of them, as NumPy, p(string | x_t) and the exact posterior of each leaf."""
    tokens = language.sample(n, seed)
    x_t = process.corrupt(jax.random.key(seed), jnp.asarray(tokens, jnp.int32), t)
    return tokens, np.asarray(x_t), *language.given(process.log_likelihood(x_t, t))


def code(symbols, base):
    """One number for each row of symbols."""
    return symbols @ base ** np.arange(symbols.shape[-1])


def outer(*laws):
    """The law of `code` of independent symbols."""
    return functools.reduce(lambda a, b: (b[:, None] * a[None]).ravel(), laws)


def assert_drawn(numbers, law):
    """Chi-squared at a false-alarm rate of 1e-4; the rarest, to be expected five times, are taken together."""
    drawn, expected = np.bincount(numbers, minlength=len(law)), len(numbers) * law
    assert len(drawn) == len(law)
    assert drawn[law < 1e-12].sum() == 0
    order = np.argsort(expected)
    few = max((expected < 5).sum(), np.searchsorted(expected[order].cumsum(), 5) + 1)
    drawn, expected = (np.append(x[order[few:]], x[order[:few]].sum()) for x in (drawn, expected))
    statistic = ((drawn - expected) ** 2 / expected).sum()
    assert statistic <= chi2.isf(1e-4, max(len(expected) - 1, 1))


def assert_drawn_from(language, tokens, *, branching, depth):
    """That strings are drawn from a grammar: blocks of every height at every place."""
    assert tokens.max() < 3
    for height in range(depth + 1):
        width = branching**height
        for place in range(0, language.leaves, width):
            block = slice(place, place + width)
            law = np.bincount(code(language.strings[:, block], 3), language.probability, minlength=3**width)
            assert_drawn(code(tokens[:, block], 3), law)


# The laws.


def posteriors_are_calibrated(process, language, t, n=6000):
    """E[1[x_0 = a] - w_a] = 0, and so times w_b: what `log_likelihood` says of x_t is true of what `corrupt` makes."""
    tokens, _, _, w = corrupted(process, language, t, n)
    products = np.einsum("nia,nib->nab", np.eye(3)[tokens] - w, np.insert(w, 3, 1, axis=-1))
    z = products.mean(0) / np.maximum(products.std(0) / np.sqrt(n), 1e-9)
    assert np.abs(z).max() < 4.5


def corrupt_draws_from_the_matrices(process, t, n=20_000):
    """Of three leaves that hold three symbols, jointly."""
    matrices = Matrices(process)
    x_t = process.corrupt(jax.random.key(0), jnp.tile(jnp.arange(3, dtype=jnp.int32)[None], (n, 1)), t)
    assert_drawn(code(np.asarray(x_t), matrices.size), outer(*matrices.law(0, t)[:3]))


def likelihood_is_a_column_of_the_matrices(process, t):
    """Up to a constant of the leaf, for all states that there are at t."""
    law = Matrices(process).law(0, t)[:3].T
    states = np.flatnonzero(law.any(-1))
    found = np.exp(process.log_likelihood(jnp.asarray(states[None]), t))[0]
    found, law = (x / x.sum(-1, keepdims=True) for x in (found, law[states]))
    np.testing.assert_allclose(found, law, rtol=1e-9, atol=1e-12)


def steps_draw_from_the_mixture(process, language, t, s, n=4000):
    """From copies of one x_t, for some of them: each pair of leaves, whose law is a product."""
    _, x_t, _, w = corrupted(process, language, t, 3)
    keys = jax.random.split(jax.random.key(1), 3 * n)
    copies, answers = jnp.asarray(x_t.repeat(n, 0)), jnp.asarray(w.repeat(n, 0), jnp.float32)
    drawn = np.asarray(jax.jit(process.step)(keys, copies, t, s, answers)).reshape(3, n, *x_t.shape[1:])
    if isinstance(process, Gaussian):
        assert_gaussian(drawn.astype(float), *eq_7(process, x_t, t, s, w))
        return
    matrices = Matrices(process)
    for x_s, law in zip(drawn, matrices.step(x_t, t, s, w), strict=True):
        for i, j in itertools.combinations(range(language.leaves), 2):
            assert_drawn(code(x_s[:, [i, j]], matrices.size), outer(law[i], law[j]))


def eq_7(process, x_t, t, s, x_0):
    """Mean and variance of q(x_s | x_t, x_0) (arXiv 2006.11239, eq. 7, with a step of any length)."""
    alpha_bar = np.append(1, np.asarray(process.alpha_bar, np.float64))
    now, before = alpha_bar[t], alpha_bar[s]
    alpha, beta = now / before, 1 - now / before
    mean = np.sqrt(before) * beta / (1 - now) * x_0 + np.sqrt(alpha) * (1 - before) / (1 - now) * x_t
    return mean, (1 - before) / (1 - now) * beta


def assert_gaussian(drawn, mean, variance):
    """That draws `(inputs, n, L, v)` are of independent Gaussians."""
    n = drawn.shape[1]
    np.testing.assert_allclose(drawn.mean(1), mean, atol=5 * np.sqrt(variance / n) + 1e-5)
    residual = (drawn - mean[:, None]).reshape(*drawn.shape[:2], -1)
    covariance = np.einsum("cni,cnj->cij", residual, residual) / n
    spread = 5.5 * variance / np.sqrt(n) * (1 + np.eye(residual.shape[-1]))
    assert (np.abs(covariance - variance * np.eye(residual.shape[-1])) <= spread + 1e-9).all()


def the_bound_lies_above_by_the_step_divergence(process, language, t):
    """Of any posterior f above that of w, on average over x_0 given x_t."""
    _, x_t, of_string, w = corrupted(process, language, t, 5)
    f = np.random.default_rng(1).dirichlet(np.ones(3), x_t.shape[:2])
    strings = jnp.asarray(np.tile(language.strings, (5, 1)), jnp.int32)
    x, w_each, f_each = (jnp.asarray(each.repeat(len(language.strings), 0)) for each in (x_t, w, f))
    bound = jax.jit(process.bound)
    above = bound(strings, x, t, f_each) - bound(strings, x, t, w_each)
    expected = jax.jit(process.step_divergence)(jnp.asarray(x_t), jnp.full(5, t), jnp.asarray(w), jnp.asarray(f))
    above = (of_string * np.asarray(above).reshape(of_string.shape)).sum(1)
    assert above.max() > 0
    np.testing.assert_allclose(above, expected, rtol=1e-9, atol=1e-14)


def some_answers(process, language, t, n=100):
    """Tokens, x_t, the exact posterior and any answer at all, of shown leaves too."""
    tokens, x_t, _, w = corrupted(process, language, t, n)
    return tokens, x_t, w, np.random.default_rng(1).dirichlet(np.ones(3), x_t.shape)


def the_bound_is_the_divergence_of_steps(process, language, t, paired="before"):
    """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) at s = t - 1, by the matrices, and of the exact posterior in place of x_0.

    What x_t shows is the answer. `paired="joint"` gives p the form of arXiv 2107.03006, eq. 4.
    """
    tokens, x_t, w, f = some_answers(process, language, t)
    matrices, shown = Matrices(process), np.asarray(process.known(jnp.asarray(x_t)))
    of_x_0 = getattr(matrices, paired)(t, t - 1)[x_t]
    ours = np.einsum("nia,niax->nix", np.where(shown[..., None], w, f), of_x_0)
    ours = ours / ours.sum(-1, keepdims=True)
    tokens, x, f = jnp.asarray(tokens, jnp.int32), jnp.asarray(x_t), jnp.asarray(f)
    found = process.bound(tokens, x, t, f), process.step_divergence(x, t, jnp.asarray(w), f)
    for answer, each in zip((np.eye(3)[tokens], w), found, strict=True):
        expected = rel_entr(matrices.step(x_t, t, t - 1, answer), ours).sum((1, 2))
        np.testing.assert_allclose(each, expected, rtol=1e-9, atol=1e-12)


def masked_bound_is_weighted_cross_entropy(process, language, t):
    """`-sum of log f(x_0) over masked leaves, over m_t`, T times (arXiv 2406.07524, eq. 10; 2406.04329, eq. 5)."""
    tokens, x_t, _, f = some_answers(process, language, t)
    log_f = np.log(np.take_along_axis(f, tokens[..., None], axis=-1)[..., 0])
    expected = -np.where(x_t == 3, log_f, 0).sum(1) / (t / process.levels)
    found = process.levels * process.bound(jnp.asarray(tokens, jnp.int32), jnp.asarray(x_t), t, jnp.asarray(f))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def all_states(size):
    return np.stack(np.unravel_index(np.arange(size**4), (size,) * 4, order="F"), -1)


def mean_bounds(process, language, levels):
    """`E[bound(x_0, x_t, t, w)]` at each of these levels, of the exact denoiser, summed over all x_0 and x_t."""
    matrices, bound, found = Matrices(process), jax.jit(process.bound), []
    states = all_states(matrices.size)
    strings, x_t = (x.reshape(-1, 4) for x in np.broadcast_arrays(language.strings[:, None], states[None]))
    strings, x_t = jnp.asarray(strings, jnp.int32), jnp.asarray(x_t, jnp.int32)
    for t in levels:
        law = language.probability[:, None] * matrices.law(0, t)[language.strings[:, None], states].prod(-1)
        w = language.given(process.log_likelihood(jnp.asarray(states), t))[1]
        each = bound(strings, x_t, t, jnp.asarray(np.tile(w, (len(language.strings), 1, 1))))
        found.append((law.ravel() * np.asarray(each)).sum())
    return np.array(found)


def the_bound_closes_in_on_the_entropy(make, language):
    """What it lies above falls as 1/T for masking, and so to a factor for uniform noise; `make(T)` is a process."""
    entropy = -(language.probability * np.log(language.probability)).sum()
    scaled = []
    for levels in (10, 40):
        gap = mean_bounds(make(levels), language, range(1, levels + 1)).sum() - entropy
        scaled.append(levels * gap)
    assert min(scaled) > 0
    assert max(scaled) < 4
    if isinstance(make(10), Masking):
        assert scaled[1] == pytest.approx(scaled[0], rel=0.05)


def the_continuous_bound_is_the_entropy(process, language):
    """For masking: `T E[bound]`, a cubic polynomial in t/T, integrated exactly from four of its values."""
    levels = [1, 4, 6, 9]
    shares = np.divide(levels, process.levels)
    weights = np.linalg.solve(np.vander(shares, increasing=True).T, 1 / np.arange(1, 5))
    integral = process.levels * weights @ mean_bounds(process, language, levels)
    entropy = -(language.probability * np.log(language.probability)).sum()
    np.testing.assert_allclose(integral, entropy, rtol=1e-9)


def masked_posteriors_condition_on_what_is_shown(process, grammar, language):
    """By the strings that agree with it; what is shown is answered with certainty."""
    t = jnp.arange(200, dtype=jnp.int32) % process.levels + 1
    tokens = language.sample(200)
    x_t = process.corrupt(jax.random.key(0), jnp.asarray(tokens, jnp.int32), t)
    found, x_t = np.asarray(exact_denoiser(grammar, process)(x_t, t)), np.asarray(x_t)
    for x, answer in zip(x_t, found, strict=True):
        agree = (language.strings[:, x != 3] == x[x != 3]).all(1)
        expected = np.average(np.eye(3)[language.strings[agree]], axis=0, weights=language.probability[agree])
        np.testing.assert_allclose(answer, expected, atol=3e-6)
        np.testing.assert_allclose(answer[x != 3], np.eye(3)[x[x != 3]], atol=1e-6)


def law_of_the_chain(process, language, times):
    """The law of what the exact denoiser's chain ends in, of four leaves, by `code`; summed over all paths."""
    matrices = Matrices(process)
    states = all_states(matrices.size)
    law = outer(*4 * [np.eye(4)[3] if matrices.size == 4 else np.full(3, 1 / 3)])
    for t, s in zip(times, [*times[1:], 0], strict=True):
        w = language.given(process.log_likelihood(jnp.asarray(states), int(t)))[1]
        first, second, third, fourth = matrices.step(states, t, s, w).swapaxes(0, 1)
        early = np.einsum("x,xa,xb->bax", law, first, second).reshape(-1, len(states))
        late = np.einsum("xc,xd->xdc", third, fourth).reshape(len(states), -1)
        law = (early @ late).T.ravel()
    return law


def drawn(process, grammar, times, n=6000, **options):
    """What the chain of the exact denoiser ends in."""
    exact = exact_denoiser(grammar, process)
    start = process.start(jax.random.split(jax.random.key(0), n), grammar.leaves)
    chain = jax.jit(lambda x: reverse(jax.random.key(1), exact, process, x, times, batch=n, **options))
    return np.asarray(chain(start))


def few_steps_draw_from_the_law_of_the_chain(process, grammar, language):
    times = respaced(process.levels, 4)
    size = Matrices(process).size
    assert_drawn(code(drawn(process, grammar, times), size), law_of_the_chain(process, language, times))


def chains_draw_from_the_grammar(process, grammar, language, **options):
    tokens = drawn(process, grammar, **options)
    assert_drawn_from(language, tokens, branching=grammar.branching, depth=grammar.depth)


def steps_depend_on_the_keys_alone(process, language):
    """A part of a batch is what it is in the whole."""
    _, x_t, _, w = corrupted(process, language, 6, 20)
    keys, x_t, w = jax.random.split(jax.random.key(1), 20), jnp.asarray(x_t), jnp.asarray(w, float)
    step = jax.jit(process.step)
    whole = step(keys, x_t, 6, 3, w)
    np.testing.assert_allclose(whole[7:], step(keys[7:], x_t[7:], 6, 3, w[7:]), rtol=1e-5, atol=1e-6)
    assert (whole != step(keys[::-1], x_t, 6, 3, w)).any()


def two_denoisers_show_the_same_leaves(process, **options):
    """And where they agree, the same symbols."""
    x_t, keys = jnp.full((500, 4), 3, jnp.int32).at[::2, 1].set(0), jax.random.split(jax.random.key(0), 500)
    answers = np.random.default_rng(0).dirichlet(np.ones(3), (2, 500, 4))
    answers[1, :, 0] = answers[0, :, 0]
    one, two = (np.asarray(process.step(keys, x_t, 8, 4, jnp.asarray(f, jnp.float32), **options)) for f in answers)
    np.testing.assert_array_equal(one == 3, two == 3)
    np.testing.assert_array_equal(one[:, 0], two[:, 0])
    assert (one != two).mean() > 0.1
    assert 0.2 < (one == 3).mean() < 0.8


def so_many_leaves_are_shown(process, order, at_once):
    """Those of the most probable symbols, or any; in the last step, all."""
    keys, x_t = jax.random.split(jax.random.key(0), 200), jnp.full((200, 4), 3, jnp.int32).at[:, 2].set(1)
    f = np.random.default_rng(0).dirichlet(np.ones(3), (200, 4)).astype(np.float32)
    step = functools.partial(process.step, keys, x_t, 6, posterior=jnp.asarray(f), order=order, at_once=at_once)
    shown = np.asarray(step(s=4))[:, [0, 1, 3]] != 3
    assert (shown.sum(1) == at_once).all()
    sure = f[:, [0, 1, 3]].max(-1)
    assert (shown == (sure >= np.sort(sure, axis=1)[:, [-at_once]])).all() == (order == "confidence")
    assert (step(s=0) != 3).all()


def no_symbol_is_made_up(process, grammar, shown, times, **options):
    """Where the grammar forbids what is shown, the answers are zeros, and what is masked stays."""
    x = jnp.asarray([[*shown, 3, 3]] * 50, jnp.int32)
    exact = exact_denoiser(grammar, process)
    np.testing.assert_array_equal(exact(x, jnp.full(50, 5)), np.zeros((50, 4, 3)))
    np.testing.assert_array_equal(reverse(jax.random.key(0), exact, process, x, times, **options), x)


# What is planted.


def sharper(right, x_t, t):
    return 1.2 * right(x_t, t)


def tilted(right, x_t, t):
    """One symbol is 1.5 times too likely."""
    return right(x_t, t) + np.log(1.5) * jax.nn.one_hot(jnp.zeros(x_t.shape[:2], jnp.int32), 3)


def one_level_up(right, key, tokens, t):
    return right(key, tokens, t + 1)


def elsewhere(right, keys, x_t, t, s, posterior, **options):
    """The step goes one level too far, and at the end not far enough."""
    return right(keys, x_t, t, jnp.where(s > 0, s - 1, 1), posterior, **options)


def of_the_answers(right, keys, x_t, t, s, posterior, **options):
    """The noise of a step depends on the denoiser, and on the batch."""
    number = jax.lax.bitcast_convert_type(jnp.square(posterior).sum((0, 1, 2)), jnp.uint32)
    return right(jax.vmap(lambda key: jax.random.fold_in(key, number))(keys), x_t, t, s, posterior, **options)


def one_more(right, *args, at_once, **options):
    return right(*args, at_once=at_once + 1, **options)


def made_up(right, keys, x_t, t, s, posterior, **options):
    """Any symbol, where the posterior says none."""
    return right(keys, x_t, t, s, jnp.where(posterior.any(-1, keepdims=True), posterior, 1 / 3), **options)


def from_the_prior(right, keys, x_t, t, s, posterior, **options):
    """Each leaf by itself: all that the others say is lost."""
    return right(keys, x_t, t, s, posterior.mean(0, keepdims=True).repeat(len(posterior), 0), **options)


def larger(right, *args):
    return 1.05 * right(*args)


every_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)


@pytest.mark.parametrize(
    "name", [name if name in FOUR_LEAVES else pytest.param(name, marks=pytest.mark.slow) for name in GRAMMARS]
)
class TestLaws:
    """Of every process and every grammar."""

    @every_process
    @pytest.mark.parametrize("share", [0.3, 0.7])
    def test_likelihoods_are_those_of_the_noise(self, process, name, share, float64):
        law, t = posteriors_are_calibrated, round(share * process.levels)
        law(process, LANGUAGES[name], t)
        fails(law, spoiled(process, log_likelihood=tilted), LANGUAGES[name], t)
        if share == 0.3 and process is not MASKING:
            fails(law, spoiled(process, log_likelihood=sharper), LANGUAGES[name], t)

    @every_process
    def test_a_step_draws_from_its_law(self, process, name):
        law, wrong, t = steps_draw_from_the_mixture, spoiled(process, step=elsewhere), round(0.6 * process.levels)
        for s in (t - 1, t // 2, 0):
            law(process, LANGUAGES[name], t, s)
            fails(law, wrong, LANGUAGES[name], t, s)

    @every_process
    def test_the_bound_is_least_for_the_exact_posterior(self, process, name, float64):
        law, wrong = the_bound_lies_above_by_the_step_divergence, spoiled(process, bound=larger)
        for t in (1, process.levels // 2, process.levels):
            law(process, LANGUAGES[name], t)
            fails(law, wrong, LANGUAGES[name], t)

    def test_masked_posteriors_condition_on_what_is_shown(self, name):
        law = masked_posteriors_condition_on_what_is_shown
        law(MASKING, GRAMMARS[name], LANGUAGES[name])
        fails(law, spoiled(MASKING, log_likelihood=tilted), GRAMMARS[name], LANGUAGES[name])

    @pytest.mark.parametrize("order", ["random", "confidence"])
    def test_leaves_shown_one_at_a_time_make_strings_of_the_grammar(self, name, order):
        grammar = GRAMMARS[name]
        options = {"times": respaced(MASKING.levels, grammar.leaves), "order": order, "at_once": 1}
        chains_draw_from_the_grammar(MASKING, grammar, LANGUAGES[name], **options)

    def test_gaussian_noise_makes_strings_of_the_grammar(self, name):
        process, options = Gaussian(vocab=3, levels=100), {"times": respaced(100, 100), "n": 2000}
        chains_draw_from_the_grammar(process, GRAMMARS[name], LANGUAGES[name], **options)


@pytest.mark.parametrize("process", [MASKING, UNIFORM], ids=lambda process: process.name)
class TestDiscrete:
    """By the matrices of single steps, and by sums over all states."""

    def test_noise_and_likelihood_are_those_of_the_matrices(self, process, float64):
        for t in (1, 4, 10):
            corrupt_draws_from_the_matrices(process, t)
            likelihood_is_a_column_of_the_matrices(process, t)
        fails(corrupt_draws_from_the_matrices, spoiled(process, corrupt=one_level_up), 4)
        fails(likelihood_is_a_column_of_the_matrices, spoiled(process, log_likelihood=tilted), 4)

    @pytest.mark.parametrize("name", FOUR_LEAVES)
    def test_the_bound_is_the_divergence_of_the_matrices(self, process, name, float64):
        for t in (1, 5, 10):
            the_bound_is_the_divergence_of_steps(process, LANGUAGES[name], t)
            for method in ("bound", "step_divergence"):
                wrong = spoiled(process, **{method: larger})
                fails(the_bound_is_the_divergence_of_steps, wrong, LANGUAGES[name], t)

    def test_steps_by_unnormalised_joint_laws_are_others_unless_leaves_are_masked(self, process, float64):
        """The step that arXiv 2107.03006 draws, eq. 4, is ours where each symbol is as likely to become x_t."""
        law = functools.partial(the_bound_is_the_divergence_of_steps, process, LANGUAGES["binary"], 5, "joint")
        if process is MASKING:
            law()
        else:
            fails(law)

    @pytest.mark.parametrize("name", FOUR_LEAVES)
    def test_the_bound_closes_in_on_the_entropy(self, process, name, float64):
        def make(levels):
            return dataclasses.replace(process, levels=levels)

        the_bound_closes_in_on_the_entropy(make, LANGUAGES[name])
        fails(the_bound_closes_in_on_the_entropy, lambda levels: spoiled(make(levels), bound=larger), LANGUAGES[name])

    @pytest.mark.parametrize("name", FOUR_LEAVES)
    def test_a_chain_of_few_steps_draws_from_its_law(self, process, name):
        law = few_steps_draw_from_the_law_of_the_chain
        law(process, GRAMMARS[name], LANGUAGES[name])
        fails(law, spoiled(process, step=from_the_prior), GRAMMARS[name], LANGUAGES[name])

    @pytest.mark.parametrize("name", FOUR_LEAVES)
    def test_in_many_steps_the_law_of_the_chain_is_that_of_the_grammar(self, process, name):
        """The total variation falls with their number; until then leaves may stay masked, by what was shown at once."""
        language, masking, process = LANGUAGES[name], process is MASKING, dataclasses.replace(process, levels=200)
        size, apart = Matrices(process).size, []
        for steps in (10, 40, 200):
            law = law_of_the_chain(process, language, respaced(200, steps))
            assert (law[(all_states(size) == 3).any(1)].sum() > 1e-6) == masking
            law[code(language.strings, size)] -= language.probability
            apart.append(0.5 * np.abs(law).sum())
        assert apart[2] < 0.5 * apart[1] < 0.3 * apart[0]
        assert apart[2] < 0.01

    def test_states_are_integers_and_networks_read_them_one_hot(self, process):
        keys = jax.random.split(jax.random.key(0), 3000)
        start, channels = process.start(keys, 4), Matrices(process).size
        assert start.shape == (3000, 4)
        assert_drawn(code(np.asarray(start), channels), outer(*4 * [Matrices(process).law(0, 10)[0]]))
        np.testing.assert_array_equal(start[7:], process.start(keys[7:], 4))
        x_t = process.corrupt(jax.random.key(1), jnp.zeros((3000, 4), jnp.int32), 5)
        f = jnp.full((3000, 4, 3), 1 / 3)
        for state in (start, x_t, process.step(keys, x_t, 5, 4, f), process.decode(process.step(keys, x_t, 5, 0, f))):
            assert state.dtype == jnp.int32
        assert process.channels == channels
        np.testing.assert_array_equal(process.encode(x_t), np.eye(channels)[x_t])
        np.testing.assert_array_equal(process.known(x_t), (x_t != 3) & (process is MASKING))
        np.testing.assert_array_equal(process.decode(x_t), x_t)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"vocab": 1}, "vocab: got 1, needs an integer of at least 2"),
            ({"vocab": 3, "levels": 0}, "levels: got 0, needs an integer from 1 to 1,000,000"),
            ({"vocab": 3, "levels": 10**6 + 1}, "levels: got 1000001, needs an integer from 1 to 1,000,000"),
        ],
    )
    def test_impossible_sizes_are_refused(self, process, options, words):
        with pytest.raises(ValueError, match=words):
            type(process)(**options)


@every_process
def test_a_step_depends_on_the_keys_alone(process):
    steps_depend_on_the_keys_alone(process, LANGUAGES["binary"])
    fails(steps_depend_on_the_keys_alone, spoiled(process, step=of_the_answers), LANGUAGES["binary"])


@pytest.mark.parametrize(
    ("process", "options"),
    [
        (MASKING, {"times": respaced(10, 4), "order": "random", "at_once": 1}),
        (MASKING, {"times": respaced(10, 4), "order": "confidence", "at_once": 1}),
        (Gaussian(vocab=3, levels=40), {"times": respaced(40, 40)}),
    ],
    ids=["random", "confidence", "gaussian"],
)
def test_chains_of_wrong_answers_do_not_draw_from_the_grammar(process, options):
    wrong = spoiled(process, step=from_the_prior)
    fails(functools.partial(chains_draw_from_the_grammar, wrong, GRAMMARS["binary"], LANGUAGES["binary"], **options))


class TestMasking:
    """What only a mask has."""

    @pytest.mark.parametrize("name", FOUR_LEAVES)
    def test_the_bound_is_weighted_cross_entropy_and_the_entropy_without_levels(self, name, float64):
        for t in (1, 5, 10):
            masked_bound_is_weighted_cross_entropy(MASKING, LANGUAGES[name], t)
        the_continuous_bound_is_the_entropy(MASKING, LANGUAGES[name])
        wrong = spoiled(MASKING, bound=larger)
        fails(masked_bound_is_weighted_cross_entropy, wrong, LANGUAGES[name], 5)
        fails(the_continuous_bound_is_the_entropy, wrong, LANGUAGES[name])

    @pytest.mark.parametrize("options", [{}, {"order": "random", "at_once": 2}], ids=["independent", "two at once"])
    def test_two_denoisers_show_the_same_leaves(self, options):
        law = functools.partial(two_denoisers_show_the_same_leaves, **options)
        law(MASKING)
        fails(law, spoiled(MASKING, step=of_the_answers))

    @pytest.mark.parametrize("options", [{}, *({"order": o, "at_once": 1} for o in ("random", "confidence"))], ids=str)
    def test_no_symbol_is_made_up_where_the_grammar_has_none(self, options):
        law = functools.partial(no_symbol_is_made_up, shown=(0, 0), times=respaced(5, 3), **options)
        law(MASKING, GRAMMARS["zeros"])
        fails(law, spoiled(MASKING, step=made_up), GRAMMARS["zeros"])

    def test_so_many_leaves_are_shown_at_once_and_all_at_the_end(self):
        for options in itertools.product(("random", "confidence"), (1, 2)):
            so_many_leaves_are_shown(MASKING, *options)
            fails(so_many_leaves_are_shown, spoiled(MASKING, step=one_more), *options)

    def test_an_order_has_a_number_and_a_name(self):
        keys, x_t, f = jax.random.split(jax.random.key(0), 2), jnp.full((2, 4), 3), jnp.full((2, 4, 3), 1 / 3)
        # As it is called where types are not checked.
        step = functools.partial(inspect.unwrap(Masking.step), MASKING, keys, x_t, 5, 4, f)
        for options in ({"order": "random"}, {"at_once": 1}):
            with pytest.raises(ValueError, match=r"at_once: got .*, needs a number with an order, and none without"):
                step(**options)
        with pytest.raises(ValueError, match=r"order: got .*left to right.*, needs random or confidence"):
            step(order="left to right", at_once=1)


def test_where_a_law_is_zeros_no_symbol_is_drawn():
    law = jnp.asarray([[[0.0, 0, 0], [0, 1, 0]]] * 50)
    keys = jax.random.split(jax.random.key(0), 50)
    np.testing.assert_array_equal(draw_symbols(keys, law), [[3, 1]] * 50)
    x_t = jnp.zeros((50, 2), jnp.int32)
    np.testing.assert_array_equal(UNIFORM.step(keys, x_t, 5, 3, jnp.zeros((50, 2, 3))), np.full((50, 2), 3))
