"""The operator with its clocks of rest sped up: `python faster_operator.py TIMES ARGUMENTS`.

It looks again at what is at rest, doubts its copies and reads its replicas so many times as often.
Nothing else runs faster: neither deadlines, nor back-off, nor what Kubernetes itself waits for.
"""

import sys

from tunesmith_engine.monitoring import monitor
from tunesmith_operator.controller import object_cache
from tunesmith_operator.finetunejob import step


def main() -> None:
    """Speed the clocks up, and be `tunesmith operator`."""
    times = float(sys.argv.pop(1))
    # NB: before anything else is imported, which would take the values as they are.
    for module, name in (
        (object_cache, "FRESH_S"),
        (step, "RESYNC_S"),
        (monitor, "READ_S"),
    ):
        setattr(module, name, getattr(module, name) / times)
    from tunesmith_operator.modeldeployment import reconciler

    reconciler.RESYNC_S = step.RESYNC_S  # type: ignore[misc]
    from tunesmith_cli.main import main as command

    command()


if __name__ == "__main__":
    main()
