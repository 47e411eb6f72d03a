"""The Transformer against its twin of torch's layers: with the same weights, they say the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hierdiff.learning.layers import time_embedding
from hierdiff.learning.network import TransformerConfig

torch = pytest.importorskip("torch")


def test_the_twin_in_torch_says_the_same():
    from experiments.benchmark_torch import Twin

    config = TransformerConfig(width=8, layers=2, heads=2)
    network = config.build(channels=3, vocab=3, depth=2, branching=2)
    params = network.init(jax.random.key(0))
    # Scales of one and biases of zero would hide where they are.
    leaves, tree = jax.tree.flatten(params)
    params = tree.unflatten([x + 0.1 * jax.random.normal(jax.random.key(i), x.shape) for i, x in enumerate(leaves)])
    twin = Twin(config, 3, 4)
    with torch.no_grad():
        for name, weights in twin.named_parameters():
            weights.copy_(torch.tensor(weights_of(params, name).reshape(weights.shape)))
    x, t = jax.random.normal(jax.random.key(1), (5, 4, 3)), jnp.array([1, 5, 50, 200, 500])
    theirs = twin(torch.tensor(np.array(x)), torch.tensor(np.array(time_embedding(t)))).detach().numpy()
    np.testing.assert_allclose(network.forward(params, x, t, None), theirs, atol=1e-5)


def weights_of(params, name):
    """The weights that torch's layers have by this name: rows are outputs."""
    module, _, kind = name.rpartition(".")
    if not module:
        return np.array(params[kind][...])
    at, kind = params, kind.removeprefix("in_proj_")
    names = {"self_attn": "attention", "linear1": "enter", "linear2": "leave", "out_proj": "out"}
    names |= {"norm1": "after_attention", "norm2": "after_mlp"}
    for part in module.split("."):
        at = at[int(part) if part.isdigit() else names.get(part, part)]
    if "norm" in module:
        return np.array(at["scale" if kind == "weight" else "bias"][...])
    parts = [at[each] for each in ("query", "key", "value")] if module.endswith("self_attn") else [at]
    if kind == "bias":
        return np.concatenate([np.array(part["bias"][...]).ravel() for part in parts])
    inputs = 8 if "self_attn" in module else len(parts[0]["kernel"][...])
    return np.concatenate([np.array(part["kernel"][...]).reshape(inputs, -1).T for part in parts])
