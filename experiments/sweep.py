"""How do the landmarks of training move with an option? The run at every combination of some values, and the laws.

python -m experiments.sweep --over size,steps=300:3000,1000:10000,3000:30000 --over width=24,48 --seeds 0 1 2
"""

from hierdiff.questions.command import command

main = command("sweep")

if __name__ == "__main__":
    main()
