"""How many training steps a second do the Transformers take, here and as their twins in torch?

python -m experiments.benchmark_torch

A step is the forward pass, the cross-entropy, the backward pass and Adam, of one network on the same batch, on all
usable cores; the two take turns, and the best of several rounds counts. It needs torch, which hierdiff does not.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch  # pyright: ignore[reportMissingImports]
from jax.sharding import NamedSharding, PartitionSpec

from hierdiff.learning.devices import ensemble_mesh, set_up_devices
from hierdiff.learning.layers import TIME_CHANNELS, time_embedding
from hierdiff.learning.network import TransformerConfig
from hierdiff.questions.benchmark import seconds_in_turn

VOCAB, DEPTH, LEVELS, LEARNING_RATE = 6, 4, 500, 1e-3
SMALL = TransformerConfig(width=48)
PAPERS = TransformerConfig(width=512, expansion=2, layers=8, heads=4, dropout=0.1)


class Twin(torch.nn.Module):
    """The Transformer of arXiv 2603.03469 of torch's own layers."""

    def __init__(self, config: TransformerConfig, vocab: int, leaves: int):
        super().__init__()
        self.embed = torch.nn.Linear(vocab, config.width)
        self.time = torch.nn.Linear(TIME_CHANNELS, config.width)
        self.position = torch.nn.Parameter(0.02 * torch.randn(1, leaves, config.width))
        sizes = (config.width, config.heads, config.expansion * config.width, config.dropout)
        layers = [
            torch.nn.TransformerEncoderLayer(*sizes, layer_norm_eps=1e-6, batch_first=True)
            for _ in range(config.layers)
        ]
        self.layers = torch.nn.ModuleList(layers)
        self.readout = torch.nn.Linear(config.width, vocab)

    def forward(self, x, time):
        x = self.embed(x) + self.position + self.time(time)[:, None]
        for layer in self.layers:
            x = layer(x)
        return self.readout(x)


def steps_a_second(config: TransformerConfig, batch: int, steps: int) -> tuple[float, float, int]:
    """Of hierdiff, of torch, and the number of parameters; `steps` between two looks at the clock."""
    leaves = 2**DEPTH
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, leaves, VOCAB), np.float32)
    t, x_0 = rng.integers(1, LEVELS + 1, batch, np.int32), rng.integers(0, VOCAB, (batch, leaves), np.int32)

    network = config.build(channels=VOCAB, vocab=VOCAB, depth=DEPTH, branching=2)
    adam, mesh = optax.adam(LEARNING_RATE), ensemble_mesh(1)
    shared, of_batch = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("batch",)))
    params = jax.device_put(network.init(jax.random.key(0)), shared)
    given = jax.device_put((x, t, x_0), of_batch)

    def cross_entropy(params, key, x, t, x_0):
        return optax.softmax_cross_entropy_with_integer_labels(network.forward(params, x, t, key), x_0).mean()

    @jax.jit
    def advance(params, state, key, given):
        def step(i, carried):
            params, state = carried
            of_step = jax.random.fold_in(key, i) if config.dropout else None
            updates, state = adam.update(jax.grad(cross_entropy)(params, of_step, *given), state)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, steps, step, (params, state))

    state = jax.device_put(adam.init(params), shared)

    twin = Twin(config, VOCAB, leaves)
    optimizer = torch.optim.Adam(twin.parameters(), lr=LEARNING_RATE)
    seen, time, known = (torch.tensor(np.array(each)) for each in (x, time_embedding(jnp.asarray(t)), x_0))

    def advance_twin():
        for _ in range(steps):
            optimizer.zero_grad()
            logits = twin(seen, time)
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), known.flatten().long()).backward()
            optimizer.step()

    ours, theirs = seconds_in_turn(lambda: advance(params, state, jax.random.key(1), given), advance_twin, rounds=5)
    return steps / ours, steps / theirs, sum(each.size for each in jax.tree.leaves(params))


def main() -> None:
    set_up_devices()
    torch.set_num_threads(jax.device_count())
    for name, config, batch, steps in (("small", SMALL, 256, 5), ("paper's", PAPERS, 64, 1)):
        ours, theirs, size = steps_a_second(config, batch, steps)
        print(
            f"the {name} Transformer, {size / 1e3:,.0f} thousand parameters, batch {batch}: {ours:.2f} steps a second, "
            f"{ours / theirs:.2f} times torch's {theirs:.2f}"
        )


if __name__ == "__main__":
    main()
