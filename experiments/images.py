"""At which training step do diffusion networks on real images start to lean towards their own training images?

python -m experiments.images
"""

from hierdiff.questions.command import command

main = command("images")

if __name__ == "__main__":
    main()
