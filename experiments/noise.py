"""At which noise levels and heights are the networks wrong, and which part of it depends on their data?

python -m experiments.noise --run runs/laptop-0
"""

from hierdiff.questions.command import command

main = command("noise")

if __name__ == "__main__":
    main()
