"""Jobs on one machine: a process per stage below a home folder, in the same order as a cluster."""
