"""What bash asks for at the first word, answered before anything is imported.

``batuta <TAB>`` is pressed often: the library behind the commands takes a third of a second to
load, and the names of the commands are known without it. All other words are left to it.
"""

from collections.abc import Mapping

from batuta.cli.command_list import COMMANDS

INSTRUCTION = "_BATUTA_COMPLETE"


def complete_first_word(environment: Mapping[str, str]) -> list[str] | None:
    """Return the commands that the first word may become; None if something else is asked for.

    Parameters
    ----------
    environment : mapping
        The variables that the completion script of bash sets.
    """
    if environment.get(INSTRUCTION) != "complete_bash" or environment.get("COMP_CWORD") != "1":
        return None
    _, _, word = environment.get("COMP_WORDS", "").partition(" ")
    if word.startswith("-") or (not word.replace("-", "").isalnum() and word):
        return None  # options, and what has spaces or quotes
    return [name for name in COMMANDS if name.startswith(word)]
