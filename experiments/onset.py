"""Up to which training step do diffusion networks on different data become more alike?

python -m experiments.onset --depth 4
"""

from hierdiff.questions.command import command

main = command("onset")

if __name__ == "__main__":
    main()
