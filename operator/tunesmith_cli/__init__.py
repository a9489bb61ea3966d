"""The `tunesmith` command: a thin face on the engine."""
