"""The stage `crossval`: k-fold cross-validation of the job's settings, folds side by side."""
