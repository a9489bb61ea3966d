"""The life of a job: planning and advancing it as pure functions, and carrying it out on one machine."""
