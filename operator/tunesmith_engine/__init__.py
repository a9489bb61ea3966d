"""The life of a job.

Planning and advancing it as pure functions, and carrying it out on one machine.
"""
