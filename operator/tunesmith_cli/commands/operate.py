"""`tunesmith operator`: run the jobs of a cluster until told to stop.

The module cannot be called like its command, for Python has an `operator` of its own.
"""

import argparse
import logging

from tunesmith_cli.errors import EXIT_DONE, CommandError
from tunesmith_operator.settings import settings_from


def run(options: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C.

    Raises:
        CommandError: the operator's libraries are not installed.
    """
    try:
        # An extra of the package: whoever runs jobs on a laptop has none of these libraries.
        from tunesmith_operator.app import main
    except ModuleNotFoundError as error:
        message = f"'{error.name}' is not installed; run: pip install 'tunesmith[operator]'"
        raise CommandError(message) from error
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    main(settings_from(options))
    return EXIT_DONE
