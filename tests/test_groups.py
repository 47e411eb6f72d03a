"""Groups of samples, of one size or of two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hierdiff.measures import spectrum
from hierdiff.measures.times import any_times, times_of_bound
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
@example(105)
@example(200)
def test_the_plain_mean_over_groups_is_that_over_samples(n):
    """And groups alone differ where their samples do."""
    x = np.random.default_rng(n).standard_normal((3, n))
    found = in_groups(x)
    assert found.shape == (3, GROUPS)
    np.testing.assert_allclose(found.mean(-1), x.mean(-1), atol=1e-12)
    if n % 7 == 0:
        # Each number of samples is compiled anew.
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
    blocks = jnp.asarray(rng.standard_normal((3, 2, 2, n)), jnp.float32)
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


@pytest.mark.parametrize(("n", "groups"), [(800, 50), (137, 50), (60, 1), (40, 1), (120, 3)])
def test_the_noise_levels_of_each_group_are_stratified(n, groups):
    """One in each m-th of the range of the m samples of a group; of many levels, so that rounding tells them apart."""
    t, levels = np.asarray(any_times(jax.random.key(n), n, 10_000, groups)), 10_000
    assert t.min() >= 1
    assert t.max() <= levels
    starts = np.cumsum(group_sizes(n, groups))[:-1]
    shifts = []
    for each in np.split(t, starts):
        strata = (each - 1) * len(each) / levels
        np.testing.assert_array_equal(np.sort(np.floor(strata + 1e-3 * len(each))), np.arange(len(each)))
        shifts.append(strata[0] % 1)
    # Groups are shifted independently, and in random order.
    assert groups < 50 or 0.2 < np.std(shifts) < 0.4
    assert abs(np.corrcoef(t[:-1], t[1:])[0, 1]) < 4 / np.sqrt(n)


@pytest.mark.parametrize("n", [800, 830, 120])
def test_the_standard_error_of_a_mean_over_levels_is_the_true_one(n):
    """Of a function of t alone, over many draws of the levels: what groups show of it is what it has."""
    draws = 2000
    t = jax.lax.map(lambda key: any_times(key, n, 500), jax.random.split(jax.random.key(n), draws))
    x = in_groups(np.square(np.asarray(t) / 500))
    claimed, spread = x.std(1, ddof=1) / np.sqrt(GROUPS), x.mean(1).std(ddof=1)
    # Two thousand draws tell a standard deviation to 1.6%.
    assert np.sqrt(np.mean(np.square(claimed))) == pytest.approx(spread, rel=0.08)
    assert x.mean() == pytest.approx(np.square(np.arange(1, 501) / 500).mean(), abs=4 * spread / np.sqrt(draws))
    # Levels drawn at random would leave it far larger.
    assert spread < 0.35 * np.sqrt(4 / 45 / n) * (2.5 if n == 120 else 1)


def test_the_levels_of_the_bound_are_stratified_in_each_group():
    """1/p(t) at them: its mean over the samples of a group is nearly T, whatever the group."""
    _, weight = times_of_bound(jax.random.key(0), 2000, 500)
    by_group = in_groups(np.asarray(weight, np.float64))
    random = np.asarray(weight).std() / np.sqrt(2000 / GROUPS)
    assert by_group.std() < 0.5 * random
    assert by_group.mean() == pytest.approx(500, rel=0.01)
