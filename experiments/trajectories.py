"""Do networks lean where they go themselves? They are measured on what they make of noise in reverse diffusion.

python -m experiments.trajectories --run runs/laptop-0
"""

from hierdiff.questions.command import command

main = command("trajectories")

if __name__ == "__main__":
    main()
