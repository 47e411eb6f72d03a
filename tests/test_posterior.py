"""The exact posteriors, against enumeration, tensor contraction and their laws."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierdiff import posterior
from hierdiff.grammar import Grammar, random_grammar
from hierdiff.noising import Gaussian, Masking, Uniform, corrupt, leaf_log_likelihood, linear_schedule, score
from hierdiff.posterior import (
    block_root_posterior,
    class_posterior,
    empirical_posterior,
    leaf_posterior,
    log_evidence,
    memorizer,
    node_posteriors,
    prior_marginals,
    window_posterior,
)
from hierdiff.sampling import sample

SMALL = [
    {"depth": 2, "vocab": 3, "rules": 2, "branching": 2, "shared": True},
    {"depth": 3, "vocab": 3, "rules": 2, "branching": 2, "shared": False},
    {"depth": 2, "vocab": 3, "rules": 2, "branching": 3, "shared": False},
    {"depth": 1, "vocab": 4, "rules": 4, "branching": 2, "shared": True},
    {"depth": 2, "vocab": 2, "rules": 1, "branching": 3, "shared": True},
]


# Ragged grammars: sizes, the level that has labels, and a seed.
LABELLED = [
    ({"depth": 3, "branching": 2}, 1, 4),
    ({"depth": 3, "branching": 2}, 2, 11),
    ({"depth": 2, "branching": 3}, 1, 1),
]


def evidence_for(grammar, n=5, scale=3.0, seed=0):
    shape = (n, grammar.leaves, grammar.vocab)
    return jnp.asarray(scale * np.random.default_rng(seed).standard_normal(shape), float)


@pytest.fixture(params=SMALL, ids=lambda sizes: "d{depth}v{vocab}m{rules}s{branching}".format(**sizes))
def grammar64(request, float64):
    return random_grammar(jax.random.key(3), **request.param)


def test_evidence_and_every_marginal_equal_enumeration(grammar64):
    ll = evidence_for(grammar64)
    evidence, marginals = oracles.enumerated(grammar64, ll)
    np.testing.assert_allclose(log_evidence(grammar64, ll), evidence, atol=1e-10)
    np.testing.assert_allclose(leaf_posterior(grammar64, ll), marginals[-1], atol=1e-10)
    for ours, theirs in zip(node_posteriors(grammar64, ll), marginals, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-10)


def test_filtered_posteriors_equal_enumeration(grammar64):
    ll = evidence_for(grammar64)
    for k in range(grammar64.depth + 1):
        _, expected = oracles.filtered_by_channels(grammar64, ll, k)
        np.testing.assert_allclose(leaf_posterior(grammar64, ll, filtered=k), expected, atol=1e-10)


def test_window_posteriors_equal_enumeration_with_the_rest_unseen(grammar64):
    ll = np.asarray(evidence_for(grammar64))
    for height in range(-1, grammar64.depth + 1):
        ours = window_posterior(grammar64, jnp.asarray(ll), height=height)
        width = grammar64.branching**height if height >= 0 else 0
        for i in range(grammar64.leaves):
            seen = np.zeros_like(ll)
            if width:
                block = slice(i // width * width, i // width * width + width)
                seen[:, block] = ll[:, block]
            np.testing.assert_allclose(ours[:, i], oracles.enumerated(grammar64, seen)[1][-1][:, i], atol=1e-10)


def test_block_root_posteriors_equal_enumeration_with_the_rest_unseen(grammar64):
    ll = np.asarray(evidence_for(grammar64))
    for height in range(grammar64.depth + 1):
        ours = block_root_posterior(grammar64, jnp.asarray(ll), height=height)
        width = grammar64.branching**height
        for block in range(grammar64.leaves // width):
            seen = np.zeros_like(ll)
            seen[:, block * width : (block + 1) * width] = ll[:, block * width : (block + 1) * width]
            expected = oracles.enumerated(grammar64, seen)[1][grammar64.depth - height][:, block]
            np.testing.assert_allclose(ours[:, block], expected, atol=1e-10)


@settings(deadline=None, max_examples=4)
@given(
    sizes=st.sampled_from([{"depth": 3, "branching": 2}, {"depth": 2, "branching": 3}]),
    seed=st.integers(0, 2**20),
)
def test_levels_with_their_own_numbers_of_symbols_equal_enumeration(sizes, seed):
    """More or fewer symbols than at the leaves, rules and roots of probability zero, symbols that cannot occur."""
    with jax.enable_x64(True):
        grammar = oracles.ragged_grammar(seed, **sizes)
        ll = evidence_for(grammar, n=2, seed=seed)
        evidence, marginals = oracles.enumerated(grammar, ll)
        np.testing.assert_allclose(log_evidence(grammar, ll), evidence, atol=1e-10)
        for ours, theirs in zip(node_posteriors(grammar, ll), marginals, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-10)
        k = seed % (grammar.depth + 1)
        ours = leaf_posterior(grammar, ll, filtered=k)
        np.testing.assert_allclose(ours, oracles.filtered_by_channels(grammar, ll, k)[1], atol=1e-10)
        # On the last block of this height, the others unseen.
        height, last = grammar.depth - k, slice(grammar.leaves - grammar.branching ** (grammar.depth - k), None)
        seen = np.zeros_like(ll)
        seen[:, last] = ll[:, last]
        _, marginals = oracles.enumerated(grammar, seen)
        window = window_posterior(grammar, ll, height=height)
        np.testing.assert_allclose(window[:, last], marginals[-1][:, last], atol=1e-10)
        roots = block_root_posterior(grammar, ll, height=height)
        np.testing.assert_allclose(roots[:, -1], marginals[k][:, -1], atol=1e-10)
        drawn = sample(jax.random.key(seed), grammar, 50).levels
        possible = {tuple(x) for x in np.concatenate(oracles.derivations(grammar)[0], axis=1)}
        assert possible >= {tuple(x) for x in np.concatenate(drawn, axis=1)}


def with_labels(grammar, level, seed=0):
    """Evidence of seven sequences: labels of derivations with some unknown, of other derivations, none, and any."""
    rng = np.random.default_rng(seed)
    labels = np.array(sample(jax.random.key(seed), grammar, 7).levels[level])
    labels[1:4][rng.random(labels[1:4].shape) < 0.5] = -1
    labels[5] = -1
    labels[6] = rng.integers(0, grammar.symbols[level], labels.shape[1])
    return evidence_for(grammar, n=7, seed=seed), jnp.asarray(labels)


@pytest.fixture(params=LABELLED)
def labelled64(request, float64):
    sizes, level, seed = request.param
    grammar = oracles.ragged_grammar(seed, **sizes)
    return grammar, *with_labels(grammar, level)


def test_posteriors_given_labels_equal_enumeration(labelled64):
    grammar, ll, labels = labelled64

    # Compiled together, which takes less time.
    @jax.jit
    def ours(ll, labels):
        filtered = range(grammar.depth + 1)
        return (
            node_posteriors(grammar, ll, labels=labels),
            class_posterior(grammar, ll, labels=labels),
            [log_evidence(grammar, ll, filtered=k, labels=labels) for k in filtered],
            [leaf_posterior(grammar, ll, filtered=k, labels=labels) for k in filtered],
        )

    _, nodes = oracles.enumerated(grammar, ll, labels)
    filtered = [oracles.filtered_by_channels(grammar, ll, k, labels) for k in range(grammar.depth + 1)]
    np.testing.assert_allclose(filtered[0][0], oracles.enumerated(grammar, ll, labels)[0], atol=1e-10)
    expected = (nodes, nodes[0][:, 0], [evidence for evidence, _ in filtered], [leaves for _, leaves in filtered])
    assert np.isinf(filtered[0][0]).sum() < len(ll)
    for found, wanted in zip(jax.tree.leaves(ours(ll, labels)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-10)


def test_windows_given_labels_know_those_outside_the_block_too(labelled64):
    grammar, ll, labels = labelled64
    heights = range(grammar.depth + 1)

    @jax.jit
    def ours(ll, labels):
        return (
            window_posterior(grammar, ll, height=-1, labels=labels),
            [window_posterior(grammar, ll, height=height, labels=labels) for height in heights],
            [block_root_posterior(grammar, ll, height=height, labels=labels) for height in heights],
        )

    prior, windows, roots = ours(ll, labels)
    np.testing.assert_allclose(prior, oracles.enumerated(grammar, 0 * ll, labels)[1][-1], atol=1e-10)
    for height in heights:
        width = grammar.branching**height
        for block in range(grammar.leaves // width):
            leaves, seen = slice(block * width, (block + 1) * width), np.zeros_like(ll)
            seen[:, leaves] = ll[:, leaves]
            _, marginals = oracles.enumerated(grammar, seen, labels)
            np.testing.assert_allclose(windows[height][:, leaves], marginals[-1][:, leaves], atol=1e-10)
            of_block = marginals[grammar.depth - height][:, block]
            np.testing.assert_allclose(roots[height][:, block], of_block, atol=1e-10)


@pytest.mark.parametrize("known", [False, True], ids=["no labels", "labels"])
def test_a_root_law_for_each_sequence_equals_enumeration(known, float64):
    grammar = oracles.ragged_grammar(4, depth=3, branching=2)
    ll, labels = with_labels(grammar, 1)
    labels = labels if known else None
    root = np.random.default_rng(0).dirichlet(np.ones(3), len(ll)) * np.isfinite(grammar.log_root)
    root = jnp.asarray(root / root.sum(-1, keepdims=True))
    evidence, marginals = oracles.enumerated(grammar, ll, labels, root)
    np.testing.assert_allclose(log_evidence(grammar, ll, labels=labels, root=root), evidence, atol=1e-10)
    np.testing.assert_allclose(leaf_posterior(grammar, ll, labels=labels, root=root), marginals[-1], atol=1e-10)
    seen = np.zeros_like(ll)
    seen[:, -1] = ll[:, -1]
    _, marginals = oracles.enumerated(grammar, seen, labels, root)
    window = window_posterior(grammar, ll, height=0, labels=labels, root=root)
    np.testing.assert_allclose(window[:, -1], marginals[-1][:, -1], atol=1e-10)


@pytest.mark.parametrize("shared", [True, False])
def test_sixteen_leaves_equal_tensor_contraction(float64, shared):
    grammar = random_grammar(jax.random.key(5), depth=4, vocab=4, rules=3, shared=shared)
    ll = evidence_for(grammar, n=2)
    for row in range(2):
        evidence, marginals = oracles.contracted(grammar, np.exp(ll[row]))
        np.testing.assert_allclose(log_evidence(grammar, ll)[row], np.log(evidence), atol=1e-10)
        np.testing.assert_allclose(leaf_posterior(grammar, ll)[row], marginals, atol=1e-10)


def test_score_is_the_gradient_of_the_log_density(float64):
    grammar = random_grammar(jax.random.key(1), depth=2, vocab=3, rules=2)
    alpha_bar = 0.7
    levels, log_prior = oracles.derivations(grammar)
    clean = jnp.asarray(np.eye(3)[levels[-1]])
    x_t = corrupt(jax.random.key(2), sample(jax.random.key(3), grammar, 4).leaves, alpha_bar, 3)

    def log_density(x):
        distance = jnp.sum((x[None] - np.sqrt(alpha_bar) * clean) ** 2, (1, 2))
        return jax.nn.logsumexp(jnp.asarray(log_prior) - distance / (2 * (1 - alpha_bar)))

    ours = score(x_t, leaf_posterior(grammar, leaf_log_likelihood(x_t, alpha_bar)), alpha_bar)
    np.testing.assert_allclose(ours, jax.vmap(jax.grad(log_density))(x_t), atol=1e-10)


@settings(deadline=None, max_examples=5)
@given(
    depth=st.integers(1, 3),
    vocab=st.integers(2, 4),
    branching=st.integers(2, 3),
    shared=st.booleans(),
    n=st.sampled_from([1, 3, 130]),
    seed=st.integers(0, 2**20),
    data=st.data(),
)
def test_laws_of_the_posterior(depth, vocab, branching, shared, n, seed, data):
    rules = data.draw(st.integers(1, vocab ** (branching - 1)))
    key = jax.random.key(seed)
    grammar = random_grammar(key, depth=depth, vocab=vocab, rules=rules, branching=branching, shared=shared)
    ll = evidence_for(grammar, n=n, seed=seed)
    exact = np.asarray(leaf_posterior(grammar, ll))
    np.testing.assert_allclose(exact.sum(-1), 1, atol=2e-6)
    np.testing.assert_allclose(window_posterior(grammar, ll, height=depth), exact, atol=5e-6)
    np.testing.assert_allclose(leaf_posterior(grammar, ll, filtered=0), node_posteriors(grammar, ll)[-1], atol=2e-6)
    prior = prior_marginals(grammar)[-1]
    np.testing.assert_allclose(leaf_posterior(grammar, jnp.zeros_like(ll))[0], prior, atol=2e-6)
    np.testing.assert_allclose(window_posterior(grammar, ll, height=-1)[0], prior, atol=2e-6)
    # A constant added to a leaf changes nothing but the evidence.
    shift = jnp.arange(grammar.leaves, dtype=ll.dtype)[None, :, None]
    np.testing.assert_allclose(leaf_posterior(grammar, ll + shift), exact, atol=1e-5)
    np.testing.assert_allclose(
        log_evidence(grammar, ll + shift), log_evidence(grammar, ll) + shift.sum(), rtol=1e-6, atol=1e-5
    )
    # New names for the symbols permute the marginals.
    order = np.random.default_rng(seed).permutation(vocab)
    renamed = Grammar(
        jnp.asarray(np.argsort(order), jnp.int32)[grammar.children[:, order]],
        grammar.log_prob[:, order],
        grammar.log_root[order],
    )
    np.testing.assert_allclose(leaf_posterior(renamed, ll[:, :, order]), exact[:, :, order], atol=5e-6)


# Of level 1; the last cannot be in the grammar of the test below.
LABELS = jnp.array([[2, -1], [1, 0], [0, -1]], jnp.int32)


@pytest.mark.parametrize("zeros", [False, True], ids=["all rules", "rules and roots of probability zero"])
@pytest.mark.parametrize(
    "function",
    [
        *(lambda g, ll, k=k: leaf_posterior(g, ll, filtered=k) for k in range(3)),
        lambda g, ll: log_evidence(g, ll, filtered=1),
        lambda g, ll: window_posterior(g, ll, height=1),
        lambda g, ll: leaf_posterior(g, ll, filtered=2, labels=LABELS),
        *(lambda g, ll, h=h: window_posterior(g, ll, height=h, labels=LABELS) for h in (0, 2)),
    ],
    ids=["BP_0", "BP_1", "BP_2", "evidence", "window", "BP_2 given labels", "leaf given labels", "all given labels"],
)
def test_derivatives_with_respect_to_grammar_and_evidence(function, zeros, float64):
    """In reverse, forward, and by differences: of most pairs of symbols one cannot come from the other."""
    grammar = random_grammar(jax.random.key(3), depth=2, vocab=4, rules=2, shared=False)
    log_prob, log_root = np.array(grammar.log_prob), np.array(grammar.log_root)
    if zeros:
        log_prob[:, 2], log_root[:] = [0, -np.inf], [-np.log(2), -np.inf, -np.log(2), -np.inf]
    variables = jnp.asarray(log_prob), jnp.asarray(log_root), evidence_for(grammar, n=3)
    rng = np.random.default_rng(0)
    weight = rng.standard_normal(function(grammar, variables[2]).shape)
    along = tuple(jnp.where(jnp.isfinite(x), rng.standard_normal(x.shape), 0) for x in variables)

    @jax.jit
    def of(log_prob, log_root, ll):
        return (function(Grammar(grammar.children, log_prob, log_root), ll) * weight).sum()

    gradients = jax.grad(of, (0, 1, 2))(*variables)
    assert all(np.isfinite(x).all() for x in gradients)
    forward = jax.jvp(of, variables, along)[1]
    ends = (of(*(x + step * dx for x, dx in zip(variables, along, strict=True))) for step in (1e-5, -1e-5))
    reverse = sum((x * dx).sum() for x, dx in zip(gradients, along, strict=True))
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)
    np.testing.assert_allclose(next(ends) - next(ends), 2e-5 * reverse, rtol=1e-5, atol=1e-12)


def in_float64(function, grammar, ll, **options):
    with jax.enable_x64(True):
        cast = jax.tree.map(lambda x: x.astype(float) if x.dtype == np.float32 else x, (grammar, ll))
        return np.asarray(function(*cast, **options))


@pytest.mark.parametrize("level", [1, 2, 10, 100, 500])
@pytest.mark.parametrize("depth", [4, pytest.param(5, marks=pytest.mark.slow)])
def test_float32_equals_float64_at_every_noise_level(level, depth):
    grammar = random_grammar(jax.random.key(0), depth=depth)
    alpha_bar = linear_schedule(500).alpha_bar[level - 1]
    drawn = sample(jax.random.key(2), grammar, 200)
    x_t = corrupt(jax.random.key(1), drawn.leaves, alpha_bar, 6)
    ll = leaf_log_likelihood(x_t, alpha_bar)
    for k in (0, 2):
        ours = np.asarray(leaf_posterior(grammar, ll, filtered=k))
        np.testing.assert_allclose(ours, in_float64(leaf_posterior, grammar, ll, filtered=k), atol=2e-5)
    for known in (None, drawn.levels[2].at[:, 0].set(-1)):
        ours = np.asarray(window_posterior(grammar, ll, height=2, labels=known))
        exact = in_float64(window_posterior, grammar, ll, height=2, labels=known)
        np.testing.assert_allclose(ours, exact, atol=2e-5)


@pytest.mark.parametrize("field", [10.0, 1e3, 1e5])
def test_strings_the_grammar_cannot_produce(field):
    """Random strings, held with a strong field against the grammar: finite, normalised, float64's value."""
    grammar = random_grammar(jax.random.key(0), sigma=2.0)
    strings = jax.random.randint(jax.random.key(1), (300, 16), 0, 6)
    jitter = jax.random.normal(jax.random.key(2), (300, 16, 6))
    ll = field * jax.nn.one_hot(strings, 6) + jitter
    assert np.isinf(log_evidence(grammar, jnp.where(jax.nn.one_hot(strings, 6) > 0, 0.0, -jnp.inf))).mean() > 0.99
    for k in (0, 2, 4):
        ours = np.asarray(leaf_posterior(grammar, ll, filtered=k))
        assert np.isfinite(ours).all()
        np.testing.assert_allclose(ours.sum(-1), 1, atol=1e-5)
        exact = in_float64(leaf_posterior, grammar, ll, filtered=k)
        np.testing.assert_allclose(ours, exact, atol=2e-5 + 1e-6 * field)


