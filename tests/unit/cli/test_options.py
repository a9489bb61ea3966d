"""The command's commands and options; a new one argues for itself here."""

import pytest

from tunesmith_cli.arguments import build_parser
from tunesmith_cli.command_reference import arguments_of, subcommands
from tunesmith_engine.stages.catalog import CATALOG

COMMANDS = {
    "init": {
        "FILE",
        "--data",
        "--base-model",
        "--name",
        "--method",
        "--scheme",
        "--columns",
        "--force",
    },
    "convert": {"FILE"},
    "run": {
        "FILE",
        "--home",
        "--until",
        "--force",
        "--from",
        "--serve",
        "--metrics-port",
        "--output",
    },
    "retry": {"JOB", "--namespace", "--home"},
    "validate": {"FILE", "--here", "--output"},
    "plan": {"FILE", "--home", "--output"},
    # Text of rows only where it is asked for.
    "search": {"advise|export", "JOB|FILE", "FILE", "--home", "--output"},
    "data": {"FILE|JOB", "--show", "--home", "--output"},
    "jobs": {"--home", "--output"},
    "status": {"JOB", "--home", "--output"},
    "logs": {"JOB", "STAGE", "-f", "--follow", "--attempt", "--home"},
    "report": {"JOB", "--home"},
    "explain": {
        "JOB|DEPLOYMENT",
        "TEXT",
        "--row",
        "--show",
        "--answer",
        "--units",
        "--home",
        "--output",
    },
    "compare": {"JOB", "OTHER", "--html", "--home", "--output"},
    "models": {"MODEL", "--home", "--output"},
    "serve": {"JOB|FOLDER", "--host", "--port", "--home", "--public-key"},
    "deploy": {"FILE", "--home", "--page-port", "--prometheus", "--until"},
    "rollout": {"ACTION", "NAME", "VERSION", "--home", "--output"},
    "watch": {"NAME", "--once", "--namespace", "--home", "--output"},
    "chat": {"NAME", "--conversation-id", "--max-tokens", "--api-key-file", "--home"},
    "delete": {"JOB", "--yes", "--home"},
    "ui": {"--port", "--home"},
    "prune": {"JOB", "--dry-run", "--cache", "--home", "--output"},
    "judge": {"replay", "FILE", "--output"},
    "completion": {"SHELL"},
    "crds": {"--directory"},
    "operator": {
        "--trainer-image",
        "--compressor-image",
        "--server-image",
        "--edge-image",
        "--namespace",
        "--workers",
        "--workspace-size",
        "--workspace-class",
        "--prometheus-url",
        "--accelerator-hour-price",
        "--runbook-url",
        "--rule-label",
        "--metrics-port",
        "--health-port",
        "--leader-election-namespace",
        "--leader-election-id",
    },
}


def test_these_are_all_commands_and_options() -> None:
    options = {
        name: {
            text
            for action in arguments_of(parser)
            for text in action.option_strings or [str(action.metavar)]
        }
        for name, parser in subcommands(build_parser()).items()
    }

    assert options == COMMANDS


def test_a_run_may_end_after_every_stage_of_the_catalogue() -> None:
    (until,) = [
        action
        for action in arguments_of(subcommands(build_parser())["run"])
        if action.dest == "until"
    ]

    assert until.choices == CATALOG.names


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_shows_examples_and_exit_codes(name: str) -> None:
    text = subcommands(build_parser())[name].format_help()

    assert f"tunesmith {name}" in text.partition("examples:")[2]
    assert "  130  interrupted" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_says_what_it_means(name: str) -> None:
    assert all(action.help for action in arguments_of(subcommands(build_parser())[name]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["rnu", "job.yaml"], "did you mean 'run'?"),
        (["run", "job.yaml", "--until", "evaluation"], "did you mean 'evaluate'?"),
        (["run"], "the following arguments are required: FILE"),
        (["run", "job.yaml", "--out", "json"], "unrecognized arguments: --out json"),
        (["logs", "helpdesk", "--attempt", "0"], "'0' is no attempt; they count 1, 2, 3 …"),
        (["serve", "helpdesk", "--port", "70000"], "'70000' is no port"),
    ],
)
def test_a_wrong_command_line_says_what_to_mend(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(given)

    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert said in captured.err
