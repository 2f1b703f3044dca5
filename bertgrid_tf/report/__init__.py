"""Numbers ▶ what a person reads."""
