"""The study folder: every file and every column is named here, and only here."""
