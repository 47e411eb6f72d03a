"""At which training step does a diffusion network start to lean towards its own training samples?

python -m experiments.onset --depth 4
"""

from hierdiff.questions.command import command

main = command("onset")

if __name__ == "__main__":
    main()
