"""What functions are given: nothing at all, and symbols or noise levels that are none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierdiff.grammar import random_grammar
from hierdiff.keys import keys_of
from hierdiff.measures import (
    blocks,
    divergence,
    losses,
    membership,
    nearest_images,
    neighbours,
    probe,
    scales,
    slope,
    spectrum,
    times,
)
from hierdiff.noising import Gaussian, Masking, Uniform, corrupt, leaf_log_likelihood, respaced, reverse, score, u_turn
from hierdiff.noising.process import corrupt_each, cross_entropy, require_range, stratified_times
from hierdiff.posterior import (
    block_root_posterior,
    empirical_posterior,
    exact_denoiser,
    leaf_posterior,
    log_evidence,
    memorizer,
    memorizer_of_numbers,
    node_posteriors,
    window_posterior,
)
from hierdiff.sampling import coincidences, complete, posterior_sample, sample, sample_unseen

GRAMMAR = random_grammar(jax.random.key(0), depth=2, vocab=3, rules=2)
KEY, TRAIN = jax.random.key(0), jnp.zeros((5, 4), jnp.int32)
PROCESSES = [Gaussian(vocab=3), Masking(vocab=3), Uniform(vocab=3)]

# Of no sequences: their symbols, their levels, what is known of their leaves, images.
TOKENS, T, LEAVES, IMAGES = (
    jnp.zeros((0, 4), jnp.int32),
    jnp.zeros(0, jnp.int32),
    jnp.zeros((0, 4, 3)),
    jnp.zeros((0, 4, 4, 1)),
)
LEAVES_OF_TWO = jnp.zeros((2, 0, 4, 3))
NOTHING = {
    "evidence": (lambda: log_evidence(GRAMMAR, LEAVES), (0,)),
    "filtered": (lambda: leaf_posterior(GRAMMAR, LEAVES, filtered=1), (0, 4, 3)),
    "nodes": (lambda: node_posteriors(GRAMMAR, LEAVES)[1], (0, 2, 3)),
    "window": (lambda: window_posterior(GRAMMAR, LEAVES, height=1), (0, 4, 3)),
    "prior": (lambda: window_posterior(GRAMMAR, LEAVES, height=-1), (0, 4, 3)),
    "block roots": (lambda: block_root_posterior(GRAMMAR, LEAVES, height=1), (0, 2, 3)),
    "given labels": (lambda: window_posterior(GRAMMAR, LEAVES, height=1, labels=TOKENS[:, :2]), (0, 4, 3)),
    "posterior sample": (lambda: posterior_sample(KEY, GRAMMAR, LEAVES, TOKENS[:, :1]).leaves, (0, 4)),
    "memorizer": (lambda: memorizer(TRAIN, LEAVES), (0, 4, 3)),
    "empirical": (lambda: empirical_posterior(TRAIN, LEAVES, 0.5), (0, 4, 3)),
    "numbers": (lambda: memorizer_of_numbers(Gaussian(), jnp.zeros((5, 2, 2)), jnp.zeros((0, 2, 2)), T), (0, 2, 2)),
    "sample": (lambda: sample(KEY, GRAMMAR, 0).leaves, (0, 4)),
    "unseen": (lambda: sample_unseen(KEY, GRAMMAR, 0, TRAIN[None], name="n"), (0, 4)),
    "coincidences": (lambda: coincidences(TOKENS, TRAIN[None]), ()),
    "corrupt": (lambda: corrupt(KEY, TOKENS, 0.5, 3), (0, 4, 3)),
    "likelihood": (lambda: leaf_log_likelihood(LEAVES, 0.5), (0, 4, 3)),
    "score": (lambda: score(LEAVES, LEAVES, 0.5), (0, 4, 3)),
    "density": (lambda: Gaussian().log_density(IMAGES, jnp.zeros((5, 4, 4, 1)), T), (0, 5)),
    "cross-entropy": (lambda: cross_entropy(TOKENS, LEAVES), (0,)),
    "times": (lambda: stratified_times(KEY, 0, 10), (0,)),
    "any times": (lambda: times.any_times(KEY, 0, 10), (0,)),
    "times of the bound": (lambda: times.times_of_bound(KEY, 0, 10)[0], (0,)),
    "copies": (lambda: blocks.copies(GRAMMAR, TOKENS, TRAIN), (3, 0)),
    "copies of nothing": (lambda: blocks.copies(GRAMMAR, TRAIN, TOKENS), (3, 5)),
    "validity": (lambda: blocks.validity(GRAMMAR, TOKENS), (3, 0)),
    "divergence": (lambda: divergence.divergence(LEAVES, LEAVES), (0,)),
    "split": (lambda: divergence.sample_split(LEAVES, LEAVES), (0,)),
    "decomposition": (lambda: losses.decomposition(TOKENS, LEAVES, LEAVES)[0], (0,)),
    "standardised": (lambda: nearest_images.standardised(IMAGES), (0, 4, 4, 1)),
    "two nearest": (lambda: nearest_images.two_nearest(IMAGES, jnp.zeros((5, 4, 4, 1)))[0], (0, 2)),
    "neighbours": (lambda: neighbours.nearest_distances(TOKENS, TRAIN, vocab=3), (0,)),
    "scales": (lambda: scales.scale_products(IMAGES, IMAGES), (0, 3)),
    "slope": (lambda: slope.slope_products(LEAVES, LEAVES)[0], (0,)),
    "learned": (lambda: spectrum.learned_products(LEAVES_OF_TWO, LEAVES_OF_TWO), (2, 2, 0)),
}


@pytest.mark.parametrize("name", NOTHING)
def test_of_no_sequences_there_is_nothing(name):
    function, shape = NOTHING[name]
    assert np.shape(function()) == shape


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_no_sequences_are_noised_completed_and_reversed(process):
    denoiser, levels, keys = exact_denoiser(GRAMMAR, process), respaced(10, 3), keys_of(KEY, T)
    x_t = process.corrupt(KEY, TOKENS, T)
    assert x_t.shape == process.start(keys, 4).shape == corrupt_each(process, keys, TOKENS, T).shape
    assert process.log_likelihood(x_t, T).shape == denoiser(x_t, T).shape == (0, 4, 3)
    assert process.step(keys, x_t, T, T, LEAVES).shape == x_t.shape
    assert process.bound(TOKENS, x_t, T, LEAVES).shape == process.step_divergence(x_t, T, LEAVES, LEAVES).shape == (0,)
    assert complete(KEY, GRAMMAR, process, x_t, T, height=1, position=T).shape == x_t.shape
    assert reverse(KEY, denoiser, process, x_t, levels).shape == (0, 4)
    assert u_turn(KEY, denoiser, process, TOKENS, levels).shape == (0, 4)
    piece = probe.make_pieces(keys_of(KEY, range(2)), GRAMMAR, process, TOKENS, jnp.zeros((2, 0), int), filtered=(0,))
    assert piece.exact.shape == (2, 1, 0, 4, 3)
    reference = probe.make_reference(KEY, GRAMMAR, process, probe.at(piece, 0), [TRAIN])
    assert reference.windows.shape == (4, 0, 4, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: memorizer(TOKENS, jnp.zeros((5, 4, 3))), r"train: got \(0, 4\), needs at least one sequence"),
        (lambda: memorizer_of_numbers(Gaussian(), IMAGES, IMAGES, T), "train: got .* needs at least one sample"),
        (lambda: neighbours.nearest_distances(TRAIN, TOKENS, vocab=3), r"b: got \(0, 4\), needs at least one sequence"),
        (lambda: nearest_images.two_nearest(IMAGES, IMAGES), "train: got .* needs at least two images"),
        (lambda: spectrum.ends(LEAVES_OF_TWO, groups=2), "groups: got 2, needs at most half of 0"),
        (lambda: membership.area_under_curve(np.zeros(0), np.zeros(9), groups=3), "members: got 0, needs at least 1"),
        (lambda: membership.area_under_curve(np.zeros(9), np.zeros(0), groups=3), "others: got 0, needs at least 3"),
        (
            lambda: membership.highest_others(np.zeros(0), np.zeros(9), 3, groups=3),
            "members: got 0, needs at least 1",
        ),
    ],
)
def test_what_nothing_can_be_said_of_without_samples_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


FROM_ONE = jnp.asarray([[1, 2, 3, 1]] * 5, jnp.int32)
BELOW_ZERO = FROM_ONE - 2
SEEN = jnp.zeros((5, 4, 3))
SYMBOLS = {
    "corrupt": lambda x: corrupt(KEY, x, 0.5, 3),
    "cross-entropy": lambda x: cross_entropy(x, SEEN),
    "decomposition": lambda x: losses.decomposition(x, SEEN, SEEN),
    "memorizer": lambda x: memorizer(x, SEEN),
    "empirical": lambda x: empirical_posterior(x, SEEN, 0.5),
    "copies": lambda x: blocks.copies(GRAMMAR, TRAIN, x),
    "neighbours": lambda x: neighbours.nearest_distances(TRAIN, x, vocab=3),
    "uniform likelihood": lambda x: Uniform(vocab=3).log_likelihood(x, 5),
    **{f"{p.name} noise": lambda x, p=p: p.corrupt(KEY, x, 5) for p in PROCESSES},
    **{f"{p.name} bound": lambda x, p=p: p.bound(x, p.corrupt(KEY, TRAIN, 5), 5, SEEN) for p in PROCESSES},
    **{f"{p.name} u-turn": lambda x, p=p: u_turn(KEY, lambda *_: SEEN, p, x, respaced(9, 3)) for p in PROCESSES},
    "pieces": lambda x: probe.make_pieces(
        KEY[None], GRAMMAR, PROCESSES[0], x, jnp.ones((1, 5), jnp.int32), filtered=(0,)
    ),
}
# What reverse diffusion made may hold the number after the last symbol: a mask, or what could not be drawn.
STATES = {
    "validity": lambda x: blocks.validity(GRAMMAR, x),
    "copies": lambda x: blocks.copies(GRAMMAR, x, TRAIN),
    "neighbours": lambda x: neighbours.nearest_distances(x, TRAIN, vocab=3),
    "masking likelihood": lambda x: Masking(vocab=3).log_likelihood(x, 5),
    "masking encoded": lambda x: Masking(vocab=3).encode(x),
}


@pytest.mark.parametrize("name", SYMBOLS)
@pytest.mark.parametrize("given", [FROM_ONE, BELOW_ZERO], ids=["from one", "below zero"])
def test_symbols_that_are_none_are_refused(name, given):
    """Data numbered from 1 would be noised to nothing where they are the last symbol, and one of -1 be the last."""
    words = rf"(tokens|train|b|x_t): got 'symbols from {given.min()} to {given.max()}', needs symbols from 0 to 2"
    with pytest.raises(ValueError, match=words):
        SYMBOLS[name](given)


@pytest.mark.parametrize("name", STATES)
def test_states_that_are_none_are_refused(name):
    STATES[name](FROM_ONE)
    for given in (FROM_ONE + 1, BELOW_ZERO):
        with pytest.raises(ValueError, match="needs symbols from 0 to 3"):
            STATES[name](given)


def test_symbols_are_integers():
    with pytest.raises(ValueError, match="tokens: got 'numbers of the type float32', needs integers, symbols"):
        require_range("tokens", np.zeros((5, 4), np.float32), 2)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
@pytest.mark.parametrize("t", [-1, 501, jnp.asarray([1, 2, 3, 4, 501])], ids=["below", "above", "one of them"])
def test_noise_levels_that_are_none_are_refused(process, t):
    words = r"t: got (-1|501|'noise levels from 1 to 501'), needs noise levels from 0 to 500"
    with pytest.raises(ValueError, match=words):
        process.corrupt(KEY, TRAIN, t)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_within_a_compiled_function_symbols_are_taken_as_they_are(process):
    """Nothing is known of them there; the numbers are those of the checked function."""
    compiled = jax.jit(process.corrupt)(KEY, TRAIN, jnp.full(5, 7))
    np.testing.assert_array_equal(compiled, process.corrupt(KEY, TRAIN, 7))


def test_x_t_and_log_likelihoods_are_not_taken_for_each_other():
    """Where the content tells: one-hot rows, infinite numbers, another last axis."""
    one_hot = jax.nn.one_hot(sample(KEY, GRAMMAR, 3).leaves, GRAMMAR.vocab)
    for of in (leaf_posterior, log_evidence):
        with pytest.raises(ValueError, match=r"log_likelihood: got 'one-hot rows', needs log-likelihoods, as process"):
            of(GRAMMAR, one_hot)
        of(GRAMMAR, jnp.log(one_hot))
    process = Gaussian(vocab=GRAMMAR.vocab, levels=50)
    with pytest.raises(ValueError, match=r"x_t: got 'numbers that are not finite, as log-likelihoods may be'"):
        process.log_likelihood(jnp.log(one_hot), 3)
    with pytest.raises(ValueError, match=r"x_t: got \(\d+, \d+, \d+\), needs noised one-hot sequences"):
        process.log_likelihood(jnp.zeros((2, 4, GRAMMAR.vocab + 1)), 3)
