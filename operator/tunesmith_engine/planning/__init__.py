"""From a job to its stages: defaults filled in, keys worked out; pure functions only."""
