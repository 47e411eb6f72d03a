"""What is a training loss made of: what the network lacks of the exact posterior, and what it knows of the sequence?

python -m experiments.losses --run runs/laptop-0
"""

from hierdiff.questions.command import command

main = command("losses")

if __name__ == "__main__":
    main()
