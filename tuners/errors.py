"""The error that its reader can fix."""


class TunerError(ValueError):
    """One sentence: what is wrong, where, and what to do about it."""


class DamagedError(TunerError):
    """A file that is read back does not hold what was written to it."""
