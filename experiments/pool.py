"""How much do the landmarks of training differ between draws of the data?

python -m experiments.pool
"""

from hierdiff.questions.command import command

main = command("pool")

if __name__ == "__main__":
    main()
