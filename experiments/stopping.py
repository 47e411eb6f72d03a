"""What does it cost to stop late? Rules that need no oracle, compared where each of them stops.

Trains an onset run for each grammar and training-set size, measures its samples and the attack on its members, and
reads them where the sample split is smallest, where the test loss is smallest, and after a fixed number of epochs. Runs
that are there already are used.

    python -m experiments.stopping --seeds 0 1 2 --sizes 300 1000 3000
"""

import sys

from hierdiff.questions.command import command

main = command("stopping", __doc__)

if __name__ == "__main__":
    main(sys.argv[1:])
