"""Groups of samples, of one size or of two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierdiff.measures import spectrum
from hierdiff.statistics.groups import GROUPS, group_sizes, in_groups, require_groups


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 400), st.integers(1, 60))
def test_sizes_differ_by_one_and_the_larger_come_first(n, groups):
    sizes = group_sizes(n, groups)
    assert sizes.sum() == n
    assert sizes.max() - sizes.min() <= 1
    assert (np.diff(sizes) <= 0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(50, 400))
def test_the_plain_mean_over_groups_is_that_over_samples(n):
    """And groups alone differ where their samples do."""
    x = np.random.default_rng(n).standard_normal((3, n))
    found = in_groups(x)
    assert found.shape == (3, GROUPS)
    np.testing.assert_allclose(found.mean(-1), x.mean(-1), atol=1e-12)
    np.testing.assert_allclose(in_groups(jnp.asarray(x, jnp.float32)), found, atol=1e-5)
    np.testing.assert_allclose(jax.jit(in_groups)(jnp.asarray(x, jnp.float32)), found, atol=1e-5)
    if n % GROUPS == 0:
        np.testing.assert_array_equal(found, x.reshape(3, GROUPS, -1).mean(-1))
    of_first = np.zeros(n)
    of_first[: group_sizes(n)[0]] = 1
    assert in_groups(of_first)[0] > 0.9
    np.testing.assert_allclose(in_groups(of_first)[1:], 0, atol=0.04)


@pytest.mark.parametrize("n", [53, 90, 149, 200])
def test_a_bootstrap_of_unequal_groups_is_that_of_the_mean_over_the_samples_drawn(n):
    """Of a value that differs much between groups: a ratio of sums, replicate by replicate, in NumPy."""
    rng = np.random.default_rng(n)
    sizes = group_sizes(n)
    # The larger groups have the larger values.
    x = np.repeat(rng.standard_normal(GROUPS) + (sizes > sizes.min()), sizes) + 0.3 * rng.standard_normal(n)
    weight = rng.multinomial(GROUPS, np.full(GROUPS, 1 / GROUPS), 20_000)
    sums = np.add.reduceat(x, np.concatenate([[0], np.cumsum(sizes)[:-1]]))
    ratio = (weight @ sums) / (weight @ sizes)
    found = weight @ in_groups(x) / GROUPS
    assert np.corrcoef(found, ratio)[0, 1] > 0.99
    # The same draws: what is left is of second order.
    assert found.var() / ratio.var() == pytest.approx(1, abs=0.03)
    assert found.mean() == pytest.approx(x.mean(), abs=4 * found.std() / np.sqrt(20_000))


@pytest.mark.parametrize("n", [100, 101, 135, 149])
def test_the_spectrum_of_any_number_of_sequences_sums_to_the_error(n):
    """To the total of all of them; given nothing, each group's estimate is a mean over its pairs of sequences."""
    rng = np.random.default_rng(n)
    error = rng.standard_normal((2, n, 3, 4)).astype(np.float32)
    blocks = jnp.asarray(rng.standard_normal((3, 2, 2, GROUPS)), jnp.float32)
    none, whole = spectrum.ends(jnp.asarray(error), groups=GROUPS)
    total = np.asarray(spectrum.by_height(none, blocks, whole)).sum(0).mean(-1)
    np.testing.assert_allclose(total, np.einsum("anlv,bnlv->ab", error, error) / n, rtol=1e-4)
    sizes = group_sizes(n)
    starts = np.cumsum(sizes) - sizes
    of_pairs = []
    for start, size in zip(starts, sizes, strict=True):
        e = error[:, start : start + size].reshape(2, size, -1)
        sums = e.sum(1)
        of_pairs.append((sums @ sums.T - np.einsum("anx,bnx->ab", e, e)) / (size * (size - 1)))
    expected = np.tensordot(sizes / n, np.array(of_pairs), 1)
    np.testing.assert_allclose(np.asarray(none).mean(-1), expected, rtol=1e-3, atol=1e-4)


def test_a_group_has_at_least_one_sample_or_two():
    require_groups("targets", 53)
    require_groups("held_out", 101, each=2)
    with pytest.raises(ValueError, match="targets: got 49, needs at least 50"):
        require_groups("targets", 49)
    with pytest.raises(ValueError, match="held_out: got 99, needs at least 100"):
        require_groups("held_out", 99, each=2)
    with pytest.raises(ValueError, match="groups: got 50, needs at most half of 99"):
        spectrum.ends(jnp.zeros((1, 99, 2, 3)), groups=GROUPS)
