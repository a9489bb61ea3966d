"""`FineTuneJob`: its spec by challenge, its rules, its status."""
