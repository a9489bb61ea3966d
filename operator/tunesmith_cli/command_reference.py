"""The page docs/reference/command.md, written from the parser so that it cannot differ from it.

`make docs` writes it; a test refuses a stale page.
"""

import argparse
from collections.abc import Iterator

from tunesmith_cli import kubectl_plugin
from tunesmith_cli.arguments import build_parser
from tunesmith_cli.options import CommandParser

_HEAD = """\
# The command

Written from the command's own parser by `make docs`; do not edit by hand.

Results go to stdout, progress and errors to stderr. With `--output json` stdout holds exactly one
JSON object. Colour is used on terminals only, and not where `NO_COLOR` is set.
"""
_TAIL = """\
## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed, with a reason; see [when a job fails](../task/when-a-job-fails.md) |
| 2 | bad input: the command line, the manifest, the data or the model |
| 3 | not settled: of `judge` alone, see [the judge](../concept/judge.md) |
| 130 | interrupted; the same command goes on |

## The home folder

`--home`, or `$TUNESMITH_HOME`, or `~/.tunesmith`:

| path | what |
|---|---|
| `jobs/NAME/manifest.yaml` | the job as it was last run |
| `jobs/NAME/status.json`, `report.html` | how far it is; the report |
| `jobs/NAME/stages/STAGE/KEY/artifacts/` | what a stage made; shared by its attempts |
| `jobs/NAME/stages/STAGE/KEY/attempts/N/log.txt` | the output of one attempt |
| `deployments/NAME/status.json` | how a deployment stands; its manifest lies beside it |
| `deployments/NAME/recordings/` | what each rollout was judged by, for `tunesmith judge replay` |
| `deployments/NAME/replicas/REVISION-N/log.txt` | the output of one replica |
| `models/MODEL/VERSION/` | published models, unless `spec.output.uri` says otherwise |
| `cache/` | downloads and converted models; `tunesmith prune --cache` removes them |
| `secrets/NAME/KEY` | credentials that a `secretRef` names |

Stages run in the environments `trainer`, `compressor`, `server` and `edge` of the folder `.venvs`
beside the environment that holds the command, or of the folder `$TUNESMITH_ENVIRONMENTS`. For one
that is not there, the command's own environment stands in, if it has the libraries.
"""


def command_page() -> str:
    """The Markdown page of every command, option, exit code and folder."""
    # The plugin's after those of the command, which they are in a cluster.
    parsers = (build_parser(), kubectl_plugin.build_parser())
    commands = "\n".join(
        "\n".join(_section(command))
        for parser in parsers
        for command in subcommands(parser).values()
    )
    return f"{_HEAD}\n{commands}\n{_TAIL}"


def subcommands(parser: argparse.ArgumentParser) -> dict[str, CommandParser]:
    """Every command by its name."""
    for action in parser._actions:  # noqa: SLF001 - argparse shows its tree nowhere else
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            return dict(action.choices)
    return {}


def arguments_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Every argument and option of a command but --help."""
    return [action for action in parser._actions if action.dest != "help"]  # noqa: SLF001 - as above


def _section(parser: CommandParser) -> Iterator[str]:
    description = " ".join((parser.description or "").split())
    yield from (f"## {parser.prog}", "", description, "")
    yield from ("```console", *(f"$ {line}" for line in parser.example_lines), "```", "")
    yield from ("| argument | meaning |", "|---|---|")
    for action in arguments_of(parser):
        yield f"| {_form(action)} | {_escaped(action.help or '')} |"
    yield ""


def _form(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_escaped(str(action.metavar))}`"
    value = action.metavar or "|".join(map(str, action.choices or ()))
    return ", ".join(
        f"`{_escaped(f'{option} {value}'.strip())}`" for option in action.option_strings
    )


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
