"""Every question by the name of its command.

A module of this folder answers one question: its `answer(config, options)` is given what the command line says, which
has been read before the module is imported (`hierdiff.questions.command`).
"""

# Training is a question too; the next five are put to a finished run.
TRAINING = ("onset", "images")
OF_A_RUN = ("noise", "neighbours", "membership", "losses", "uturn")
QUESTIONS = (*TRAINING, *OF_A_RUN, "stopping", "other_models", "benchmark")
