"""What the arguments of all commands are made of: the parser, shared options, checked values.

`arguments.py` and `job_arguments.py` hold the commands themselves.
"""

import argparse
import os
import re
import sys
from difflib import get_close_matches
from pathlib import Path
from textwrap import fill
from typing import Any, NoReturn

from tunesmith_cli.errors import EXIT_BAD_INPUT

EXIT_CODES = """\
exit codes:
  0    done
  1    failed, with a reason
  2    bad input: the command line, the manifest, the data or the model
  3    not settled: the judge of a rollout can say neither promote nor roll back
  130  interrupted"""

_LAST_PORT = 65_535
_WIDTH = 80


class CommandParser(argparse.ArgumentParser):
    """A parser that refuses abbreviations and says in one line what to mend."""

    def __init__(self, *, description: str, examples: str, **settings: Any) -> None:
        self.example_lines = [line.strip() for line in examples.splitlines()]
        super().__init__(
            # `--out` would change its meaning with the next option that begins like it.
            allow_abbrev=False,
            description=fill(description, _WIDTH),
            epilog=f"examples:\n{examples}\n\n{EXIT_CODES}",
            # Raw, for argparse would flow the examples together; so the text is filled here.
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **settings,
        )

    def error(self, message: str) -> NoReturn:
        """End with exit code 2, with the word that was probably meant."""
        # argparse has the choices only in the text of its message.
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        near = get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), n=1) if wrong else []
        hint = f"; did you mean '{near[0]}'?" if near else ""
        # One line: argparse's own usage text in front of it would hide what is wrong.
        print(f"error: {message}{hint}; see '{self.prog} --help'", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


def default_home() -> Path:
    """`$TUNESMITH_HOME`, or `.tunesmith` in the user's own folder."""
    return folder(os.environ.get("TUNESMITH_HOME") or "~/.tunesmith")


def add_home(parser: argparse.ArgumentParser) -> None:
    """`--home`."""
    parser.add_argument(
        "--home",
        metavar="DIR",
        type=folder,
        default=default_home(),
        help="folder of jobs, caches, secrets and models "
        "(default: $TUNESMITH_HOME or ~/.tunesmith)",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """`--output`, of commands whose result a program may want."""
    parser.add_argument(
        "--output",
        choices=("text", "json"),
        default="text",
        help="text for people, or one JSON object on stdout (default: text)",
    )


def folder(text: str) -> Path:
    """An absolute folder, which need not exist."""
    if not text:
        raise argparse.ArgumentTypeError("'' is no folder; leave --home out, or name one")
    # Absolute, for stages run in other folders; a shell does not expand `--home=~/x`.
    return Path(text).expanduser().absolute()


def attempt(text: str) -> int:
    """The number of an attempt."""
    # ASCII, for Python reads other scripts' digits as numbers, too.
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no attempt; they count 1, 2, 3 …")
    return int(text)


def row_number(text: str) -> int:
    """The number of a row, counted from 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no row; rows are counted from 1")
    return int(text)


def token_count(text: str) -> int:
    """A number of tokens, at least one."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of tokens; give at least 1")
    return int(text)


def port(text: str) -> int:
    """A TCP port."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _LAST_PORT:
        raise argparse.ArgumentTypeError(f"'{text}' is no port; give a number from 1 to 65535")
    return int(text)
