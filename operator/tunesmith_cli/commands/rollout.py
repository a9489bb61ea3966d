"""`tunesmith rollout`: how a rollout on this machine stands, and what a person wants of it.

What is asked for is stored in the deployment's folder, where `tunesmith deploy` reads it.
"""

import argparse
import json
import sys
from typing import Final, Literal

from pydantic import JsonValue

from tunesmith_cli.errors import EXIT_DONE, CommandError
from tunesmith_cli.inputs import StoredDeployment, find_deployment
from tunesmith_cli.terminal.deployment import status_lines
from tunesmith_cli.terminal.style import Style, style_of
from tunesmith_engine.deployment.observations import Command

Verb = Literal["promote", "abort"]
_DECISIONS: Final[dict[str, Verb]] = {"promote": "promote", "abort": "abort"}


def run(options: argparse.Namespace) -> int:
    """Show the status, or store what is asked for."""
    stored = find_deployment(options.name, root=options.home)
    if options.action in _DECISIONS:
        said = _decide(stored, verb=_DECISIONS[options.action], version=options.version)
    elif options.version is not None:
        raise CommandError(f"{options.action} is of the whole rollout; leave the version out")
    elif options.action == "status":
        return _print_status(stored, as_json=options.output == "json")
    else:
        said = _hold(stored, pause=options.action == "pause")
    if options.output == "json":
        print(json.dumps({"deployment": stored.name, "asked": options.action}, indent=1))
    else:
        print(said)
    return EXIT_DONE


def _print_status(stored: StoredDeployment, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(rollout_as_json(stored), indent=1))
    else:
        print(rollout_as_text(stored, style=style_of(sys.stdout)))
    return EXIT_DONE


def rollout_as_json(stored: StoredDeployment) -> dict[str, JsonValue]:
    """The whole status, whether it is being served, and where its recordings lie."""
    status = stored.status.model_dump(mode="json", by_alias=True)
    return {
        "deployment": stored.name,
        "served": stored.folder.is_served,
        "command": _command(stored),
        **status,
        "recordings": [str(path) for path in sorted(stored.folder.recordings.glob("*.jsonl"))],
    }


def rollout_as_text(stored: StoredDeployment, *, style: Style) -> str:
    """The status, what a person has asked for, and the newest recording."""
    note = "" if stored.folder.is_served else " (nothing serves it now; tunesmith deploy does)"
    lines = [f"{stored.name}: {style.paint(stored.status.phase, 'bold')}{note}"]
    lines += status_lines(stored.status)
    if (command := _command(stored)) is not None:
        lines.append(f"  asked for: {command}")
    recordings = sorted(
        stored.folder.recordings.glob("*.jsonl"), key=lambda path: path.stat().st_mtime
    )
    if recordings:
        lines.append(f"  recording {recordings[-1]}")
    return "\n".join(lines)


def _command(stored: StoredDeployment) -> str | None:
    command = stored.folder.read_command()
    return " ".join(filter(None, (command.verb, command.version))) if command else None


def _decide(stored: StoredDeployment, *, verb: Verb, version: str | None) -> str:
    """Store a decision on the candidate.

    Raises:
        CommandError: nobody would read it, or it is of another version than the candidate.
    """
    _require_served(stored)
    candidate = stored.status.candidate
    if candidate is None:
        raise CommandError(
            f"no rollout of '{stored.name}' goes on, so there is nothing to {verb}; see: "
            f"tunesmith rollout status {stored.name}"
        )
    if version != candidate.version:
        given = f"'{version}' is no candidate" if version else f"{verb} needs the version"
        raise CommandError(
            f"{given}; the candidate is {candidate.version}: "
            f"tunesmith rollout {verb} {stored.name} {candidate.version}"
        )
    stored.folder.write_command(Command(verb, version))
    return f"{stored.name}: {verb} {version} is asked for"


def _hold(stored: StoredDeployment, *, pause: bool) -> str:
    _require_served(stored)
    stored.folder.write_command(Command("pause") if pause else None)
    return f"{stored.name}: {'paused' if pause else 'goes on'}"


def _require_served(stored: StoredDeployment) -> None:
    if not stored.folder.is_served:
        raise CommandError(
            f"nothing serves '{stored.name}' now, so nobody would do it; start: "
            "tunesmith deploy FILE"
        )
