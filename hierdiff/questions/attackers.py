"""What attackers have: a network, networks on other data as references, or the exact denoiser; scores of all targets.

An attack is a statistic of one network, as minus its loss, beside a baseline: none, that of references, the exact one.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from hierdiff.grammar import Grammar
from hierdiff.keys import key_for, keys_of
from hierdiff.learning.denoiser import network_log_posterior
from hierdiff.measures.attacks import (
    likelihood_ratio,
    losses_when_masked,
    own_against_other,
    small_noise,
    subset_votes,
    there_and_back,
)
from hierdiff.measures.divergence import log_of
from hierdiff.measures.times import any_times
from hierdiff.noising.discrete import Masking
from hierdiff.noising.gaussian import Gaussian
from hierdiff.noising.levels import noise_level
from hierdiff.noising.process import cross_entropy
from hierdiff.posterior import leaf_posterior, node_posteriors
from hierdiff.questions.configs import MembershipConfig
from hierdiff.sampling import sample_unseen, seen
from hierdiff.worlds.finished import Run

ONE_NETWORK, REFERENCES, EXACT = "one network", "reference networks", "the exact denoiser"
# Where SimA and SecMI look, as a share of T: where SecMI's authors do, and SimA at a second one. SecMI goes there in
# five steps, half as many as theirs.
LEVELS, STEPS = {"SimA": 0.1, "SimA-0.3": 0.3, "SecMI": 0.1}, 5
# The shares of leaves that SAMA masks, one after another (arXiv 2601.20125).
MASKED = np.linspace(0.05, 0.5, 18)[1:-1]
LOSS, CONDITIONAL, SAMA = "loss", "conditional", "SAMA"


def needed(attack: str) -> str:
    """What an attacker has who can do this."""
    if attack in ("calibrated", CONDITIONAL) or attack.endswith("-exact"):
        return EXACT
    return REFERENCES if attack == SAMA or "reference" in attack or "LiRA" in attack else ONE_NETWORK


@dataclasses.dataclass(frozen=True, kw_only=True)
class Targets:
    """The sequences on which networks are attacked, in rows of n, and who is asked of which.

    A row is of each data set, and the last `new` are of sequences that no network has seen, of which the first `others`
    count. Network i is asked of the rows `asked[i]`: its own set, those of the sets before, for which it is a
    reference, and the new ones. Its k-th reference is network `reference[i, k]`, which is asked of the set of network i
    in its place `place[i, k]`: members and others have the same references. Members that stand in another set too,
    where a reference may have seen them, are not `fair`.
    """

    tokens: Int[Array, "rows n L"]
    new: int
    others: int
    asked: Int[np.ndarray, "S _"]
    reference: Int[np.ndarray, "S references"]
    place: Int[np.ndarray, "S references"]
    fair: Bool[np.ndarray, "S n"]

    @classmethod
    def draw(cls, run: Run, key: Array, config: MembershipConfig) -> "Targets":
        """Consumes `key`."""
        world, n, sets = run.world, config.targets, len(run.world.train)
        others = config.others or n
        new = -(-others // n)
        unseen = sample_unseen(key, world.grammar, new * n, world.train, name="others")
        behind = min(config.references, sets - 1)
        of_sets = (world.set_of[:, None] - np.arange(behind + 1)) % sets
        ahead = [
            [(j, place) for place in range(1, behind + 1) for j in np.flatnonzero(of_sets[:, place] == own)]
            for own in world.set_of
        ]
        reference, place = np.moveaxis(np.array(ahead, int).reshape(len(of_sets), -1, 2), -1, 0)
        train = np.asarray(world.train)
        return cls(
            tokens=jnp.concatenate([world.train[:, :n], unseen.reshape(new, n, -1)]),
            new=new,
            others=others,
            asked=np.concatenate([of_sets, np.tile(sets + np.arange(new), (len(of_sets), 1))], 1),
            reference=reference,
            place=place,
            fair=np.stack([~seen(train[own, :n], np.delete(train, own, 0)) for own in world.set_of]),
        )

    def own(self, x: np.ndarray) -> np.ndarray:
        """Of what networks gave for their rows, `(S, rows, n, ...)`, that on members, and on others after these."""
        return np.concatenate([x[:, 0], self._of_others(x)], 1)

    def of_references(self, x: np.ndarray) -> np.ndarray:
        """What the references of each network gave for the same sequences, `(references, S, ...)`."""
        both = [x[self.reference, self.place], self._of_others(x)[self.reference]]
        return np.moveaxis(np.concatenate(both, 2), 1, 0)

    def _of_others(self, x: np.ndarray) -> np.ndarray:
        return x[:, -self.new :].reshape(len(x), -1, *x.shape[3:])[:, : self.others]


def make_score(run: Run, key: Array, config: MembershipConfig, targets: Targets) -> Callable[[Any], dict]:
    """Of weights the score of each attack, `(S, members and others)`. Consumes `key`.

    The loss is attacked with every baseline, calibrated by the exact one, and with some numbers of references; what is
    published beside it with none, all references, and the exact one.
    """
    world, grammar, process = run.world, run.world.grammar, run.world.process
    tokens, rows = targets.tokens, jnp.arange(len(targets.tokens))
    # Each row meets its own noise.
    keys = jax.vmap(lambda key: keys_of(key, range(config.draws)))(keys_of(key_for(key, "noise"), rows))
    inputs = {"tokens": tokens, "keys": keys}
    if run.config.labels.labels == "level":
        inputs["labels"] = symbols(grammar, tokens, run.config.labels.label_level)
    counts = tuple(sorted({max(1, round(share * grammar.leaves)) for share in MASKED}))
    gaussian = process if config.published and isinstance(process, Gaussian) else None
    masking = process if config.published and isinstance(process, Masking) else None
    if masking:
        inputs["order"] = jax.random.uniform(key_for(key, "order"), tokens.shape).argsort(-1)

    def statistics(answer: Callable, rows: Array, inputs: dict[str, Array]) -> dict[str, Array]:
        """Of some rows, the statistics of what gives log p(x_0 | x_t, labels)."""

        def of_row(row: Array) -> dict[str, Array]:
            own = jax.tree.map(lambda x: x[row], inputs)
            tokens, labels = own["tokens"], own.get("labels")

            def draw(key: Array) -> dict[str, Array]:
                t = any_times(key_for(key, "levels"), config.targets, process.levels)
                x_t = process.corrupt(key_for(key, "noise"), tokens, t)
                told = {LOSS: None} if labels is None else {LOSS: None, CONDITIONAL: labels}
                return {name: -cross_entropy(tokens, answer(x_t, t, labels)) for name, labels in told.items()}

            found = {name: x.mean(0) for name, x in jax.lax.map(draw, own["keys"]).items()}
            if gaussian:
                found |= on_clean(lambda x_t, t: jnp.exp(answer(x_t, t, None)), gaussian, tokens)
            if masking:
                found[SAMA] = losses_when_masked(
                    lambda x_t, t: answer(x_t, t, None), masking, tokens, own["order"], counts
                )
            return found

        return jax.lax.map(of_row, rows)

    def exact(x_t: Array, t: Array, labels: Array | None) -> Array:
        return log_of(leaf_posterior(grammar, process.log_likelihood(x_t, t), labels=labels))

    log_posterior = network_log_posterior(world.network, process)
    of_networks = run.of_networks(
        lambda params, *asked: statistics(lambda x_t, t, labels: log_posterior(params, x_t, t, labels=labels), *asked),
        stacked=2,
    )
    of_exact = jax.jit(functools.partial(statistics, exact))(rows, inputs)
    baseline = {name: targets.own(np.asarray(x)[targets.asked]) for name, x in of_exact.items()}
    most = targets.reference.shape[1]
    numbers = [number for number in sorted({1, 2, 4, 8, 16, 32, most}) if 0 < number <= most]

    def score(params: Any) -> dict[str, np.ndarray]:
        of_all = of_networks(params, targets.asked, inputs)
        own, references = (
            {name: part(x) for name, x in of_all.items()} for part in (targets.own, targets.of_references)
        )
        loss, others = own[LOSS], references[LOSS]
        found = {"calibrated": loss - baseline[LOSS], "uncalibrated": loss}
        if CONDITIONAL in own:
            found[CONDITIONAL] = own[CONDITIONAL] - baseline[CONDITIONAL]
        found |= {f"reference-{number}": own_against_other(loss, others[:number]) for number in numbers}
        found |= {f"LiRA-{number}": likelihood_ratio(loss, others[:number]) for number in numbers if number > 1}
        for name in (name for name in LEVELS if name in own):
            found[name] = own[name]
            if most:
                found[f"{name}-reference-{most}"] = own_against_other(own[name], references[name])
            found[f"{name}-exact"] = own[name] - baseline[name]
        if masking:
            rivals = ({SAMA: references[SAMA][0]} if most else {}) | {f"{SAMA}-exact": baseline[SAMA]}
            for name, rival in rivals.items():
                found[name] = np.stack([subset_votes(*each, counts) for each in zip(own[SAMA], rival, strict=True)])
        return found

    return score


def on_clean(denoiser: Callable, process: Gaussian, tokens: Int[Array, "n L"]) -> dict[str, Array]:
    """SimA and SecMI, which look at clean sequences."""
    x_0 = jax.nn.one_hot(tokens, process.channels)
    levels = {name: noise_level(share, process.levels) for name, share in LEVELS.items()}
    found = {name: small_noise(denoiser, process, x_0, t) for name, t in levels.items() if name != "SecMI"}
    steps = np.rint(levels["SecMI"] * np.arange(STEPS + 2) / STEPS).astype(int)
    return found | {"SecMI": there_and_back(denoiser, process, x_0, np.unique(np.maximum(steps, 1)))}


def symbols(grammar: Grammar, tokens: Int[Array, "rows n L"], level: int) -> Int[Array, "rows n nodes"]:
    """Those of a level in the derivations of sequences, each of which has one."""

    def of_row(tokens: Array) -> Array:
        clean = jnp.log(jax.nn.one_hot(tokens, grammar.vocab))
        return node_posteriors(grammar, clean)[level].argmax(-1)

    return jax.lax.map(of_row, tokens)
