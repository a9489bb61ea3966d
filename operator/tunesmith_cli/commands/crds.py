"""`tunesmith crds`: the CustomResourceDefinitions, printed or written to files."""

import argparse
import sys
from pathlib import Path

from tunesmith_api.crds import crd_files, crds_yaml
from tunesmith_cli.errors import EXIT_DONE, CommandError


def run(options: argparse.Namespace) -> int:
    """Print one stream, or write one file for each kind.

    Raises:
        CommandError: the directory cannot be written to.
    """
    directory: Path | None = options.directory
    if directory is None:
        # Not print: the stream is applied as it stands, and ends with its own line end.
        sys.stdout.write(crds_yaml())
        return EXIT_DONE
    for name, text in crd_files().items():
        path = directory / name
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(
                f"{path}: cannot be written ({error.strerror}); give --directory a folder of yours"
            ) from error
        print(path)
    return EXIT_DONE
