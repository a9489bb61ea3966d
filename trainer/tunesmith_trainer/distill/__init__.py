"""The stage `distill`: prune the tuned model, and train the rest to answer as the whole did."""
