"""The benchmark's yardsticks compute what they are said to."""

import jax
import numpy as np
import pytest

from experiments.benchmark import main
from hierdiff.posterior import leaf_posterior
from hierdiff.questions import benchmark


def test_the_yardstick_is_belief_propagation():
    grammar, ll = benchmark.evidence(depth=3, n=20)
    table = np.zeros((grammar.vocab,) * 3)
    for a in range(grammar.vocab):
        for (b, c), log_prob in zip(grammar.children[0, a], grammar.log_prob[0, a], strict=True):
            table[a, b, c] = np.exp(log_prob)
    plain = benchmark.numpy_belief_propagation(table, np.asarray(ll), 3)
    np.testing.assert_allclose(plain, leaf_posterior(grammar, ll), atol=1e-5)


def test_the_floor_does_as_many_exponentials_as_belief_propagation():
    """24 rules at each of 15 inner nodes; the floor rounds to a multiple of the 96 numbers of a sequence."""
    grammar, ll = benchmark.evidence(depth=4, n=800)
    number = benchmark.exponentials(grammar)
    assert number == 24 * 15
    floor = jax.make_jaxpr(lambda x: benchmark.exponentials_alone(x, number))(ll)
    assert str(floor).count(" exp ") == 4
    scales = 0.1 + 0.01 * np.arange(4)
    expected = np.exp(np.multiply.outer(scales, np.asarray(ll[:3]))).sum(0)
    np.testing.assert_allclose(benchmark.exponentials_alone(ll, number)[:3], expected, rtol=1e-4)


def test_a_file_that_cannot_be_written_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--json", str(tmp_path)])
    assert "needs a file, not a folder" in capsys.readouterr().err