def test_impossible_evidence_has_no_posterior(float64):
    grammar = random_grammar(jax.random.key(0), depth=2, vocab=3, rules=1)
    possible = sample(jax.random.key(1), grammar, 1).leaves
    produced = {tuple(string) for string in oracles.derivations(grammar)[0][-1]}
    strings = np.array([string for string in np.ndindex(3, 3, 3, 3) if string not in produced])
    clean = jnp.log(jax.nn.one_hot(jnp.asarray(np.concatenate([possible, strings])), 3))
    evidence = np.asarray(log_evidence(grammar, clean))
    assert np.isfinite(evidence[0])
    assert (evidence[1:] == -np.inf).all()
    exact = np.asarray(leaf_posterior(grammar, clean))
    np.testing.assert_array_equal(exact[0], jax.nn.one_hot(possible[0], 3))
    np.testing.assert_array_equal(exact[1:], 0)
    assert all(np.isfinite(level).all() for level in node_posteriors(grammar, clean))


def test_results_do_not_depend_on_the_chunk(monkeypatch):
    grammar = random_grammar(jax.random.key(0), depth=3)
    ll = evidence_for(grammar, n=37)
    whole = leaf_posterior(grammar, ll)
    monkeypatch.setattr(posterior, "chunk", lambda leaves, symbols: 5)
    in_fives = jax.jit(lambda ll: inspect.unwrap(leaf_posterior)(grammar, ll))(ll)
    np.testing.assert_allclose(in_fives, whole, atol=1e-6)


