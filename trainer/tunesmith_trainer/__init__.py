"""The stages that touch data and weights: prepare, train, evaluate, compress, publish."""
