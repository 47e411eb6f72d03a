"""How often do the intervals hold the truth, and how often is a minimum claimed where there is none?

python -m experiments.calibration
"""

from hierdiff.questions.command import command

main = command("calibration")

if __name__ == "__main__":
    main()
