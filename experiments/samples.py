"""Do networks on images generate what lies nearer to their own training images than to others', and since when?

python -m experiments.samples --run runs/images-laptop-0
"""

from hierdiff.questions.command import command

main = command("samples")

if __name__ == "__main__":
    main()
