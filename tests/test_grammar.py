"""Grammars: unambiguous, reproducible, checked."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import hierdiff
from hierdiff.errors import OptionError
from hierdiff.grammar import (
    Grammar,
    grammar_from_rules,
    grammar_from_tensor,
    load_grammar,
    random_grammar,
    save_grammar,
)
from hierdiff.posterior import check_data, leaf_posterior, log_evidence, prior_marginals
from hierdiff.sampling import sample


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


def test_the_spread_may_differ_by_level():
    """Each level has its own; where all have one, the grammar is that of the one number."""
    sizes: dict[str, Any] = {"depth": 3, "vocab": 20, "rules": 10, "shared": False}
    one, none, mixed = (random_grammar(jax.random.key(1), sigma=x, **sizes) for x in (1.0, 0.0, (0.0, 1.0, 2.0)))
    np.testing.assert_array_equal(mixed.children, one.children)
    np.testing.assert_array_equal(mixed.log_prob[0], none.log_prob[0])
    np.testing.assert_array_equal(mixed.log_prob[1], one.log_prob[1])
    assert 1.5 < float(mixed.log_prob[2].std(-1).mean() / one.log_prob[2].std(-1).mean()) < 2.5
    alike = random_grammar(jax.random.key(1), sigma=[1.0, 1.0, 1.0], **sizes)
    np.testing.assert_array_equal(alike.log_prob, one.log_prob)


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


@pytest.mark.parametrize("depth", [4, 16])
@pytest.mark.parametrize("each", [False, True], ids=["one table", "one for each level"])
def test_rounded_tables_are_normalised(depth, each):
    """Three rules of 0.3333 each: 65,535 rows that are short by 1e-4 would make evidence of nothing -6.6."""
    table = np.zeros((3, 3, 3))
    table.reshape(3, 9)[:, :3] = 0.3333
    table[0].ravel()[:3] = [0.333, 0.333, 0.333]
    grammar = grammar_from_tensor(np.stack(depth * [table]) if each else table, depth)
    nothing = jnp.zeros((1, grammar.leaves, 3))
    np.testing.assert_allclose(log_evidence(grammar, nothing), 0, atol=2e-2)
    np.testing.assert_allclose(leaf_posterior(grammar, nothing)[0], prior_marginals(grammar)[-1], atol=2e-5)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([3, 1, 0, 0], "numbers from 0 to 3 that sum to 4, of symbol 1 at level 0"),
        ([0.5, 0.25, 0, 0.2], "that sum to 0.95, of symbol 1 at level 0"),
        ([0, 0, 0, 0], "that sum to 0, of symbol 1"),
        ([50, 50, 0, 0], "that sum to 100, of symbol 1"),
        ([1.5, -0.5, 0, 0], "numbers from -0.5 to 1.5 that sum to 1, of symbol 1"),
        ([np.nan, 1, 0, 0], "that sum to nan, of symbol 1"),
        ([np.inf, 1, 0, 0], "that sum to inf, of symbol 1"),
    ],
)
def test_rows_that_are_no_probabilities_are_named(row, words):
    table = np.array([[0, 0.5, 0.5, 0], row]).reshape(2, 2, 2)
    with pytest.raises(ValueError, match=f"tensor: got .*{words}.*counts become probabilities"):
        grammar_from_tensor(table, 3)


ONE_LEVEL = Grammar(
    jnp.array([[[[0, 1], [1, 1]], [[0, 0], [1, 0]]]]), jnp.log(jnp.full((1, 2, 2), 0.5)), jnp.log(jnp.full(2, 0.5))
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"children": ONE_LEVEL.children + 1}, r"children: got '\[1, 2\] for rule 0 of symbol 0 at level 0', needs"),
        ({"children": ONE_LEVEL.children - 1}, r"children: got '\[-1, 0\] for rule 0 .*symbols from 0 to 1"),
        ({"log_prob": jnp.log(jnp.full((1, 2, 2), 7.0))}, "log_prob: got .* sum to 14, of symbol 0 at level 0"),
        ({"log_prob": jnp.full((1, 2, 2), 1e3)}, "log_prob: got .* sum to inf, of symbol 0 at level 0"),
        ({"log_prob": jnp.full((1, 2, 2), 0.5)}, "log_prob: got .* sum to 3.29744, of symbol 0 at level 0"),
        ({"vocab": 1}, r"children: got '\[0, 1\] for rule 0 .* needs symbols from 0 to 0"),
        ({"log_root": jnp.zeros(2)}, "log_root: got 'probabilities that sum to 2', needs a sum of 1"),
    ],
)
def test_grammars_that_are_none_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(ONE_LEVEL, **change)


def test_what_pads_a_row_may_be_anything():
    children, log_prob = np.array(ONE_LEVEL.children), np.log([[[0.5, 0.5], [1, 1]]])
    children[0, 1, 1], log_prob[0, 1, 1] = -1, -np.inf
    grammar = dataclasses.replace(ONE_LEVEL, children=jnp.asarray(children), log_prob=jnp.asarray(log_prob, float))
    assert sample(jax.random.key(0), grammar, 100).leaves.min() == 0
    known = jnp.log(jax.nn.one_hot(jnp.array([[0, 0], [1, 0]]), 2))
    np.testing.assert_allclose(log_evidence(grammar, known), [np.log(0.5), -np.inf], atol=1e-6)


def test_gradients_and_stacks_of_grammars_are_not_taken_for_grammars():
    gradient = jax.grad(lambda g: log_evidence(g, jnp.zeros((1, 2, 2))).sum(), allow_int=True)(ONE_LEVEL)
    # Of the log-evidence: how often each rule is used.
    np.testing.assert_allclose(gradient.log_prob, 0.25)
    both = jax.tree.map(lambda *x: jnp.stack(x), ONE_LEVEL, ONE_LEVEL)
    assert jax.vmap(lambda g: log_evidence(g, jnp.zeros((1, 2, 2))))(both).shape == (2, 1)


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
        ({"sigma": (1.0, 0.0)}, r"sigma: got \(1.0, 0.0\), needs one number, or one for each of 4 levels"),
        ({"sigma": (1.0, 0.0, 0.0, -1.0)}, "needs a number from 0 to 1,000,000, or one for each level"),
        ({"sigma": (1.0, 0.0, 0.0, 0.0)}, "needs one number where one rule set serves every level"),
    ],
)
def test_impossible_sizes_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        random_grammar(jax.random.key(0), **change)


@pytest.mark.parametrize("bad", [np.ones((3, 3, 3)), np.ones((2, 3, 3)) / 9, np.full((2, 2), 0.5), -np.eye(2)])
def test_tables_that_are_no_grammar_are_refused(bad):
    with pytest.raises(ValueError, match=r"tensor: got .* needs"):
        grammar_from_tensor(bad, 4)


def rows_in_double():
    with jax.enable_x64(True):
        return random_grammar(jax.random.key(3), depth=2, vocab=3, rules=2)


def ragged():
    """Three classes, five symbols below them, four at the leaves."""
    return grammar_from_rules([[[[0, 1]], [[2, 3]], [[4, 0]]], [[[0, 1]], [[1, 2]], [[2, 3]], [[3, 0]], [[0, 0]]]])


@pytest.mark.parametrize("made", [lambda: random_grammar(jax.random.key(3), shared=False), rows_in_double, ragged])
def test_a_grammar_comes_back_from_its_file_to_the_bit(made, tmp_path):
    """In its precision, and as the same bytes whenever it is written."""
    grammar, paths = made(), [tmp_path / "grammar.of mine", tmp_path / "again.npz"]
    for path in paths:
        save_grammar(path, grammar)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with jax.enable_x64(True):
        found = load_grammar(str(paths[0]))
    assert found.vocab == grammar.vocab
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(grammar), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("what", ["text", "nothing", "half", "array", "others", "objects", "rows"])
def test_what_is_no_grammar_is_refused_in_one_sentence(what, tmp_path):
    path, grammar = tmp_path / "file.npz", random_grammar(jax.random.key(3), depth=2)
    save_grammar(path, grammar)
    content = path.read_bytes()
    arrays: Any = dict(np.load(path))
    with path.open("wb") as file:
        match what:
            case "text" | "nothing" | "half":
                file.write({"text": b"a grammar", "nothing": b"", "half": content[: len(content) // 2]}[what])
            case "array":
                np.save(file, arrays["children"])
            case "others":
                np.savez(file, children=arrays["children"])
            case "objects":
                np.savez(file, **arrays | {"log_root": np.array([{}], object)})
            case "rows":
                np.savez(file, **arrays | {"log_prob": arrays["log_prob"] + 1})
    with pytest.raises(OptionError, match=r"path: got '.*file.npz', needs a grammar, as save_grammar writes it$"):
        load_grammar(path)
    with pytest.raises(FileNotFoundError):
        load_grammar(tmp_path / "none.npz")


def test_a_symbol_that_cannot_occur_needs_no_rule_and_one_that_can_does():
    """Symbol 2 is no root; of level 1 it is one only if symbol 1 may become (2, 0)."""
    children = np.array(2 * [[[[0, 1], [1, 1]], [[0, 0], [2, 0]], [[0, 0], [0, 0]]]])
    log_prob = np.log([[[0.5, 0.5], [1, 1e-300], [1, 1]], [[0.5, 0.5], [1, 1], [1, 1]]])
    log_prob[0, 1, 1] = log_prob[1, 1, 1] = log_prob[:, 2] = -np.inf
    root = np.log([0.5, 0.5, 1e-300])
    root[2] = -np.inf
    grammar = Grammar(jnp.asarray(children), jnp.asarray(log_prob, float), jnp.asarray(root, float))
    assert sample(jax.random.key(0), grammar, 100).leaves.max() == 1
    with pytest.raises(ValueError, match=r"log_prob: got .* sum to 0, of symbol 2 at level 0.*can occur"):
        dataclasses.replace(grammar, log_root=jnp.log(jnp.full(3, 1 / 3)))
    log_prob[0, 1] = np.log(0.5)
    with pytest.raises(ValueError, match=r"log_prob: got .* sum to 0, of symbol 2 at level 1.*can occur"):
        dataclasses.replace(grammar, log_prob=jnp.asarray(log_prob, float))


def test_tables_have_a_root_law_and_empty_rows():
    table = np.zeros((3, 3, 3))
    table[0, 0, 1], table[1, 1, 1] = 1, 1
    grammar = grammar_from_tensor(table, 3, root=[0.25, 0.75, 0])
    np.testing.assert_allclose(np.exp(grammar.log_root), [0.25, 0.75, 0], rtol=1e-6)
    np.testing.assert_array_equal(np.stack(oracles.dense_tables(grammar)), 3 * [table])
    with pytest.raises(ValueError, match=r"tensor: got .* sum to 0, of symbol 2 at level 0"):
        grammar_from_tensor(table, 3)
    for bad in ([0.5, 0.5], [1, 1, 0], [1.5, -0.5, 0]):
        with pytest.raises(ValueError, match=r"root: got .* needs 3 probabilities, that sum to 1"):
            grammar_from_tensor(table, 3, root=bad)


# Three classes, four symbols at level 1, two at the leaves; the last class has one rule.
TABLES = [[[[0, 3], [3, 0]], [[1, 2], [2, 1]], [[3, 3]]], [[[0, 1]], [[1, 0]], [[1, 1]], [[0, 0], [1, 1]]]]


@pytest.mark.parametrize(
    "form", [list, lambda levels: dict(enumerate(levels)), lambda x: dict(zip("ab", x, strict=True))]
)
def test_rules_of_ragged_levels(form):
    weights = [[[1, 3], [2, 2], [5]], [[1], [1], [7], [1, 3]]]
    grammar = grammar_from_rules(form(TABLES), form(weights), [1, 0, 1])
    assert (grammar.symbols, grammar.vocab, grammar.leaves) == ((4, 4, 2), 2, 4)
    top, low = oracles.dense_tables(grammar)
    np.testing.assert_allclose([top[0, 0, 3], top[0, 3, 0], top[1, 1, 2], top[2, 3, 3]], [0.25, 0.75, 0.5, 1])
    np.testing.assert_allclose([low[0, 0, 1], low[1, 1, 0], low[3, 0, 0], low[3, 1, 1]], [1, 1, 0.25, 0.75])
    np.testing.assert_allclose(top.sum((1, 2)), [1, 1, 1, 0])
    np.testing.assert_allclose(np.exp(grammar.log_root), [0.5, 0, 0.5, 0])


def test_rows_numbered_by_the_symbols_that_occur():
    """Without symbols 1 and 2 at level 1, and with rows in another order."""
    whole = grammar_from_rules([[[[0, 3], [3, 0]]], [TABLES[1][a] for a in (0, 1, 2, 3)]])
    some = grammar_from_rules(
        [np.array([[[0, 3], [3, 0]]]), [TABLES[1][3], TABLES[1][0]]], symbols=[None, np.array([3, 0])]
    )
    assert np.isneginf(some.log_prob[1, 1:3]).all()
    ll = jnp.asarray(np.random.default_rng(0).standard_normal((5, 4, 2)), float)
    np.testing.assert_allclose(leaf_posterior(some, ll), leaf_posterior(whole, ll), atol=1e-6)


def test_rules_of_weight_zero_are_none():
    """Their children may be anything; a padded table is that of its rules."""
    padded = np.array([[[0, 3], [3, 0]], [[1, 2], [2, 1]], [[3, 3], [-1, 9]]])
    grammar = grammar_from_rules([padded, TABLES[1]], [[[1, 1], [1, 1], [1, 0]], [[1], [1], [1], [1, 1]]])
    for ours, theirs in zip(*map(oracles.dense_tables, (grammar, grammar_from_rules(TABLES))), strict=True):
        np.testing.assert_array_equal(ours, theirs)


LEVEL = np.zeros((2, 1, 2), int)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: grammar_from_rules([]), "children: got 'no level'"),
        (lambda: grammar_from_rules(LEVEL), r"children: got 'the shape \(2,\) of symbol 0 at level 0'.*\(m, s\)"),
        (lambda: grammar_from_rules([LEVEL, LEVEL[..., :1]]), "'\\[0\\] of symbol 0 at level 1', needs 2 children"),
        (lambda: grammar_from_rules([[[(0, 1), (0,)]]]), "children: got .* needs as many children in each rule"),
        (lambda: grammar_from_rules([LEVEL * 0.5]), "children: got 'float64 of symbol 0 at level 0', needs integers"),
        (
            lambda: grammar_from_rules([LEVEL + 2, LEVEL]),
            r"'\[2, 2\] of symbol 0 at level 0', needs symbols of the 2 of",
        ),
        (lambda: grammar_from_rules([LEVEL, LEVEL - 1]), r"'\[-1, -1\] of symbol 0 at level 1', needs symbols"),
        (lambda: grammar_from_rules([LEVEL, LEVEL], vocab=0), "vocab: got 0"),
        (lambda: grammar_from_rules([LEVEL], [[[1], [-1]]]), r"weights: got '\[-1.0\] of symbol 1 at level 0'"),
        (lambda: grammar_from_rules([LEVEL], [[[1], [1, 2]]]), "weights: got .* of symbol 1 at level 0', needs 1 num"),
        (lambda: grammar_from_rules([LEVEL], [[[1]]]), "weights: got '1 rows at level 0', needs 2, as children"),
        (lambda: grammar_from_rules([LEVEL], [[[1], [1]]] * 2), "weights: got '2 levels', needs 1, as children"),
        (lambda: grammar_from_rules([LEVEL], [[[1], [0]]]), "children: got 'no rule of symbol 1 at level 0'"),
        (lambda: grammar_from_rules([LEVEL, [[], [[0, 0]]]]), "children: got 'no rule of symbol 0 at level 1'"),
        (lambda: grammar_from_rules([[[], []]]), "children: got 'a level without rules'"),
        (lambda: grammar_from_rules([LEVEL], root=[0, 0]), "root: got 'weights that sum to 0'"),
        (lambda: grammar_from_rules([LEVEL], root=[1, 1, 1]), "root: got .* needs 2 numbers of at least 0"),
        (lambda: grammar_from_rules([LEVEL], symbols=[[1, 1]]), "symbols: got .* needs distinct integers .* 2 rows"),
    ],
)
def test_rules_that_are_no_grammar_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_tensors_of_torch_will_do():
    torch = pytest.importorskip("torch")
    ours = grammar_from_rules([torch.tensor([[[0, 1]], [[1, 1]]])], torch.tensor([[[2.0], [1.0]]]))
    np.testing.assert_array_equal(ours.children, grammar_from_rules([[[(0, 1)], [(1, 1)]]]).children)


def test_the_examples_of_the_guide_run():
    """Two public forms of rules: a table for each level, and a dictionary of them, by the symbols that occur."""
    page = (Path(__file__).parents[1] / "docs" / "guide" / "world.md").read_text()
    section = page.partition("## A grammar of your own")[2].partition("\n## ")[0]
    names = {"hd": hierdiff}
    exec("\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL)), names)
    assert names["mine"].symbols == (3, 3, 4)
    np.testing.assert_allclose(np.exp(names["mine"].log_root), [0.25, 0.75, 0], rtol=1e-6)
    assert names["theirs"].symbols == (3, 3, 3)


def test_what_the_grammar_cannot_produce_is_named_with_its_lowest_block(monkeypatch):
    grammar = grammar_from_rules([[[[0, 1], [2, 3]]], [[[0, 0]], [[1, 1]], [[0, 1]], [[0, 0]]]])
    tokens = np.array(30 * [[0, 0, 1, 1], [0, 1, 0, 0]])
    assert check_data(grammar, tokens) is None
    # Both blocks of two are produced somewhere, but not side by side.
    tokens[41] = [0, 1, 1, 1]
    with pytest.raises(ValueError, match=r"sequence 41 with .0, 1, 1, 1. at leaves 0 to 3, block 0 of height 2"):
        check_data(grammar, tokens)
    # The second block comes from no symbol that can stand there.
    tokens[17] = [0, 1, 1, 0]
    for size in (2**22, 60):
        monkeypatch.setattr("hierdiff.posterior.CHECKED", size)
        with pytest.raises(ValueError, match=r"sequence 17 with .1, 0. at leaves 2 to 3, block 1 of height 1") as error:
            check_data(grammar, tokens)
        assert "order" not in str(error.value)
    with pytest.raises(ValueError, match=r"tokens: got \(60, 3\), needs the shape \(n, 4\)"):
        check_data(grammar, tokens[:, :3])
    with pytest.raises(ValueError, match="tokens: got 'symbols from 1 to 2', needs symbols from 0 to 1"):
        check_data(grammar, tokens + 1)


def test_levels_in_the_wrong_order_are_recognised():
    levels = [[[[0, 0]], [[1, 1]]], [[[0, 1]], [[1, 0]]]]
    tokens = sample(jax.random.key(0), grammar_from_rules(levels), 20).leaves
    with pytest.raises(ValueError, match=r"tokens: .*with its levels in the other order it can produce these"):
        check_data(grammar_from_rules(levels[::-1]), tokens)
