"""Which parts of a prompt move a model's answer: attributions, attention, and how faithful they are."""
