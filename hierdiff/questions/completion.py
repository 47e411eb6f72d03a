"""What a shell completes: every question, its options, and what these may be."""

from collections.abc import Mapping

import shtab

from hierdiff.pictures.command import add_options
from hierdiff.questions import QUESTIONS
from hierdiff.questions.command import load_plugins, read
from hierdiff.runs.command_line import Parser
from hierdiff.runs.options import fields_of


def script(parser: Parser, commands: Mapping[str, Parser], shell: str) -> str:
    """The script for a shell, of a parser that has the `commands`; these are given their options first."""
    for name in QUESTIONS:
        add_question(commands[name], name)
    figures = [*add_options(commands["figures"], QUESTIONS), "onset"]
    for each in (parser, *commands.values()):
        for action in each._actions:
            # The choices of our own options are shown, and checked where they are read.
            if action.dest == "figures":
                action.choices = figures
            elif isinstance(action.metavar, str) and action.metavar.startswith("{"):
                action.choices = action.metavar.strip("{}").split(",")
    parser.prog = "hierdiff"
    return shtab.complete(parser, shell)


def add_question(parser: Parser, name: str) -> None:
    """Give `parser` the options of a question, those of all kinds of network among them."""

    def options(parser: Parser, *argv: str) -> object:
        load_plugins(parser, [])
        return read(name, QUESTIONS[name], parser, [*argv])[0]

    for _, field in fields_of(options(parser)):
        for kind in field.metadata.get("kinds", ()):
            other = Parser()
            options(other, f"--{field.name}", kind)
            for action in other._actions:
                if not {*action.option_strings} & {*parser._option_string_actions}:
                    parser._add_action(action)
