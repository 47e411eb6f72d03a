"""Does a network generate sequences that lie nearer to its own training set than to another's, and since when?

python -m experiments.neighbours --run runs/laptop-0
"""

from hierdiff.questions.command import command

main = command("neighbours")

if __name__ == "__main__":
    main()
