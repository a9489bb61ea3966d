"""`tunesmith completion`: print the completion script of a shell."""

import argparse

from tunesmith_cli.arguments import build_parser
from tunesmith_cli.errors import EXIT_DONE
from tunesmith_cli.shell_completion import completion_script


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    print(completion_script(options.shell, build_parser()), end="")
    return EXIT_DONE
