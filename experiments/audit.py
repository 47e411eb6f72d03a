"""What does a run give away for certain? A lower bound on epsilon, by canaries, beside the upper one.

python -m experiments.audit --run runs/private-laptop-0
"""

from hierdiff.questions.command import command

main = command("audit")

if __name__ == "__main__":
    main()
