"""Up to which training step do diffusion networks on different images become more alike?

python -m experiments.images
"""

from hierdiff.questions.command import command

main = command("images")

if __name__ == "__main__":
    main()
