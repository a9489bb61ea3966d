"""The way into the `tunesmith` command.

Parse the command line, run the command's own module from `commands/`, and turn every refusal into
one `error:` on stderr and an exit code. With `--output json` a refusal is an object on stdout too.
"""

import argparse
import json
import os
import sys
from importlib import import_module

from tunesmith_cli.arguments import build_parser
from tunesmith_cli.refusal import EXIT_INTERRUPTED, Refusal


def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` names and return the exit code."""
    options = build_parser().parse_args(argv)
    try:
        return _run(options)
    except Refusal as refusal:
        return _refused(refusal, as_json=getattr(options, "output", "text") == "json")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # NB: the reader of a pipe went away, as with `| head`; Python must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(options: argparse.Namespace) -> int:
    command = import_module(f"tunesmith_cli.commands.{options.command}")
    code: int = command.run(options)
    sys.stdout.flush()
    return code


def _refused(refusal: Refusal, *, as_json: bool) -> int:
    for line in refusal.message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    if as_json:
        error = {"reason": refusal.reason, "message": refusal.message}
        print(json.dumps({"error": error}, indent=1))
    return refusal.code


if __name__ == "__main__":
    sys.exit(main())
