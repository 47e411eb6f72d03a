"""An optimizer of one's own: Adam whose updates grow from nothing over the first hundred steps.

python -m experiments.onset --plugin warm --optimizer warm
"""

import optax


def warm(learning_rate):
    """`learning_rate` is a function of the step."""
    rising = optax.linear_schedule(0.0, 1.0, transition_steps=100)
    return optax.chain(optax.adam(learning_rate), optax.scale_by_schedule(rising))


OPTIMIZERS = {"warm": warm}
