"""What a study will cost, in epochs and seconds, and what of it fits a time budget."""
