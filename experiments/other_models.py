"""The measure on a model that is not hierdiff's: random features, trained by gradient descent, in plain NumPy.

python -m experiments.other_models
"""

import sys

from hierdiff.questions.command import command

main = command("other_models", __doc__)

if __name__ == "__main__":
    main(sys.argv[1:])
