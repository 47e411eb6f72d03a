"""The data of a run, and exact posteriors, as files.

python -m experiments.data --size 10000 --noise 0.1 0.3 --out data
"""

from hierdiff.questions.command import command

main = command("data")

if __name__ == "__main__":
    main()
