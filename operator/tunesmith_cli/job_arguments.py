"""Commands that begin a job or look after jobs and models of the home folder, with their options.

`arguments.py` has the rest of the tree.
"""

from pathlib import Path
from typing import Any

from tunesmith_cli.options import add_home, add_output, port, row_number
from tunesmith_cli.ui import UI_PORT

SHELLS = ("bash", "zsh", "fish")


def init(commands: Any) -> None:
    """`tunesmith init`."""
    parser = commands.add_parser(
        "init",
        help="write the manifest of a new job, with comments",
        description="Write a manifest that is complete and explains itself. On a terminal it asks "
        "for what no option says; elsewhere --data is needed, and the rest has defaults. Format "
        "and columns are told by the first row of data that lies here. Nothing is fetched, and a "
        "file that is there stays.",
        examples="  tunesmith init\n"
        "  tunesmith init tickets.yaml --data data/tickets.jsonl\n"
        "  tunesmith init --data 'data/*.csv' --columns prompt=question,completion=answer",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        nargs="?",
        default=Path("job.yaml"),
        help="the manifest to write (default: job.yaml)",
    )
    parser.add_argument(
        "--data", metavar="URI|PATH", help="the training rows: a file, a pattern with *, or a URI"
    )
    parser.add_argument(
        "--base-model",
        metavar="URI|PATH",
        help="the model to begin from (default: hf://HuggingFaceTB/SmolLM2-135M-Instruct)",
    )
    parser.add_argument(
        "--name", metavar="NAME", help="name of job and model (default: that of the data)"
    )
    parser.add_argument(
        "--method", choices=("lora", "full"), help="adapters, or all weights (default: lora)"
    )
    parser.add_argument(
        "--scheme",
        choices=("W8A8", "W4A16", "none"),
        help="how the model is quantized (default: W8A8)",
    )
    parser.add_argument(
        "--columns",
        metavar="NAME=COLUMN,…",
        help="columns of the data for the names of a format: prompt=question,completion=answer",
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")


def convert(commands: Any) -> None:
    """`tunesmith convert`."""
    parser = commands.add_parser(
        "convert",
        help="turn a configuration of Axolotl or LLaMA-Factory into a manifest",
        description="Print the manifest of the job that a plain configuration of Axolotl or "
        "LLaMA-Factory describes. What has no counterpart is named as a comment and on stderr, "
        "never guessed.",
        examples="  tunesmith convert axolotl.yaml > job.yaml",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the configuration")


def jobs(commands: Any) -> None:
    """`tunesmith jobs`."""
    parser = commands.add_parser(
        "jobs",
        help="list all jobs: phase, progress, held-out loss, version, age",
        description="List the jobs of the home folder, the newest first. In a cluster: "
        "kubectl tunesmith jobs.",
        examples="  tunesmith jobs\n  tunesmith jobs --output json",
    )
    add_home(parser)
    add_output(parser)


def compare(commands: Any) -> None:
    """`tunesmith compare`."""
    parser = commands.add_parser(
        "compare",
        help="lay two jobs side by side: settings, curves, evaluation, size, speed",
        description="Show what differs between two jobs, and what came of it. Differences of a "
        "measure have a paired interval where both jobs were measured on the same rows. --html "
        "writes it as one page that fetches nothing.",
        examples="  tunesmith compare helpdesk helpdesk-2\n"
        "  tunesmith compare helpdesk helpdesk-2 --html comparison.html\n"
        "  tunesmith compare helpdesk helpdesk-2 --output json",
    )
    parser.add_argument("first", metavar="JOB", help="the job that is compared with")
    parser.add_argument("second", metavar="OTHER", help="the job whose differences are shown")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the page there, too")
    add_home(parser)
    add_output(parser)


def data(commands: Any) -> None:
    """`tunesmith data`."""
    parser = commands.add_parser(
        "data",
        help="show what cleaning would remove or change, before anything is trained",
        description="Read and clean data as a job would, and show the rows of each rule of "
        "dataset.cleaning: how many, and where they stand. FILE is a manifest, or a file of data, "
        "which is cleaned with every default; of a JOB it shows what was found when its data was "
        "prepared. Nothing is kept.",
        examples="  tunesmith data job.yaml\n  tunesmith data tickets.jsonl --show\n"
        "  tunesmith data helpdesk --output json",
    )
    parser.add_argument(
        "data", metavar="FILE|JOB", help="a manifest (- for stdin), a file of data, or a job"
    )
    parser.add_argument(
        "--show", action="store_true", help="print the first three rows of each rule, too"
    )
    add_home(parser)
    add_output(parser)


def explain(commands: Any) -> None:
    """`tunesmith explain`."""
    parser = commands.add_parser(
        "explain",
        help="show which parts of a prompt move a model's answer, and how faithful that is",
        description="Of a job whose spec has evaluation.explain, show what was found of its "
        "held-out rows, or of one of them. With TEXT, explain at once what the model of a job, or "
        "the one that a deployment here serves, answers to it: nats per answer token that each "
        "part of the text adds. Quantized models are explained by the weights they were made from.",
        examples="  tunesmith explain helpdesk\n  tunesmith explain helpdesk --row 12 --show\n"
        "  tunesmith explain helpdesk 'My printer does not print.'\n"
        "  tunesmith explain helpdesk 'My printer does not print.' --answer 'Turn it on.'",
    )
    parser.add_argument("name", metavar="JOB|DEPLOYMENT", help="name of a job or a deployment")
    parser.add_argument("text", metavar="TEXT", nargs="?", help="a user's words to explain")
    parser.add_argument(
        "--row", metavar="N", type=row_number, help="a held-out row that was explained"
    )
    parser.add_argument("--show", action="store_true", help="with --row: print its words, too")
    parser.add_argument(
        "--answer",
        metavar="TEXT",
        help="the answer whose likelihood is explained (default: what the model says)",
    )
    parser.add_argument(
        "--units",
        choices=("auto", "turns", "sentences", "words", "tokens"),
        help="what TEXT is taken apart into (default: auto)",
    )
    add_home(parser)
    add_output(parser)


def models(commands: Any) -> None:
    """`tunesmith models`."""
    parser = commands.add_parser(
        "models",
        help="list the published versions of all models",
        description="List what was published on this machine, the newest version of each model "
        "first, with the job that made it. Versions at an output.uri elsewhere are listed as far "
        "as their job is here.",
        examples="  tunesmith models\n  tunesmith models helpdesk --output json",
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="only this model (default: all)")
    add_home(parser)
    add_output(parser)


def search(commands: Any) -> None:
    """`tunesmith search`."""
    parser = commands.add_parser(
        "search",
        help="show what a search of settings would start from, or export what it tried",
        description="advise: show which earlier jobs of the home folder are near to a job, and "
        "which of their settings its search would try first, within its spec.search; without one, "
        "within the rate, the batch size, the epochs and the rank. Nothing is run. In a cluster "
        "nothing is remembered yet. export: copy the trials of a job's search into FILE, a journal "
        "of Optuna, which optuna-dashboard opens.",
        examples="  tunesmith search advise job.yaml\n  tunesmith search advise helpdesk\n"
        "  tunesmith search advise helpdesk --output json\n"
        "  tunesmith search export helpdesk helpdesk.journal",
    )
    # A word and no parser of its own, for the tree of commands is one level deep.
    parser.add_argument(
        "action",
        metavar="advise|export",
        choices=("advise", "export"),
        help="what memory would propose, or a copy of the trials",
    )
    parser.add_argument(
        "job", metavar="JOB|FILE", help="a job of the home folder, or a manifest (- for stdin)"
    )
    parser.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", help="where export writes; it must not exist"
    )
    add_home(parser)
    add_output(parser)


def delete(commands: Any) -> None:
    """`tunesmith delete`."""
    parser = commands.add_parser(
        "delete",
        help="delete a job with its stages, logs and report",
        description="Delete what the home folder holds of a job, and say how much that frees. The "
        "models that it has published stay. Asks before; a job that runs is refused.",
        examples="  tunesmith delete helpdesk\n  tunesmith delete helpdesk old-1 --yes",
    )
    parser.add_argument("jobs", metavar="JOB", nargs="+", help="name of a job")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_home(parser)


def prune(commands: Any) -> None:
    """`tunesmith prune`."""
    parser = commands.add_parser(
        "prune",
        help="free the disk of what nothing needs any more",
        description="Remove the stage folders of keys that a job no longer has, since its manifest "
        "or its data changed, the checkpoints of trainings that are done, and what killed commands "
        "left half written. Results, logs and published models stay; a job that runs is left "
        "alone. --cache removes downloads and converted models, too: the next run that needs one "
        "makes it again.",
        examples="  tunesmith prune --dry-run\n  tunesmith prune helpdesk\n"
        "  tunesmith prune --cache --dry-run",
    )
    parser.add_argument("job", metavar="JOB", nargs="?", help="name of a job (default: all jobs)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    parser.add_argument(
        "--cache", action="store_true", help="what can be fetched or converted again, too"
    )
    add_home(parser)
    add_output(parser)


def ui(commands: Any) -> None:
    """`tunesmith ui`."""
    parser = commands.add_parser(
        "ui",
        help="a page of all jobs, their reports and their progress, in the browser",
        description="Serve a page of the home folder to browsers on this machine until Ctrl-C: all "
        "jobs with live progress, their reports, comparisons and the published models. It changes "
        "nothing. The address holds a key, so that other users of the machine do not see it.",
        examples="  tunesmith ui\n  tunesmith ui --port 8092",
    )
    parser.add_argument(
        "--port",
        metavar="PORT",
        type=port,
        help=f"TCP port on the loopback interface (default: {UI_PORT}, or a free one where that is "
        "taken)",
    )
    add_home(parser)


def completion(commands: Any) -> None:
    """`tunesmith completion`."""
    parser = commands.add_parser(
        "completion",
        help="print a script that lets a shell complete commands, options and names",
        description="Print the completion script of a shell; put it where the examples show.",
        examples="  source <(tunesmith completion bash)\n  source <(tunesmith completion zsh)\n"
        "  tunesmith completion fish > ~/.config/fish/completions/tunesmith.fish",
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")
