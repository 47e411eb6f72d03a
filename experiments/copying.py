"""How much of its own training set does a network generate, with few reverse steps and with many?

python -m experiments.copying --run runs/laptop-0 --reverse-steps 5 20 100
"""

from hierdiff.questions.command import command

main = command("copying")

if __name__ == "__main__":
    main()
