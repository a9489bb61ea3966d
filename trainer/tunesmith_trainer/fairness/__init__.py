"""Bias between groups of people: what it is measured with, and terms that are swapped for it."""
