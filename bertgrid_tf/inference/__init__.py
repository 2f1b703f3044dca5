"""The final model at work: evaluate, predict, export."""