def test_memory_grows_with_leaves_not_faster():
    """Bytes that XLA reserves beside input and output, at depth 5 and depth 10, for the same number of leaves."""
    reserved = []
    for depth, n in ((5, 256), (10, 8)):
        grammar = random_grammar(jax.random.key(0), depth=depth)
        ll = jnp.zeros((n, grammar.leaves, 6))
        analysis = jax.jit(lambda ll, g=grammar: leaf_posterior(g, ll)).lower(ll).compile().memory_analysis()
        assert analysis is not None
        reserved.append(analysis.temp_size_in_bytes)
    assert reserved[1] < 8 * reserved[0]


def test_memory_of_a_large_vocabulary_is_bounded():
    """256 leaves, 32 symbols with 8 rules: what more sequences reserve are copies of their input and output."""
    grammar = random_grammar(jax.random.key(0), depth=8, vocab=32, rules=8)
    reserved = []
    for n in (32, 96):
        ll = jnp.zeros((n, grammar.leaves, grammar.vocab))
        compiled = jax.jit(lambda ll: leaf_posterior(grammar, ll)).lower(ll).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        reserved.append(analysis.temp_size_in_bytes)
    assert reserved[1] - reserved[0] < 3 * 64 * grammar.leaves * grammar.vocab * 4
    assert reserved[0] < 2**24
    np.testing.assert_allclose(compiled(ll).sum(-1), 1, atol=1e-5)


