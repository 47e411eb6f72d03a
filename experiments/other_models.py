"""The measure on a model that is not hierdiff's: random features, trained by gradient descent, in plain NumPy.

python -m experiments.other_models
"""

from hierdiff.questions.command import command

main = command("other_models")

if __name__ == "__main__":
    main()
