"""Two denoisers of anybody's: planted ones, a history with a known minimum, and the example."""

import jax
import numpy as np
import pytest

from experiments import other_models
from hierdiff.compare import two_denoisers
from hierdiff.measures.slope import empirical_mean

RNG = np.random.default_rng(0)
TRAIN = tuple(RNG.standard_normal((2, 40, 3, 2)).astype(np.float32))
HELD_OUT = RNG.standard_normal((100, 3, 2))
KEY = jax.random.key(0)


def memorizer(train):
    return lambda x_t, ab: empirical_mean(train, x_t, ab)


def shifted(by):
    return lambda x_t, ab: np.sqrt(ab) * x_t + by


def test_memorizers_have_slope_one_and_denoisers_that_agree_none():
    same, apart = shifted(0), [memorizer(each) for each in TRAIN]
    for pair, slope in (((same, same), 0), (apart, 1)):
        curves = two_denoisers({1: (pair[0], pair[1])}, TRAIN, HELD_OUT, alpha_bar=(0.3, 0.8), key=KEY).curves
        np.testing.assert_allclose(curves.slope, slope, atol=1e-4)
        assert ((curves.split > 0) == bool(slope)).all()


def test_splits_and_losses_are_plain_means():
    """Of shifts by a constant; the loss of the best linear denoiser of white data is (1 - ab) a number."""
    found = two_denoisers({5: (shifted(0.1), shifted(-0.2))}, TRAIN, HELD_OUT, alpha_bar=(0.6,), key=KEY)
    at = found.curves.sel(step=5, alpha_bar=0.6)
    np.testing.assert_allclose(at.split, 6 * 0.3**2, rtol=1e-5)
    expected = 6 * (0.4 + (0.1**2 + 0.2**2) / 2)
    assert abs(float(at.loss) - expected) < 4 * float(at.loss_error) + 0.2
    assert not found.onset.reached


def test_the_onset_of_a_history_is_found():
    """Denoisers that come together until step 30 and then part, while both come nearer to the truth until step 300."""
    opposite, common = np.array([[1.0, 1.0], [0, 0], [0, 0]]), np.array([[0, 0], [1.0, -1.0], [0, 0]])

    def at(step, sign):
        apart = 0.02 + 0.01 * np.log(step / 30) ** 2
        both = 2 + 0.5 * np.log(step / 300) ** 2 - apart
        return lambda x_t, ab: np.sqrt(ab) * x_t + sign * np.sqrt(apart) * opposite + np.sqrt(both) * common

    steps = [1, 3, 10, 20, 30, 50, 100, 200, 300, 500, 1000, 3000]
    history = {step: (at(step, 1), at(step, -1)) for step in steps}
    found = two_denoisers(history, TRAIN, HELD_OUT, alpha_bar=(0.6, 0.9), key=KEY)
    assert found.onset.step == pytest.approx(30, rel=0.05)
    assert found.best.step == pytest.approx(300, rel=0.1)
    assert found.later.ratio == pytest.approx(10, rel=0.1)
    split = 8 * (0.02 + 0.01 * np.log(np.array(steps) / 30) ** 2)
    np.testing.assert_allclose(found.curves.split.sel(alpha_bar=0.6), split, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"held_out": HELD_OUT[:70]}, "held_out: got 70, needs a multiple of 50"),
        ({"train": (TRAIN[0], TRAIN[1][:, :2])}, r"train_b: got \(40, 2, 2\), needs samples of the shape \(3, 2\)"),
        ({"alpha_bar": (0.5, 1.0)}, r"alpha_bar: got \(0.5, 1.0\), needs distinct numbers between 0 and 1"),
        ({"checkpoints": {}}, r"checkpoints: got \[\], needs at least one step"),
        (
            {"checkpoints": {0: (shifted(0), shifted(0))}},
            r"checkpoints: got \[0\], needs at least one step, counted from",
        ),
        ({"train": (TRAIN[0][:0], TRAIN[1])}, r"train_a: got \(0, 3, 2\), needs samples of the shape"),
        ({"held_out": np.full_like(HELD_OUT, np.inf)}, "held_out: got 'numbers that are not finite'"),
        ({"checkpoints": {1: (shifted(0), lambda x_t, ab: x_t[:, 0])}}, r"denoiser B: got \(100, 2\)"),
        ({"checkpoints": {1: (shifted(np.nan), shifted(0))}}, "denoiser A: got 'numbers that are not finite'"),
    ],
)
def test_what_will_not_do_is_refused(change, words):
    given = {"checkpoints": {1: (shifted(0), shifted(0))}, "train": TRAIN, "held_out": HELD_OUT, "alpha_bar": (0.5,)}
    given |= change
    with pytest.raises(ValueError, match=words):
        two_denoisers(given.pop("checkpoints"), given.pop("train"), given.pop("held_out"), key=KEY, **given)


def test_the_example_compares_models_of_its_own(tmp_path, capsys):
    pictures = RNG.integers(0, 256, (200, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "some.npz", pictures)
    sizes = ["--size", "50", "--held-out", "100", "--features", "40", "--copies", "2"]
    other_models.main([*sizes, "--data-dir", str(tmp_path / "some.npz")])
    assert "The two agree best at step" in capsys.readouterr().out
