"""Every test: types checked at run time, no silent promotion of dtype or rank, two devices."""

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("hierdiff", "beartype.beartype")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield
