"""Can one tell from its loss whether a network was trained on a sequence, and since which step?

python -m experiments.membership --run runs/laptop-0
"""

from hierdiff.questions.command import command

main = command("membership")

if __name__ == "__main__":
    main()
