"""One module for each command; `run(options)` carries it out and returns the exit code."""
