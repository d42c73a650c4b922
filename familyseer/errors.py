"""Errors that a user can mend, told apart from faults of the program."""

from __future__ import annotations


class UserError(Exception):
    """Wrong use or unreadable input.

    The message is one line that names the thing and says what was expected; the command line
    prints it without a traceback and exits with code 2.
    """


class RunError(Exception):
    """A run that could not go on, through no fault of how it was asked for.

    The message is one line; the command line prints it without a traceback and exits with code 1.
    """
