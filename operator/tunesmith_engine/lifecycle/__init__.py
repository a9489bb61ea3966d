"""The life of a job as a pure function: status and observations in, status and actions out."""
