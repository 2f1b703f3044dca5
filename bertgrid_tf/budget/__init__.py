"""The plan of a study in epochs and seconds, and its part that fits a time budget."""
