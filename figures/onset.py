"""Draws the picture of a run anew: python -m figures.onset runs/laptop-0."""

from hierdiff.pictures.command import draw_run

if __name__ == "__main__":
    draw_run()
