"""What does privacy cost? The run by DP-SGD, with canaries for an audit.

python -m experiments.private --epsilon 8
"""

from hierdiff.questions.command import command

main = command("private")

if __name__ == "__main__":
    main()
