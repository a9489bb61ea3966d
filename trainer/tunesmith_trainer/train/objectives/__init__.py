"""What a step minimises: an `Objective` over the rows of one set, and what can be added to it."""
