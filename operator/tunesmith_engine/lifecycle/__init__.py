"""What happens to a job next, as a pure function: status and observations in, decision out."""
