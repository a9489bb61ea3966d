"""Every command and option of `tunesmith`, with its help.

`main.py` parses with this tree and hands the options to the module of the same name in `commands/`.
`docs/reference/command.md` is written from the same tree, and a test holds every option to be
argued for. Commands about what the home folder holds stand in `job_arguments.py`.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunesmith_api.kinds import KINDS
from tunesmith_cli import job_arguments
from tunesmith_cli.live import PAGE_PORT
from tunesmith_cli.options import (
    CommandParser,
    add_home,
    add_output,
    attempt,
    port,
    token_count,
)
from tunesmith_engine.stages.catalog import CATALOG
from tunesmith_operator.settings import add_flags, prometheus_address

_JOB_FILE: Any = {"metavar": "FILE", "type": Path, "help": "manifest of the job; - for stdin"}
_ABOUT = "Take a base model and a data set to a proven, compressed and served model."


def build_parser() -> CommandParser:
    """The whole tree."""
    parser = CommandParser(
        prog="tunesmith",
        description=_ABOUT,
        examples="  tunesmith validate job.yaml\n  tunesmith plan job.yaml\n"
        "  tunesmith run job.yaml\n  tunesmith serve helpdesk",
    )
    parser.add_argument("--version", action="version", version=f"tunesmith {version('tunesmith')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (
        job_arguments.init,
        job_arguments.convert,
        _validate,
        job_arguments.data,
        _plan,
        _run,
        _retry,
        job_arguments.jobs,
        _status,
        _logs,
        _report,
        job_arguments.compare,
        job_arguments.explain,
        job_arguments.models,
        job_arguments.search,
        _serve,
        _chat,
        job_arguments.delete,
        job_arguments.prune,
        job_arguments.ui,
        _deploy,
        _rollout,
        _watch,
        _judge,
        _crds,
        job_arguments.completion,
        _operator,
    ):
        add(commands)
    return parser


def _run(commands: Any) -> None:
    parser = commands.add_parser(
        "run",
        help="run a job to its end, or go on where it was stopped",
        description="Run a job. Stages that are done are not repeated; after a stop, training goes "
        "on from its last checkpoint, and another stage begins again. Progress goes to stderr. "
        "Ctrl-C stops cleanly; twice, at once.",
        examples="  tunesmith run job.yaml\n  tunesmith run job.yaml --until evaluate\n"
        "  tunesmith run job.yaml --force --from compress\n"
        "  tunesmith run job.yaml --serve\n  tunesmith run job.yaml --output json > result.json\n"
        "  envsubst < job.yaml | tunesmith run -",
    )
    parser.add_argument("file", **_JOB_FILE)
    add_home(parser)
    parser.add_argument(
        "--until",
        metavar="STAGE",
        choices=CATALOG.names,
        help=f"stop after this stage: {', '.join(CATALOG.names)} (default: after the last)",
    )
    forced = "do again what is done, without earlier checkpoints"
    parser.add_argument("--force", action="store_true", help=forced)
    parser.add_argument(
        "--from",
        metavar="STAGE",
        dest="forced_from",
        choices=CATALOG.names,
        help="with --force: only this stage and those after it (default: from the first)",
    )
    parser.add_argument(
        "--serve", action="store_true", help="serve the published model when the job is done"
    )
    parser.add_argument(
        "--metrics-port",
        metavar="PORT",
        type=port,
        help="serve training's metrics for Prometheus there, on this machine alone (default: not)",
    )
    add_output(parser)


def _retry(commands: Any) -> None:
    parser = commands.add_parser(
        "retry",
        help="take a failed job of a cluster up again",
        description="Have the operator take a failed job up again, with all that is done, in the "
        "cluster that kubectl talks to. On one machine that is to run the job again.",
        examples="  tunesmith retry helpdesk\n  tunesmith retry helpdesk --namespace ml",
    )
    parser.add_argument("job", metavar="JOB", help="name of the job")
    parser.add_argument(
        "--namespace", metavar="NAMESPACE", help="namespace of the job (default: kubectl's)"
    )
    add_home(parser)


def _validate(commands: Any) -> None:
    parser = commands.add_parser(
        "validate",
        help="check manifests without running anything",
        description="Check manifests against every rule. Nothing is fetched, nothing is run.",
        examples="  tunesmith validate job.yaml deployment.yaml\n"
        "  tunesmith validate jobs/*.yaml --output json",
    )
    kinds = ", ".join(kind.name for kind in KINDS)
    parser.add_argument(
        "files",
        metavar="FILE",
        type=Path,
        nargs="+",
        help=f"manifests of any kind, - for stdin: {kinds}",
    )
    parser.add_argument(
        "--here",
        action="store_true",
        help="refuse jobs that ask for more accelerators than this machine has",
    )
    add_output(parser)


def _plan(commands: Any) -> None:
    parser = commands.add_parser(
        "plan",
        help="show what a run would do, with every default and what it would need",
        description="Show the stages of a job with their keys and whether they are done already, "
        "every setting that a run would use, and an estimate of the memory and disk it needs. "
        "Data is read to work out the keys; nothing is run.",
        examples="  tunesmith plan job.yaml\n  tunesmith plan job.yaml --output json",
    )
    parser.add_argument("file", **_JOB_FILE)
    add_home(parser)
    add_output(parser)


def _status(commands: Any) -> None:
    parser = commands.add_parser(
        "status",
        help="show how far a job is, or list all jobs",
        description="Show the stages, numbers and warnings of a job; without JOB, list all jobs.",
        examples="  tunesmith status\n  tunesmith status helpdesk\n"
        "  tunesmith status helpdesk --output json",
    )
    parser.add_argument("job", metavar="JOB", nargs="?", help="name of a job (default: list all)")
    add_home(parser)
    add_output(parser)


def _logs(commands: Any) -> None:
    parser = commands.add_parser(
        "logs",
        help="print what the stages of a job wrote",
        description="Print the output of every attempt of a job's stages, oldest first.",
        examples="  tunesmith logs helpdesk\n  tunesmith logs helpdesk train -f\n"
        "  tunesmith logs helpdesk train --attempt 1",
    )
    parser.add_argument("job", metavar="JOB", help="name of the job")
    parser.add_argument("stage", metavar="STAGE", nargs="?", help="only this stage")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on printing until the run ends"
    )
    parser.add_argument(
        "--attempt", metavar="N", type=attempt, help="only this attempt, counted from 1"
    )
    add_home(parser)


def _report(commands: Any) -> None:
    parser = commands.add_parser(
        "report",
        help="write the report of a job and print where it is",
        description="Write the report of a job as one HTML page that fetches nothing, and print "
        "its path. It shows whatever the job has reached so far.",
        examples='  tunesmith report helpdesk\n  xdg-open "$(tunesmith report helpdesk)"',
    )
    parser.add_argument("job", metavar="JOB", help="name of the job")
    add_home(parser)


def _serve(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve a published model with vLLM",
        description="Start vLLM's OpenAI server on a published model, with the settings that the "
        "verify stage proved. Ctrl-C ends it.",
        examples="  tunesmith serve helpdesk\n"
        "  tunesmith serve ~/.tunesmith/models/helpdesk/1a2b3c --port 8001",
    )
    parser.add_argument(
        "model", metavar="JOB|FOLDER", help="name of a job, or the folder of a published version"
    )
    parser.add_argument(
        "--host", metavar="ADDRESS", default="127.0.0.1", help="address (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port", metavar="PORT", type=port, default=8000, help="TCP port (default: 8000)"
    )
    parser.add_argument(
        "--public-key",
        metavar="FILE",
        action="append",
        default=[],
        type=Path,
        help="serve only what was signed with this key, in PEM; several: with any of them",
    )
    add_home(parser)


def _deploy(commands: Any) -> None:
    parser = commands.add_parser(
        "deploy",
        help="serve a model behind one address, and try out each new version",
        description="Serve the newest published version of a model. A version that is published "
        "meanwhile gets a growing part of the requests, and is promoted or taken back by what they "
        "show. The state goes to stderr. Ctrl-C lets running requests end and stops; twice, at "
        "once. The same command goes on, after kill -9, too.",
        examples="  tunesmith deploy deployment.yaml\n"
        "  tunesmith deploy deployment.yaml --until settled",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the manifest of the deployment")
    add_home(parser)
    parser.add_argument(
        "--prometheus",
        metavar="URL",
        type=prometheus_address,
        help="where rollout.analysis.queries are asked; needed only with them",
    )
    parser.add_argument(
        "--until",
        choices=("serving", "settled"),
        help="stop as soon as a version answers, or as no rollout goes on; for a test "
        "(default: at Ctrl-C)",
    )
    parser.add_argument(
        "--page-port",
        metavar="PORT",
        type=port,
        help="TCP port of the page that shows latency, cost, split and drift live, on the loopback "
        f"interface (default: {PAGE_PORT}, or a free one where that is taken)",
    )


def _rollout(commands: Any) -> None:
    parser = commands.add_parser(
        "rollout",
        help="see or steer the rollout of a deployment on this machine",
        description="See or steer the rollout of what `tunesmith deploy` serves. `pause` holds the "
        "weights until `resume`; a candidate that fails is still taken back. In a cluster: kubectl "
        "get mdep NAME, and kubectl annotate --overwrite mdep NAME tunesmith.dev/rollout=pause, "
        "'promote VERSION' or 'abort VERSION'.",
        examples="  tunesmith rollout status helpdesk\n  tunesmith rollout pause helpdesk\n"
        "  tunesmith rollout promote helpdesk 1a2b3c4d5e6f\n"
        "  tunesmith rollout status helpdesk --output json",
    )
    parser.add_argument(
        "action",
        metavar="ACTION",
        choices=("status", "pause", "resume", "promote", "abort"),
        help="status, pause, resume, promote or abort",
    )
    parser.add_argument("name", metavar="NAME", help="name of the deployment")
    parser.add_argument(
        "version",
        metavar="VERSION",
        nargs="?",
        help="the candidate that is meant; promote and abort need it",
    )
    add_home(parser)
    add_output(parser)


def _watch(commands: Any) -> None:
    parser = commands.add_parser(
        "watch",
        help="see latency, errors, split, cost and drift of a deployment live",
        description="Show who serves a deployment, the requests of the last half minute by "
        "version, the judge's evidence, promises, cost and drift, until Ctrl-C. On a terminal it "
        "is drawn over and over, elsewhere written again and again. With --namespace the "
        "deployment is one of the cluster that kubectl talks to.",
        examples="  tunesmith watch helpdesk\n  tunesmith watch helpdesk --namespace ml\n"
        "  tunesmith watch helpdesk --once\n  tunesmith watch helpdesk --output json",
    )
    parser.add_argument("name", metavar="NAME", help="name of the deployment")
    parser.add_argument(
        "--once",
        action="store_true",
        help="look for some seconds, write it once, and end: with 0 where requests are answered, "
        "with 1 where nobody answers them",
    )
    parser.add_argument(
        "--namespace",
        metavar="NAMESPACE",
        help="namespace of the deployment in a cluster (default: it is on this machine)",
    )
    add_home(parser)
    parser.add_argument(
        "--output",
        choices=("text", "json"),
        default="text",
        help="text for people, or one JSON object on stdout, which is --once, too (default: text)",
    )


def _chat(commands: Any) -> None:
    parser = commands.add_parser(
        "chat",
        help="talk to the model of a finished job, or to what is deployed on this machine",
        description="Send each line of stdin to the model as the next message of one "
        "conversation, and print the answer as it comes. On a terminal the version that answered "
        "is shown below it. NAME is a deployment that is served, or else a job, whose published "
        "version is served as long as the conversation lasts. Ends with the end of stdin, or "
        "Ctrl-C.",
        examples="  tunesmith chat helpdesk\n"
        "  echo 'My printer does not print.' | tunesmith chat helpdesk",
    )
    parser.add_argument("name", metavar="NAME", help="name of a deployment or a job")
    parser.add_argument(
        "--conversation-id",
        metavar="ID",
        help="one conversation stays with one version (default: a new one)",
    )
    parser.add_argument(
        "--max-tokens",
        metavar="N",
        type=token_count,
        default=512,
        help="the most tokens of one answer (default: 512)",
    )
    parser.add_argument(
        "--api-key-file",
        metavar="FILE",
        type=Path,
        help="file with the API key (default: the secret that the deployment names)",
    )
    add_home(parser)


def _judge(commands: Any) -> None:
    parser = commands.add_parser(
        "judge",
        help="show how the verdict on a recorded rollout came about",
        description="Judge the recording of a rollout again, and show the effects, their bounds "
        "and the evidence as they stood at looks up to the verdict. The exit code is 0 for "
        "promote, 1 for rollback and 3 where nothing was settled.",
        examples="  tunesmith judge replay rollout.jsonl\n"
        "  tunesmith judge replay rollout.jsonl --output json",
    )
    # A word and no parser of its own, for the tree of commands is one level deep.
    parser.add_argument(
        "action", metavar="replay", choices=("replay",), help="judge what was recorded"
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the recording, in JSON Lines")
    add_output(parser)


def _crds(commands: Any) -> None:
    parser = commands.add_parser(
        "crds",
        help="print the CustomResourceDefinitions",
        description="Print the CustomResourceDefinitions, or write one file for each.",
        examples="  tunesmith crds | kubectl apply --server-side -f -\n"
        "  tunesmith crds --directory charts/tunesmith/files/crds",
    )
    parser.add_argument(
        "--directory", metavar="DIR", type=Path, help="write files there instead of printing"
    )


def _operator(commands: Any) -> None:
    parser = commands.add_parser(
        "operator",
        help="run the jobs of a Kubernetes cluster",
        description="Run the FineTuneJobs of a Kubernetes cluster, inside it or beside it "
        "(KUBECONFIG). Several may run; one of them works. Needs the extra tunesmith[operator].",
        examples="  tunesmith operator --trainer-image trainer:1 --compressor-image compressor:1 "
        "--server-image server:1 --edge-image edge:1",
    )
    # The module cannot have the name of Python's own `operator`.
    parser.set_defaults(command="operate")
    add_flags(parser)
