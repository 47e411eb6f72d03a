"""At which training step do diffusion networks on real images start to lean towards their own training images?

Trains U-Nets on disjoint sets of images, compares the noises they predict and the images they make of the same noise,
and writes a run's folder. Without --data-dir the images are those of Fashion-MNIST.

    python -m experiments.images
"""

import sys

from hierdiff.questions.command import command

main = command("images", __doc__)

if __name__ == "__main__":
    main(sys.argv[1:])
