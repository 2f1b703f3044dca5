"""The error that a person can put right."""


class TunerError(ValueError):
    """One sentence: what is wrong, where, and what to do about it."""
