"""`tunesmith crds`: the CustomResourceDefinitions, printed or written to files."""

import argparse
import sys
from pathlib import Path

from tunesmith_api.crds import crd_files, crds_yaml
from tunesmith_cli.errors import EXIT_DONE, Refusal


def run(options: argparse.Namespace) -> int:
    """Print one stream, or write one file for each kind."""
    directory: Path | None = options.directory
    if directory is None:
        sys.stdout.write(crds_yaml())
        return EXIT_DONE
    for name, text in crd_files().items():
        _write(directory / name, text)
        print(directory / name)
    return EXIT_DONE


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Refusal(
            f"{path}: cannot be written ({error.strerror}); give --directory a folder of yours"
        ) from error
