"""Which training sequences make what a network shows, and which method tells?

python -m experiments.attribution
"""

from hierdiff.questions.command import command

main = command("attribution")

if __name__ == "__main__":
    main()