def test_empirical_posterior_equals_its_definition(float64):
    rng = np.random.default_rng(0)
    train = rng.integers(0, 4, (30, 8))
    x_t = rng.standard_normal((7, 8, 4))
    alpha_bar = rng.uniform(0.1, 0.99, 7)
    clean = np.eye(4)[train]
    distance = ((x_t[:, None] - np.sqrt(alpha_bar)[:, None, None, None] * clean) ** 2).sum((2, 3))
    logits = -distance / (2 * (1 - alpha_bar[:, None]))
    weights = np.exp(logits - logits.max(1, keepdims=True))
    expected = np.einsum("np,plv->nlv", weights / weights.sum(1, keepdims=True), clean)
    ours = empirical_posterior(jnp.asarray(train), jnp.asarray(x_t), jnp.asarray(alpha_bar))
    np.testing.assert_allclose(ours, expected, atol=1e-10)


def test_the_memorizer_leaves_out_what_the_evidence_rules_out(float64):
    rng = np.random.default_rng(1)
    train, ll = rng.integers(0, 4, (30, 8)), rng.standard_normal((50, 8, 4))
    ll[rng.random(ll.shape) < 0.25] = -np.inf
    fit = ll[:, np.arange(8), train].sum(-1)
    possible = np.isfinite(fit).any(1)
    assert 0.1 < possible.mean() < 0.99
    weights = np.zeros_like(fit)
    weights[possible] = np.exp(fit[possible]) / np.exp(fit[possible]).sum(1, keepdims=True)
    ours = memorizer(jnp.asarray(train), jnp.asarray(ll))
    np.testing.assert_allclose(ours, np.einsum("np,plv->nlv", weights, np.eye(4)[train]), atol=1e-10)


