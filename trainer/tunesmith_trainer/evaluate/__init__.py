"""The evaluate stage: base against tuned on held-out rows and on general text, then the gates."""
