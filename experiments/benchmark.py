"""How fast are the exact posterior, reverse diffusion and a training step, and what do they need?

python -m experiments.benchmark --json speed.json
"""

from hierdiff.questions.command import command

main = command("benchmark")

if __name__ == "__main__":
    main()
