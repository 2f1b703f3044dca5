"""A bank of studies: recorded learning-rate × epoch tables, and what they suggest for a new task."""
