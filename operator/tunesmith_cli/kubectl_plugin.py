"""`kubectl tunesmith`: the commands about jobs, against the cluster that kubectl talks to.

kubectl finds the executable `kubectl-tunesmith` on the PATH and hands all arguments on. The
commands are `commands/cluster_jobs.py`, and `commands/retry.py`.
"""

import argparse
import sys
from typing import Any

from tunesmith_cli.main import exit_code_of
from tunesmith_cli.options import CommandParser, add_output
from tunesmith_engine.stages.catalog import CATALOG


def build_parser() -> CommandParser:
    """The whole tree."""
    parser = CommandParser(
        prog="kubectl tunesmith",
        description="Look after the fine-tuning jobs of the cluster that kubectl talks to.",
        examples="  kubectl tunesmith jobs -A\n  kubectl tunesmith status helpdesk -n ml\n"
        "  kubectl tunesmith logs helpdesk train -f\n  kubectl tunesmith retry helpdesk",
    )
    commands = parser.add_subparsers(dest="action", metavar="COMMAND", required=True)
    for add in (_jobs, _status, _logs, _retry):
        add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` names and return the exit code."""
    return exit_code_of(build_parser().parse_args(argv))


def _jobs(commands: Any) -> None:
    parser = commands.add_parser(
        "jobs",
        help="list all jobs: phase, progress, held-out loss, version, age",
        description="List the FineTuneJobs of a namespace, or of all.",
        examples="  kubectl tunesmith jobs\n  kubectl tunesmith jobs -A --output json",
    )
    parser.set_defaults(command="cluster_jobs", job=None)
    _add_place(parser)
    parser.add_argument(
        "-A", "--all-namespaces", action="store_true", help="the jobs of all namespaces"
    )
    add_output(parser)


def _status(commands: Any) -> None:
    parser = commands.add_parser(
        "status",
        help="show how far a job is",
        description="Show the stages, numbers and warnings of a job.",
        examples="  kubectl tunesmith status helpdesk -n ml",
    )
    parser.set_defaults(command="cluster_jobs")
    parser.add_argument("job", metavar="JOB", help="name of the job")
    _add_place(parser)
    add_output(parser)


def _logs(commands: Any) -> None:
    parser = commands.add_parser(
        "logs",
        help="print what the stages of a job wrote",
        description="Print the logs of the pods of a job's stages that are there still, oldest "
        "first.",
        examples="  kubectl tunesmith logs helpdesk\n  kubectl tunesmith logs helpdesk train -f",
    )
    parser.set_defaults(command="cluster_jobs")
    parser.add_argument("job", metavar="JOB", help="name of the job")
    parser.add_argument(
        "stage", metavar="STAGE", nargs="?", choices=CATALOG.names, help="only this stage"
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with the newest pod until it ends"
    )
    _add_place(parser)


def _retry(commands: Any) -> None:
    parser = commands.add_parser(
        "retry",
        help="take a failed job up again, with all that is done",
        description="Have the operator take a failed job up again, with all that is done.",
        examples="  kubectl tunesmith retry helpdesk -n ml",
    )
    # Through `cluster_jobs`, which knows kubectl's own namespace.
    parser.set_defaults(command="cluster_jobs")
    parser.add_argument("job", metavar="JOB", help="name of the job")
    _add_place(parser)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-n", "--namespace", metavar="NAMESPACE", help="namespace (default: kubectl's)"
    )
    parser.add_argument("--context", metavar="CONTEXT", help="of kubectl (default: the current)")


if __name__ == "__main__":
    sys.exit(main())
