"""Which parts of a prompt move an answer: attributions, attention, and how faithful they are."""
