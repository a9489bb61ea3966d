"""Where models and data come from and where versions go: one resolver for every URI."""
