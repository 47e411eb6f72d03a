"""What does it cost to stop late? Rules that need no oracle, compared where each of them stops.

python -m experiments.stopping --seeds 0 1 2 --sizes 300 1000 3000
"""

from hierdiff.questions.command import command

main = command("stopping")

if __name__ == "__main__":
    main()
