"""Every test: types checked at run time, no silent promotion of dtype or rank, two devices."""

import os

# The suite compiles hundreds of small programs, and runs each for milliseconds.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("hierdiff", "beartype.beartype")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def dtype_promotion(request):
    # optax raises a float to the power of the integer step.
    own_code_only = request.module.__name__ not in ("test_training", "test_scripts")
    with jax.numpy_dtype_promotion("strict" if own_code_only else "standard"):
        yield


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield
