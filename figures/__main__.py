"""Draws every figure.

python -m figures                                   draw all
python -m figures spectrum                          draw one
python -m figures --run-missing --preset laptop     make what is missing first, then draw
python -m figures --list-jobs --preset paper        one command for each line, to run side by side
"""

import functools

from hierdiff.pictures.command import draw_all
from hierdiff.questions import QUESTIONS

main = functools.partial(draw_all, QUESTIONS)

if __name__ == "__main__":
    main()
