"""Does guidance make a diffusion model lean on its sample?

python -m experiments.labels
python -m experiments.guidance --run runs/labels-laptop-0
"""

from hierdiff.questions.command import command

main = command("guidance")

if __name__ == "__main__":
    main()
