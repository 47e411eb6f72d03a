"""The default run with networks that are told the root of each sequence; `experiments.guidance` guides them.

python -m experiments.labels
"""

from hierdiff.questions.command import command

main = command("labels")

if __name__ == "__main__":
    main()
