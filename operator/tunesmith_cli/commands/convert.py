"""`tunesmith convert`: a configuration of Axolotl or LLaMA-Factory as a manifest."""

import argparse
import sys

from tunesmith_api.manifest import ManifestError, load_job
from tunesmith_api.yaml_io import YamlError, read_yaml
from tunesmith_cli.conversion import ConversionError, convert
from tunesmith_cli.errors import EXIT_DONE, CommandError


def run(options: argparse.Namespace) -> int:
    """Print the manifest, and on stderr what is open.

    Raises:
        CommandError: the file cannot be read, is of neither tool, or makes no sound job.
    """
    try:
        conversion = convert(read_yaml(options.file.read_text(encoding="utf-8")).value)
        text = conversion.text()
        load_job(text, source=f"what {options.file} becomes")
    except UnicodeDecodeError as error:
        raise CommandError(f"{options.file} is no text in UTF-8") from error
    except YamlError as error:
        raise CommandError(f"{options.file}, line {error.line}: {error.message}") from error
    except ConversionError as error:
        raise CommandError(f"{options.file}: {error}; give a file of one of them") from error
    except ManifestError as error:
        raise CommandError(str(error)) from error
    print(text, end="")
    for point in conversion.open_points:
        print(f"open  {point}", file=sys.stderr)
    return EXIT_DONE
