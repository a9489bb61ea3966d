"""`tunesmith validate`: whether manifests keep every rule, without fetching or running anything."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn, TextIO

from pydantic import JsonValue

from tunesmith_api.base import ApiModel
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.manifest import ManifestError, Problem, label_of, load_any_kind, read_manifest
from tunesmith_cli.errors import EXIT_BAD_INPUT, EXIT_DONE
from tunesmith_engine.capacity import Shortage, accelerators_here, shortage_of_accelerators


def run(options: argparse.Namespace) -> int:
    """Check every file; one bad file does not hide the others."""
    as_json = options.output == "json"
    # What is valid is a result and goes to stdout, unless that has to hold the one object.
    said = sys.stderr if as_json else sys.stdout
    reports = [check(path, said=said, here=options.here) for path in options.files]
    is_valid = all(report["valid"] for report in reports)
    if as_json:
        print(json.dumps({"valid": is_valid, "files": reports}, indent=1))
    return EXIT_DONE if is_valid else EXIT_BAD_INPUT


def check(path: Path, *, said: TextIO, here: bool = False) -> dict[str, JsonValue]:
    """The report on one file; valid ones are told on `said`, problems on stderr.

    `here` asks whether this machine has the accelerators, too: a manifest may be meant for another.
    """
    try:
        loaded = load_any_kind(read_manifest(path), source=label_of(path))
        lacking = _lacking(loaded)
        if lacking and here:
            _refuse(lacking, source=label_of(path))
        resource = loaded.model_dump(by_alias=True)
    except ManifestError as error:
        # One line for each problem, as compilers write them: `file:line: field: what`, so that
        # editors and CI find the place.
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        problems: list[JsonValue] = [asdict(problem) for problem in error.problems]
        return {
            "file": str(path),
            "valid": False,
            "kind": None,
            "name": None,
            "problems": problems,
        }
    kind, name = resource["kind"], resource["metadata"]["name"]
    print(f"{label_of(path)}: {kind} {name} is valid", file=said)
    if lacking:
        print(f"note: {label_of(path)}: not on this machine: {lacking.message}", file=sys.stderr)
    return {"file": str(path), "valid": True, "kind": kind, "name": name, "problems": []}


def _refuse(lacking: Shortage, *, source: str) -> NoReturn:
    field, _, message = lacking.message.partition(": ")
    raise ManifestError([Problem(f"spec.{field}", 0, message)], source=source)


def _lacking(resource: ApiModel) -> Shortage | None:
    if not isinstance(resource, FineTuneJob):
        return None
    resources = resource.spec.resources
    return shortage_of_accelerators(resources, accelerators_here(resources))
