"""The error that its reader can fix."""


class TunerError(ValueError):
    """One sentence: what is wrong, where, and what to do about it."""
