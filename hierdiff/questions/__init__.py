"""Every question by the name of its command.

A module of that name answers it: its `answer(config, options)` is given what the command line says, which has been read
before the module is imported (`command`, by the options in `configs`). `snapshots` holds what questions to a run share.
"""

# Training is a question too; the next five are put to a finished run.
TRAINING = ("onset", "images")
OF_A_RUN = ("noise", "neighbours", "membership", "losses", "uturn")
