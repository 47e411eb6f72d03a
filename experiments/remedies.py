"""What does it cost to keep the sample? Remedies against memorization, by exact excess loss and by what is given away.

python -m experiments.remedies --seeds 0 1 2 --remedies weight-decay=1,3 dropout=0.1
"""

from hierdiff.questions.command import command

main = command("remedies")

if __name__ == "__main__":
    main()
