"""One trial: hyperparameters × corpus ▶ metrics, epoch by epoch. Where dialogues meet BERT."""
