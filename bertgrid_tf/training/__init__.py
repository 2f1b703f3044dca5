"""The trials of a study: hyperparameters × corpus ▶ dev metrics, epoch by epoch."""
