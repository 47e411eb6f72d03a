"""Do networks copy more of their training sets under masking or uniform noise than under Gaussian noise?

python -m experiments.processes
"""

from hierdiff.questions.command import command

main = command("processes")

if __name__ == "__main__":
    main()
