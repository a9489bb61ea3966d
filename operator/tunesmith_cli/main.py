"""The way into the `tunesmith` command.

Parse the command line, run the command's own module from `commands/`, and turn every error that a
user can do something about into one `error:` on stderr and an exit code. With `--output json` the
error is an object on stdout, too.
"""

import argparse
import json
import os
import sys
from importlib import import_module

from tunesmith_cli.arguments import build_parser
from tunesmith_cli.errors import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    CommandError,
    machine_error,
)


def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` names and return the exit code."""
    return exit_code_of(build_parser().parse_args(argv))


def exit_code_of(options: argparse.Namespace) -> int:
    """Run the command, and say what went wrong as every command does."""
    try:
        return run_command(options)
    except CommandError as error:
        for line in error.message.splitlines():
            print(f"error: {line}", file=sys.stderr)
        if getattr(options, "output", "text") == "json":
            # A program that asked for an object gets one in every case: it must not parse stderr.
            told = {"reason": error.reason, "message": error.message}
            print(json.dumps({"error": told}, indent=1))
        return error.code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # NB: the reader of a pipe went away, as with `| head`. What is still buffered must go
        # nowhere: Python flushes stdout once more at exit, and would end with a traceback and 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE


def run_command(options: argparse.Namespace) -> int:
    """Run the command; what the engine refuses is refused here in the same words.

    Raises:
        CommandError: the engine, a source of data or the machine refused something.
        BrokenPipeError: nobody reads stdout any more.
    """
    # Imported only now, so that `--help` and a mistyped option answer at once.
    from tunesmith_engine.local.errors import LocalError
    from tunesmith_engine.planning.plan import NoSuchStage
    from tunesmith_engine.sources.errors import SourceError

    command = import_module(f"tunesmith_cli.commands.{options.command}")
    try:
        code: int = command.run(options)
        # Here and not at exit, where nobody would catch that the reader is gone or the disk full.
        sys.stdout.flush()
    except LocalError as error:
        raise CommandError(error.message, reason=error.reason) from error
    except NoSuchStage as error:
        raise CommandError(str(error)) from error
    except SourceError as error:
        # What a later try may mend is no fault of the input.
        code = EXIT_FAILED if error.retryable else EXIT_BAD_INPUT
        raise CommandError(error.message, reason=error.reason, code=code) from error
    except BrokenPipeError:
        # NB: before OSError, of which it is a kind.
        raise
    except OSError as error:
        raise machine_error(error) from error
    return code


if __name__ == "__main__":
    sys.exit(main())
