"""What people see on a terminal: colours and tables, the display of a run, and signals."""
