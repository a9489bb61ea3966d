"""`python -m tunesmith_serving verify REQUEST` runs the stage; `… serve FOLDER` serves a model."""

import sys

from tunesmith_engine.stages.entry import main
from tunesmith_serving.serve import serve

if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(serve(arguments[1:]) if arguments[:1] == ["serve"] else main(arguments))
