"""The error that a person can cause and a person can mend."""


class UserError(Exception):
    """Bad input: one sentence that says what is wrong, where, and what to do.

    The command line prints the sentence and exits with code 2; no traceback is shown.
    """


class DamagedError(UserError):
    """A file of a study folder does not hold what was written to it."""
