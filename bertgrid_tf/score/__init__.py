"""Labels and predictions ▶ numbers. Knows numpy, scipy and scikit-learn only."""
