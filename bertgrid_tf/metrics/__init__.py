"""Metrics, comparisons, calibration and corrections of predictions, in numpy, scipy and scikit-learn."""
