"""The audit: its bound lies below the truth as often as it says, and above nothing where there is something."""

import numpy as np
import pytest
from runs import OPTIONS, ask
from scipy.stats import binom, norm

from hierdiff.errors import OptionError
from hierdiff.measures.audit import audit, lower_bound, p_value
from hierdiff.questions.configs import AuditConfig
from hierdiff.runs import record
from hierdiff.worlds.run_config import OnsetConfig


def test_the_p_value_is_that_of_the_papers_program():
    """As algorithm 2 of arXiv 2305.08846 has it, in a loop."""
    for m, r, v, epsilon, delta in ((100, 60, 50, 1.0, 1e-3), (40, 40, 31, 0.3, 1e-5), (50, 10, 0, 0.0, 0.1)):
        q, alpha, total = 1 / (1 + np.exp(-epsilon)), 0.0, 0.0
        for i in range(1, v + 1):
            total += binom.pmf(v - i, r, q)
            alpha = max(alpha, total / i)
        expected = min(1, binom.sf(v - 1, r, q) + alpha * 2 * m * delta)
        assert p_value(m, r, v, epsilon, delta) == pytest.approx(expected, rel=1e-9)


def test_the_bound_is_where_the_p_value_is_what_may_go_wrong():
    found = lower_bound(100, 60, 55, 1e-5, 0.95)
    assert p_value(100, 60, 55, found, 1e-5) == pytest.approx(0.05)
    assert lower_bound(100, 60, 30, 1e-5, 0.95) == 0
    # All guesses right: chance**60 is 0.05.
    assert lower_bound(100, 60, 60, 0.0, 0.95) == pytest.approx(-np.log(0.05 ** (-1 / 60) - 1))
    assert lower_bound(100, 60, 60, 1e-3, 0.95) < lower_bound(100, 60, 60, 0.0, 0.95)


def responses(rng, coins, epsilon):
    """Randomized response: the coin, or with the probability that epsilon allows the other side."""
    told = np.where(rng.random(len(coins)) < 1 / (1 + np.exp(-epsilon)), coins, ~coins)
    return told + 0.1 * rng.random(len(coins))


@pytest.mark.parametrize(
    ("score", "epsilon", "delta"),
    [
        (lambda rng, coins: responses(rng, coins, 1.0), 1.0, 0.0),
        (lambda rng, coins: rng.random(len(coins)), 0.0, 0.0),
        # The Gaussian mechanism, at the delta that this epsilon has.
        (lambda rng, coins: coins + rng.standard_normal(len(coins)), 4.0, norm.cdf(-3.5) - np.exp(4) * norm.cdf(-4.5)),
    ],
    ids=["response", "nothing", "gaussian"],
)
def test_the_bound_lies_above_the_truth_no_more_often_than_it_may(score, epsilon, delta):
    rng, m, repeats = np.random.default_rng(0), 500, 400
    found = []
    for _ in range(repeats):
        coins = rng.random(m) < 0.5
        found.append(audit(score(rng, coins), coins, delta=delta).epsilon)
    assert (np.array(found) > epsilon).sum() <= binom.ppf(0.999, repeats, 0.05)
    # It is not below by being nothing.
    assert np.median(found) >= 0.3 * min(epsilon, 2)


def test_many_answers_that_show_the_coin_by_chance_are_found():
    """A mechanism that tells one coin in twenty, and of the others nothing: few guesses bound it, all do not."""
    rng, m = np.random.default_rng(1), 1000
    coins = rng.random(m) < 0.5
    score = np.where(rng.random(m) < 0.05, 2.0 * coins - 0.5, rng.random(m))
    few, all_of_them = (audit(score, coins, delta=0.0, shares=(share,)).epsilon for share in (0.04, 1.0))
    assert few > 1.5 > 0.5 > all_of_them
    assert audit(score, coins, delta=0.0).epsilon > 1.5


@pytest.mark.slow
def test_a_run_by_dp_sgd_says_its_epsilon_and_is_audited(tmp_path, capsys):
    """Its lower bound lies below the upper one; the canaries are drawn and included again as the run had them."""
    pytest.importorskip("jax_privacy")
    tiny = [*OPTIONS, "--steps", "20", "--width", "8", "--size", "60", "--canaries", "40", "--batch", "30"]
    ask("private", [*tiny, "--epsilon", "4", "--members", "60", "--out", str(tmp_path)])
    said = record.read_json(tmp_path / "summary.json")
    assert said["privacy"]["epsilon"][-1] == pytest.approx(4, rel=5e-3)
    assert said["privacy"]["epsilon"] == sorted(said["privacy"]["epsilon"])
    assert said["privacy"]["sampling"] == 0.3
    assert said["table"][-1].startswith("DP-SGD: gradients of single samples are clipped at 1 in Poisson batches")
    ask("audit", ["--run", str(tmp_path), "--draws", "2"])
    assert "epsilon, at least" in capsys.readouterr().out
    curves, results = (record.read_results(tmp_path / f"audit.{name}.nc") for name in ("curves", "results"))
    np.testing.assert_allclose(curves.upper, [x for x in said["privacy"]["epsilon"] if x][-len(curves.step) :], rtol=1)
    assert (curves.lower <= curves.upper).all()
    assert results.included.shape == (2, 40)
    assert 20 < results.included.sum() < 60


@pytest.mark.parametrize(
    ("changes", "name"), [({}, "canaries"), ({"canaries": 50, "seeds_per_set": 2}, "seeds_per_set")]
)
def test_of_a_run_that_is_no_audit_none_is_made(changes, name):
    AuditConfig().require_run(OnsetConfig(canaries=50))
    with pytest.raises(OptionError, match=f"^{name}: "):
        AuditConfig().require_run(OnsetConfig(**changes))
