"""At which noise levels and heights are the networks wrong, and which part of it depends on their data?

python -m experiments.noise --run runs/laptop-0
"""

import sys

from hierdiff.questions.command import command

main = command("noise", __doc__)

if __name__ == "__main__":
    main(sys.argv[1:])
