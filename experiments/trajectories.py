"""Does what networks have of their data reach what they generate? They are measured where they go themselves.

python -m experiments.trajectories --run runs/laptop-0
"""

from hierdiff.questions.command import command

main = command("trajectories")

if __name__ == "__main__":
    main()
