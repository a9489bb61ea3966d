"""The life of a ModelDeployment, pure: which revisions are wanted, and what traffic they get."""
