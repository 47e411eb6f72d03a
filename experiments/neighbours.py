"""Does a network generate sequences that lie nearer to its own training set than to another's, and since when?

Two networks on disjoint data sets are fed the same noise: how many symbols of their samples are the same? A sample of
network A is compared with A's training set and with B's: any difference is bias, whatever the sample's quality.

    python -m experiments.neighbours --run runs/laptop-0
"""

import sys

from hierdiff.questions.command import command

main = command("neighbours", __doc__)

if __name__ == "__main__":
    main(sys.argv[1:])
