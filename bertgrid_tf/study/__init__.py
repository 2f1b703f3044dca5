"""One study in one study folder: sweeps, the learning-rate × epoch grid, the final model."""
