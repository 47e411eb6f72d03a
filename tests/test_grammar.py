"""Grammars: unambiguous, reproducible, checked."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from hierdiff.grammar import grammar_from_tensor, random_grammar


@pytest.mark.parametrize("sizes", [{"vocab": 6, "rules": 4}, {"vocab": 3, "rules": 9, "branching": 3}])
@pytest.mark.parametrize("shared", [True, False])
def test_no_tuple_has_two_parents_and_weights_are_probabilities(sizes, shared):
    grammar = random_grammar(jax.random.key(0), depth=3, shared=shared, **sizes)
    for level in np.asarray(grammar.children):
        tuples = level.reshape(-1, grammar.branching)
        assert len(np.unique(tuples, axis=0)) == len(tuples) == sizes["vocab"] * sizes["rules"]
    np.testing.assert_allclose(np.exp(grammar.log_prob).sum(-1), 1, atol=1e-6)
    same = all((level == grammar.children[0]).all() for level in grammar.children)
    assert same == shared


def test_the_random_hierarchy_model_is_one_call():
    grammar = random_grammar(jax.random.key(1), depth=3, vocab=5, rules=3, shared=False, sigma=0.0)
    np.testing.assert_allclose(grammar.log_prob, -np.log(3), atol=1e-6)


def test_weights_are_lognormal_with_the_given_sigma():
    grammar = random_grammar(jax.random.key(1), depth=1, vocab=200, rules=100, sigma=0.5)
    spread = np.asarray(grammar.log_prob).std(axis=-1).mean()
    assert abs(spread - 0.5) < 0.01


def test_a_key_names_one_grammar():
    first, again, other = (random_grammar(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.log_prob, again.log_prob)
    assert not np.array_equal(first.children, other.children)


@pytest.mark.parametrize("branching", [2, 3])
def test_dense_tables_make_the_same_grammar(branching):
    """Per level and one for all; at depth == vocab too, where all axes have the same length."""
    for shared in (True, False):
        grammar = random_grammar(jax.random.key(2), depth=3, vocab=3, rules=2, branching=branching, shared=shared)
        tables = np.stack(oracles.dense_tables(grammar))
        rebuilt = grammar_from_tensor(tables[0] if shared else tables, 3)
        np.testing.assert_allclose(np.stack(oracles.dense_tables(rebuilt)), tables, atol=1e-6)


def test_rows_with_fewer_rules_are_padded():
    table = np.zeros((2, 2, 2))
    table[0, 0, 1] = 1
    table[1] = [[0.5, 0], [0.2, 0.3]]
    grammar = grammar_from_tensor(jnp.asarray(table), 2)
    assert grammar.log_prob.shape == (2, 2, 3)
    assert np.isneginf(grammar.log_prob).sum() == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depth": 0}, "depth: got 0, needs an integer from 1 to 20"),
        ({"vocab": 1}, "vocab: got 1, needs an integer from 2 to 65,536"),
        ({"branching": 1}, "branching: got 1, needs an integer from 2 to 1,024"),
        ({"rules": 7}, "rules: got 7, needs an integer from 1 to 6"),
        ({"rules": 0}, "rules: got 0, needs an integer from 1 to 6"),
        ({"sigma": -1.0}, "sigma: got -1.0, needs a number from 0 to 1,000,000"),
        ({"sigma": float("nan")}, "sigma: got nan"),
    ],
)
def test_impossible_sizes_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        random_grammar(jax.random.key(0), **change)


@pytest.mark.parametrize("bad", [np.ones((3, 3, 3)), np.ones((2, 3, 3)) / 9, np.full((2, 2), 0.5), -np.eye(2)])
def test_tables_that_are_no_grammar_are_refused(bad):
    with pytest.raises(ValueError, match=r"tensor: got .* needs"):
        grammar_from_tensor(bad, 4)
