"""The way into the `tunesmith` command.

Parse the command line, run the command's own module from `commands/`, and turn every refusal into
one `error:` on stderr and an exit code. With `--output json` a refusal is an object on stdout too.
"""

import argparse
import errno
import json
import os
import sys
from importlib import import_module

from tunesmith_api.reasons import Reason
from tunesmith_cli.arguments import build_parser
from tunesmith_cli.refusal import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Refusal,
)


def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` names and return the exit code."""
    options = build_parser().parse_args(argv)
    as_json = getattr(options, "output", "text") == "json"
    try:
        return _run(options)
    except Refusal as refusal:
        return _refused(refusal, as_json=as_json)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # NB: the reader of a pipe went away, as with `| head`; Python must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE


def _run(options: argparse.Namespace) -> int:
    """Run the command; what the engine refuses is refused here in the same words.

    The engine is imported only now, so that `--help` answers at once.
    """
    from tunesmith_engine.local.errors import LocalError
    from tunesmith_engine.planning.plan import NoSuchStage
    from tunesmith_engine.sources.errors import SourceError

    command = import_module(f"tunesmith_cli.commands.{options.command}")
    try:
        code: int = command.run(options)
        sys.stdout.flush()
    except LocalError as error:
        raise Refusal(error.message, reason=error.reason) from error
    except NoSuchStage as error:
        raise Refusal(str(error)) from error
    except SourceError as error:
        code = EXIT_FAILED if error.retryable else EXIT_BAD_INPUT
        raise Refusal(error.message, reason=error.reason, code=code) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _of_the_machine(error) from error
    return code


def _of_the_machine(error: OSError) -> Refusal:
    place = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        message = f"{place}no space left; free some where the home folder lies"
        return Refusal(message, reason=Reason.DISK_FULL, code=EXIT_FAILED)
    return Refusal(f"{place}{error.strerror or error}; check the path, its owner and its rights")


def _refused(refusal: Refusal, *, as_json: bool) -> int:
    for line in refusal.message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    if as_json:
        error = {"reason": refusal.reason, "message": refusal.message}
        print(json.dumps({"error": error}, indent=1))
    return refusal.code


if __name__ == "__main__":
    sys.exit(main())
