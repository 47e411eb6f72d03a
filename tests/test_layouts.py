"""Sequences as others keep them, told by shape and content, or refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierdiff.layouts import as_tokens


def one_hot(tokens, vocab, symbols):
    rows = np.eye(vocab)[tokens]
    return rows if symbols == "last" else rows.swapaxes(1, 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(2, 5), st.sampled_from(["last", "first"]), st.integers(0, 99))
def test_all_layouts_are_the_same_sequences_or_must_be_named(n, leaves, vocab, symbols, seed):
    """As many leaves as symbols included: then one axis alone has single ones, or both have, and it must be said."""
    tokens = np.random.default_rng(seed).integers(0, vocab, (n, leaves))
    np.testing.assert_array_equal(as_tokens(tokens, vocab), tokens)
    given = one_hot(tokens, vocab, symbols).astype([np.int64, np.float32, bool][seed % 3])
    np.testing.assert_array_equal(as_tokens(given, vocab, symbols=symbols), tokens)
    permutations = leaves == vocab and all(len(set(row)) == vocab for row in tokens.tolist())
    if permutations:
        with pytest.raises(ValueError, match="one-hot along both axes', needs as_tokens"):
            as_tokens(given, vocab)
    else:
        np.testing.assert_array_equal(as_tokens(given, vocab), tokens)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.array([[0, 1, 3]]), "data: got 'symbols from 0 to 3', needs symbols from 0 to 2"),
        (np.zeros((0, 4), int), r"data: got \(0, 4\), needs at least one sequence"),
        (np.array([[0.0, 1.0]]), r"data: got 'float64 \(1, 2\)', needs integers \(n, L\), or one-hot rows"),
        (np.full((2, 4, 3), 1 / 3), "data: got 'numbers from 0.3333 to 0.3333', needs symbols: one-hot rows"),
        (np.zeros((2, 4, 3)), r"data: got '\(2, 4, 3\)', needs a single 1 in each row of 3 symbols"),
        (np.ones((2, 4, 3)), r"data: got '\(2, 4, 3\)', needs a single 1 in each row of 3 symbols"),
        (np.full((2, 4, 3), np.nan), "needs symbols: one-hot rows"),
        (np.eye(4)[None], r"data: got 'float64 \(1, 4, 4\)', needs integers"),
        (np.array(["a"]), "data: got '<U1"),
    ],
)
def test_what_are_no_symbols_is_refused(data, words):
    with pytest.raises(ValueError, match=words):
        as_tokens(data, 3)


def test_the_axis_that_is_named_must_fit():
    with pytest.raises(ValueError, match=r"with symbols='first'\", needs a single 1 in each row of that axis"):
        as_tokens(np.eye(3)[[[0, 0, 1]]], 3, symbols="first")
