"""`tunesmith init`: a manifest from a few answers, or from options."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tunesmith_api.field_types import DnsLabel
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.manifest import ManifestError, load_job
from tunesmith_cli.commands.plan import data_line
from tunesmith_cli.data_columns import DataColumns, columns_in, listed, look_from
from tunesmith_cli.errors import EXIT_DONE, CommandError
from tunesmith_cli.manifest_template import (
    DEFAULT_BASE_MODEL,
    Wishes,
    manifest_text,
    name_for,
    uri_of,
)
from tunesmith_engine.sources.errors import DATA
from tunesmith_engine.sources.local_paths import local_matches
from tunesmith_engine.stages.reporter import write_atomically

# What is asked, and the answer that Enter gives; the text that was answered.
Ask = Callable[[str, str], str]


def run(options: argparse.Namespace) -> int:
    """Ask for what is missing, and write the manifest."""
    if options.file.exists() and not options.force:
        raise CommandError(f"{options.file} is there already; name another FILE, or give --force")
    is_asked = sys.stdin.isatty()
    wishes = wishes_of(options, ask=_asked if is_asked else _assumed)
    job = _sound_job(wishes, file=options.file)
    found = columns_in(
        job.spec.dataset,
        look=look_from(options.file.resolve().parent),
        ask=_asked if is_asked else None,
    )
    wishes = replace(wishes, format=found.format, columns=found.columns)
    _sound_job(wishes, file=options.file)
    text = manifest_text(wishes)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.file, text)
    print(f"wrote {options.file}, the job '{job.metadata.name}'")
    for line in _told(found):
        print(line)
    print(f"next  tunesmith plan {options.file}")
    return EXIT_DONE


def _sound_job(wishes: Wishes, *, file: Path) -> FineTuneJob:
    try:
        return load_job(manifest_text(wishes), source=str(file))
    except ManifestError as error:
        raise CommandError(str(error)) from error


def _told(found: DataColumns) -> Iterator[str]:
    """What was seen in the data, and made of it."""
    if found.seen is None:
        return
    yield data_line(found.seen)
    if found.columns:
        said = (f"{column} is {name}" for name, column in found.columns.items())
        yield f"columns: {', '.join(said)}"
    if found.seen.unused:
        yield f"not used: {listed(found.seen.unused)}"
    if found.seen.problem is not None:
        yield f"to mend first: {found.seen.problem}"


def wishes_of(options: argparse.Namespace, *, ask: Ask) -> Wishes:
    """What the options say, and `ask` for the rest.

    Raises:
        CommandError: an answer is none.
        SourceError: the data is on this machine and not there.
    """
    base, here = options.file.resolve().parent, Path.cwd()
    data = uri_of(
        options.data or ask("Training rows (a file, a pattern with *, or a URI)", ""),
        base=base,
        here=here,
    )
    if data.startswith("file://"):
        # A typing error in the path is told now, not by the first run.
        local_matches(data, base=base, role=DATA)
    model = options.base_model or ask("Base model", DEFAULT_BASE_MODEL)
    return Wishes(
        name=_checked_name(options.name or ask("Name of job and model", name_for(data))),
        data=data,
        base_model=uri_of(model, base=base, here=here),
        method=_choice(options.method or ask("Method: lora or full", "lora"), ("lora", "full")),
        scheme=_choice(
            options.scheme or ask("Quantized to: W8A8, W4A16 or none", "W8A8"),
            ("W8A8", "W4A16", "none"),
        ),
        columns=columns_of(options.columns or ""),
    )


def columns_of(text: str) -> Mapping[str, str]:
    """`prompt=question,completion=answer`.

    Raises:
        CommandError: a part has no `=`, or nothing on a side of it.
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    for name, _, column in pairs:
        if not name.strip() or not column.strip():
            raise CommandError(
                f"--columns {text}: give NAME=COLUMN, and commas between: "
                "prompt=question,completion=answer"
            )
    return {name.strip(): column.strip() for name, _, column in pairs}


def _asked(question: str, default: str) -> str:
    # On stderr, where progress and questions of all commands go.
    print(f"{question}{f' [{default}]' if default else ''}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() or default


def _assumed(question: str, default: str) -> str:
    if not default:
        raise CommandError(f"{question}: give --data; nobody can be asked without a terminal")
    return default


def _checked_name(text: str) -> str:
    try:
        return TypeAdapter[str](DnsLabel).validate_python(text)
    except ValidationError as error:
        raise CommandError(
            f"'{text}' is no name: use lower-case letters, digits and dashes, 40 at most, "
            "no dash at an end"
        ) from error


def _choice(text: str, choices: tuple[str, ...]) -> str:
    for choice in choices:
        if text.lower() == choice.lower():
            return choice
    raise CommandError(f"'{text}' is none of {', '.join(choices)}")
