"""Labels and predictions ▶ numbers. Knows numpy and scikit-learn only."""
