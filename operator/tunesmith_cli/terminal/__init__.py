"""What people see of the command while they sit at it.

`style.py` has colours, tables and the guard against control characters, `stages.py` words the
stages of a job, `display.py` shows them while a run works, and `signals.py` takes its Ctrl-C.
"""
