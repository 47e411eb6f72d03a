"""Draws the picture of a run anew: python -m figures.onset runs/laptop-0."""

from hierdiff.pictures.onset import main

if __name__ == "__main__":
    main()
