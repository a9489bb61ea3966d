"""The stage `search`: trials of other settings on Ray Tune, and which of them is best."""
