"""`tunesmith validate`: whether manifests keep every rule, without fetching or running anything."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from pydantic import JsonValue

from tunesmith_api.manifest import ManifestError, load_job, read_manifest
from tunesmith_cli.errors import EXIT_BAD_INPUT, EXIT_DONE


def run(options: argparse.Namespace) -> int:
    """Check every file; one bad file does not hide the others."""
    said = sys.stderr if options.output == "json" else sys.stdout
    found = [_checked(path, said=said) for path in options.files]
    is_valid = all(each["valid"] for each in found)
    if options.output == "json":
        print(json.dumps({"valid": is_valid, "files": found}, indent=1))
    return EXIT_DONE if is_valid else EXIT_BAD_INPUT


def _checked(path: Path, *, said: TextIO) -> dict[str, JsonValue]:
    try:
        job = load_job(read_manifest(path), source=str(path))
    except ManifestError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        problems: list[JsonValue] = [asdict(problem) for problem in error.problems]
        return {"file": str(path), "valid": False, "job": None, "problems": problems}
    print(f"{path}: FineTuneJob {job.metadata.name} is valid", file=said)
    return {"file": str(path), "valid": True, "job": job.metadata.name, "problems": []}
