"""The measure on a model that is not hierdiff's: random features, trained by gradient descent, in plain NumPy.

Two such models learn to denoise from disjoint sets of images, and `hierdiff.compare.two_denoisers` says at which step
of their training they begin to part, and how much later the test loss would have stopped. Any two functions will do in
their place: `(x_t, alpha_bar) -> E[x_0 | x_t]`.

    python -m experiments.other_models
"""

import sys

from hierdiff.questions.command import command

main = command("other_models", __doc__)

if __name__ == "__main__":
    main(sys.argv[1:])
