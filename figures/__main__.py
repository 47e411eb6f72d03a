"""Draws every figure: python -m figures."""

from hierdiff.pictures.album import main

if __name__ == "__main__":
    main()
