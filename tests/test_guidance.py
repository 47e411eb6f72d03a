"""Guidance: its formulas, the guided error at every weight from three products, and networks that are exact."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_labels import Planted, config_of

from hierdiff.keys import key_for
from hierdiff.measures import spectrum
from hierdiff.measures.probe import at
from hierdiff.noising import Gaussian, Guidance, GuidedMean, Masking, guided
from hierdiff.posterior import leaf_posterior
from hierdiff.questions import guidance
from hierdiff.questions.configs import GuidanceConfig
from hierdiff.sampling import sample
from hierdiff.statistics.groups import GROUPS, in_groups
from hierdiff.worlds.finished import Run
from hierdiff.worlds.sequences import Sequences

WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)
CONFIG = GuidanceConfig(sequences=100, levels=(0.1, 0.3), weights=WEIGHTS, samples=100, reverse_steps=4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-0.9, 5))
def test_guided_means_are_affine_and_guided_probabilities_log_linear(seed, w):
    """Of the branch with labels alone at weight 0, and zero where that is zero."""
    f_c, f_u = np.random.default_rng(seed).dirichlet(np.ones(3), (2, 5, 2)).astype(np.float32)
    f_c[0, 0], f_c[0, 1], f_c[1, 0] = [0, 0.25, 0.75], [0.5, 0.5, 0], 0
    f_u[0, 1] = [0.5, 0.5, 0]
    mean = Gaussian(vocab=3).guide(jnp.asarray(f_c), jnp.asarray(f_u), w)
    assert isinstance(mean, GuidedMean)
    np.testing.assert_allclose(mean.mean, (1 + w) * f_c - w * f_u, atol=1e-5)
    found = Masking(vocab=3).guide(jnp.asarray(f_c), jnp.asarray(f_u), w)
    c, u = f_c.astype(float), f_u.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.where(c > 0, c ** (1 + w) * u**-w, 0)
        expected = np.nan_to_num(expected / expected.sum(-1, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    no_array: Any = mean
    with pytest.raises(TypeError):
        jnp.log(no_array)


def test_the_weight_may_be_switched_on_in_a_part_of_the_way():
    schedule = Guidance(weight=-0.5, low=0.25, high=0.5, elsewhere=2.0)
    np.testing.assert_array_equal(schedule.at(jnp.array([1, 24, 25, 50, 51, 100]), 100), [2, 2, -0.5, -0.5, 2, 2])
    process = Gaussian(vocab=3, levels=100)
    f_c, f_u = jnp.full((2, 1, 3), 0.2), jnp.full((2, 1, 3), 0.1)
    found = guided(process, lambda x_t, t: f_c, lambda x_t, t: f_u, schedule)(f_c, jnp.array([30, 60]))
    np.testing.assert_allclose(found.mean[:, 0, 0], [0.2 - 0.5 * 0.1, 0.2 + 2 * 0.1], rtol=1e-5)
    with pytest.raises(ValueError, match=r"low: got 0.5, needs a share t/T from 0 to below 0.5"):
        Guidance(weight=1.0, low=0.5, high=0.5)


def run_of(process):
    config = config_of(process, labels="level", label_level=0, label_drop=0.2)
    world = Planted(**vars(Sequences.set_up(config)))
    return Run(Path(), config, world, [1])


@functools.cache
def asked(process, off):
    """A question to planted networks: exact but for a share, of one more than of the other, of what is uniform."""
    run, shares = run_of(process), off * jnp.array([1.0, 2.0])
    return run.world, shares, guidance.work(run, CONFIG).measure(shares)


@pytest.mark.slow
@pytest.mark.parametrize("process", ["gaussian", "masking"])
def test_the_error_at_every_weight_is_that_of_the_guided_networks(process):
    """Measured directly on the same sequences, at five weights, to rounding."""
    world, shares, found = asked(process, 0.2)
    key = key_for(world.key, "guidance")
    fresh = sample(key_for(key, "new sequences"), world.grammar, 100)
    probed = dataclasses.replace(
        world, held_out=fresh.leaves, held_out_labels=fresh.levels[0], key=key_for(key, "probe")
    )
    piece, reference = (at(x, 0) for x in probed.probe(CONFIG.levels))
    _, coefficients = guidance.mixtures(world.process, WEIGHTS)

    def guided_error(x_t, w):
        ll = world.process.log_likelihood(x_t, piece.t)
        both = leaf_posterior(world.grammar, ll, labels=piece.labels), leaf_posterior(world.grammar, ll)

        def of(share):
            f = world.process.guide(*((1 - share) * each + share / 3 for each in both), w)
            return f.mean if isinstance(f, GuidedMean) else f

        return jnp.stack([of(float(share)) - of(0.0) for share in shares])

    for number, w in enumerate(WEIGHTS):
        here, parts = guided_error(piece.x_t, w), reference.completions
        none, whole = spectrum.ends(here, groups=GROUPS)
        blocks = [
            spectrum.on_blocks(here, guided_error(x_t, w), weight)
            for x_t, weight in zip(parts.x_t, parts.weight, strict=True)
        ]
        direct = in_groups(np.asarray(spectrum.by_height(none, jnp.stack(blocks), whole)))
        quadratic = np.einsum("p,hpabg->habg", coefficients[number], found["products"][0])
        # Of products of two different errors, the mean over both orders counts.
        quadratic = 0.5 * (quadratic + quadratic.swapaxes(1, 2))
        np.testing.assert_allclose(quadratic, direct, atol=2e-5 * max(1, abs(direct).max()), err_msg=f"w = {w}")
        assert abs(direct).max() > 0.01


@pytest.mark.slow
def test_networks_that_are_exact_are_guided_as_the_exact_model_is():
    """No error at any weight, and samples that are the exact model's own."""
    run, (_, _, found) = run_of("gaussian"), asked("gaussian", 0.0)
    np.testing.assert_allclose(found["products"], 0, atol=1e-5)
    results = guidance.work(run, CONFIG).label([found])
    for name in ("validity", "agreement", "diversity"):
        np.testing.assert_allclose(results[name][0], results[f"exact_{name}"], atol=1e-6, err_msg=name)
    statistics = guidance.means(run, results).derive(guidance.derive)
    np.testing.assert_allclose(statistics.mean.total_error, 0, atol=1e-4)
    assert len(guidance.table(statistics.curves())) == 5 + len(WEIGHTS) + results.sizes["way"]
    answer = guidance.summarise(statistics)
    assert [row["weight"] for row in answer.numbers["weights"]] == list(WEIGHTS)
    # With weight, the exact model agrees with the label as much, or more.
    agrees = results.exact_agreement.mean(("network", "group"))
    assert float(agrees.sel(way="w = 4")) >= float(agrees.sel(way="w = 0")) - 0.05


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({}, "labels: got 'none', needs a run with --labels level"),
        ({"labels": "random"}, "labels: got 'random', needs a run with --labels level"),
        ({"labels": "level"}, "label_drop: got 0.0, needs a run that was shown sequences without labels too"),
    ],
)
def test_runs_without_both_branches_are_refused(labels, words):
    with pytest.raises(ValueError, match=words):
        CONFIG.require_run(config_of(**labels))
    with pytest.raises(ValueError, match="needs 0 as the first"):
        GuidanceConfig(weights=(1.0, 2.0))
