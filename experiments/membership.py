"""Can one tell from its loss whether a network was trained on a sequence, and since which step?

The attack scores a sequence by the network's loss on it, averaged over draws of noise. Calibrated by the exact Bayes
loss under the same noise, it no longer mistakes an easy sequence for a known one.

    python -m experiments.membership --run runs/laptop-0
"""

import sys

from hierdiff.questions.command import command

main = command("membership", __doc__)

if __name__ == "__main__":
    main(sys.argv[1:])
