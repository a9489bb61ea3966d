"""Prompts that are changed as people and attackers change them, and what that does to answers."""
