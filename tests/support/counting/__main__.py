"""`python -m counting count REQUEST`, as the environment of a real stage is started."""

import sys

from counting import WITH_COUNT
from tunesmith_engine.stages.entry import main

sys.exit(main(sys.argv[1:], catalog=WITH_COUNT))
