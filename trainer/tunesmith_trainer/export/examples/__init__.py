"""Programs that are copied beside exported weights, and run on their own."""
