"""`tunesmith operator`: run the jobs of a cluster until told to stop."""

import argparse
import logging

from tunesmith_cli.errors import EXIT_DONE, Refusal
from tunesmith_operator.settings import settings_from


def run(options: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C.

    Raises:
        Refusal: the operator's libraries are not installed.
    """
    try:
        from tunesmith_operator.app import main
    except ModuleNotFoundError as error:
        message = f"'{error.name}' is not installed; run: pip install 'tunesmith[operator]'"
        raise Refusal(message) from error
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    main(settings_from(options))
    return EXIT_DONE
