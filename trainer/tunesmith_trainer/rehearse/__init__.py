"""The stage `rehearse`: the base model writes the rows that will remind it of itself."""
