"""Which training sequences are memorized first: typical ones or isolated ones? And those that are there several times?

python -m experiments.first --run runs/laptop-0
"""

from hierdiff.questions.command import command

main = command("first")

if __name__ == "__main__":
    main()
