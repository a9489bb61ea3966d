"""Run one stage on several requests in one process, which imports its libraries once.

`python stages_in_turn.py STAGE REQUEST …`: the results lie where the requests say. It ends after
the first that fails, for that may have left a library unusable (vLLM is); the rest is for another
process.
"""

import sys

from tunesmith_engine.stages.entry import main

if __name__ == "__main__":
    stage, *requests = sys.argv[1:]
    for request in requests:
        if main([stage, request]):
            break
