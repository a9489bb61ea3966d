"""Run one stage on several requests in one process, which imports its libraries once.

`python stages_in_turn.py STAGE REQUEST …`: the results lie where the requests say.
"""

import sys

from tunesmith_engine.stages.entry import main

if __name__ == "__main__":
    stage, *requests = sys.argv[1:]
    for request in requests:
        main([stage, request])
