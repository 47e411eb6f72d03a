"""`python -m hierdiff NAME` is `hierdiff NAME`, which no folder `experiments` or `figures` of the user's own hides."""

from hierdiff.questions.command import main

if __name__ == "__main__":
    main()
