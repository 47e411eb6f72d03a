"""Noise a sequence to level t and reverse it: how much of it comes back, with a network and with the exact score?

python -m experiments.uturn --run runs/laptop-0
"""

from hierdiff.questions.command import command

main = command("uturn")

if __name__ == "__main__":
    main()
