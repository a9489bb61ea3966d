"""`python -m tunesmith_serving verify REQUEST` runs the stage; `… serve FOLDER` serves a model."""

import sys

from tunesmith_engine.stages.contracts import StageName
from tunesmith_engine.stages.entry import main
from tunesmith_serving.serve import serve
from tunesmith_serving.verify.stage import verify

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        sys.exit(serve(arguments[1:]))
    sys.exit(main({StageName.VERIFY: verify}, arguments))