@pytest.mark.parametrize("process", [Gaussian, *(pytest.param(x, marks=pytest.mark.slow) for x in (Masking, Uniform))])
def test_the_memorizer_given_labels_is_that_of_the_sequences_that_have_them(process, float64):
    rng = np.random.default_rng(0)
    process = process(vocab=3, levels=30)
    train = jnp.asarray(rng.integers(0, 3, (40, 4)), jnp.int32)
    train_labels, labels = (jnp.asarray(rng.integers(0, 3, (n, 2)), jnp.int32) for n in (40, 20))
    labels = jnp.where(rng.random((20, 2)) < 0.3, -1, labels).at[0].set(-1).at[1].set(7)
    ll = process.log_likelihood(process.corrupt(jax.random.key(0), train[:20], 18), 18)
    ours = memorizer(train, ll, train_labels=train_labels, labels=labels)
    for i in range(20):
        agree = np.all((labels[i] == -1)[None] | (train_labels == labels[i][None]), 1)
        expected = memorizer(train[agree], ll[i : i + 1])[0] if agree.any() else np.zeros((4, 3))
        np.testing.assert_allclose(ours[i], expected, atol=1e-10)
    assert not np.asarray(ours[1]).any()


def test_empirical_posterior_of_a_grammar_of_one_string_each_is_exact():
    """With one rule a symbol the data are `v` equally likely strings: the memorizer of them is the exact posterior."""
    grammar = random_grammar(jax.random.key(0), depth=3, vocab=5, rules=1)
    strings = jnp.asarray(oracles.derivations(grammar)[0][-1], jnp.int32)
    x_t = corrupt(jax.random.key(1), strings, 0.05, 5)
    ours = empirical_posterior(strings, x_t, 0.05)
    np.testing.assert_allclose(ours, leaf_posterior(grammar, leaf_log_likelihood(x_t, 0.05)), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda g, ll: leaf_posterior(g, ll, filtered=5), "filtered: got 5, needs an integer from 0 to 2"),
        (lambda g, ll: window_posterior(g, ll, height=-2), "height: got -2, needs an integer from -1 to 2"),
        (
            lambda g, ll: log_evidence(g, ll[:, :3]),
            r"log_likelihood: got \(1, 3, 3\), needs the shape \(n, 4, 3\)",
        ),
        (lambda g, ll: leaf_posterior(g, ll, labels=LABELS), r"labels: got \(3, 2\), needs 1 rows, .* leaves: 1, 2$"),
        (
            lambda g, ll: window_posterior(g, ll, height=1, labels=jnp.array([[3]])),
            "labels: got 'symbols from 3 to 3', needs symbols from -1 to 2",
        ),
        (
            lambda g, ll: log_evidence(g, ll, labels=jnp.zeros((1, 4), jnp.int32)),
            r"labels: got \(1, 4\), needs 1 rows, .* leaves: 1, 2$",
        ),
        (lambda g, ll: log_evidence(g, ll, root=jnp.ones((1, 2)) / 2), r"root: got \(1, 2\), needs the shape \(1, 3\)"),
        (lambda g, ll: log_evidence(g, ll, root=jnp.ones((1, 3))), "root: got .* of sequence 0', needs probabilities"),
        (
            lambda g, ll: memorizer(jnp.zeros((2, 4), jnp.int32), ll, labels=jnp.zeros((1, 1), jnp.int32)),
            r"labels: got \[\(\), \(1, 1\)\], needs those of .*, \(2, k\) and \(1, k\)",
        ),
    ],
)
def test_bad_input_is_refused_with_the_remedy(call, words):
    grammar = random_grammar(jax.random.key(0), depth=2, vocab=3, rules=2)
    with pytest.raises(ValueError, match=words):
        call(grammar, jnp.zeros((1, 4, 3)))


@pytest.mark.parametrize("labelled", [False, True])
def test_a_memorizer_of_many_symbols_looks_its_sequences_up(labelled, monkeypatch):
    """The same, with and without one-hot sequences; evidence that fits none has no answer."""
    rng, (n, leaves, vocab, size) = np.random.default_rng(5), (9, 5, 7, 23)
    train = jnp.asarray(rng.integers(0, vocab, (size, leaves)))
    ll = np.where(rng.random((n, leaves, vocab)) < 0.1, -np.inf, 3 * rng.standard_normal((n, leaves, vocab)))
    ll[0, 2] = -np.inf
    labels = {"train_labels": jnp.arange(size)[:, None] % 3, "labels": jnp.arange(n)[:, None] % 4 - 1}
    given = train, jnp.asarray(ll, jnp.float32)
    found = []
    for most in (2**26, 0):
        monkeypatch.setattr(posterior, "ONE_HOT", most)
        posterior._memorizer.clear_cache()  # pyright: ignore[reportAttributeAccessIssue]
        found.append(np.asarray(posterior.memorizer(*given, **(labels if labelled else {}))))
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    assert (found[0][0] == 0).all()
    np.testing.assert_allclose(found[0][1:].sum(-1), 1, rtol=1e-5)
