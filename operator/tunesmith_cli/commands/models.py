"""`tunesmith models`: the published versions of all models, or of one."""

import argparse
import json
from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic import JsonValue

from tunesmith_api.validation_errors import near_match
from tunesmith_cli.errors import EXIT_DONE, CommandError
from tunesmith_cli.formats import age, number, size
from tunesmith_cli.model_list import PublishedVersion, published_versions
from tunesmith_cli.terminal.style import plain, table
from tunesmith_engine.local.home_folder import HomeFolder


def run(options: argparse.Namespace) -> int:
    """Print the list.

    Raises:
        CommandError: no version of the model that was named is known.
    """
    versions = published_versions(HomeFolder(options.home))
    if options.model is not None:
        known = sorted({version.model for version in versions})
        versions = [version for version in versions if version.model == options.model]
        if not versions:
            near = near_match(options.model, known)
            hint = f"did you mean '{near}'?" if near else f"known: {', '.join(known) or 'none'}"
            raise CommandError(f"no model '{options.model}' in {options.home}; {hint}")
    if options.output == "json":
        print(json.dumps({"versions": [version_as_json(one) for one in versions]}, indent=1))
    elif versions:
        print(versions_as_text(versions, now=datetime.now(UTC)))
    else:
        print(f"no models in {options.home}; a job that succeeds publishes one: tunesmith run FILE")
    return EXIT_DONE


def versions_as_text(versions: Iterable[PublishedVersion], *, now: datetime) -> str:
    """One line for each version."""
    head = ("model", "version", "scheme", "held-out loss", "size", "age", "job", "")
    rows = [
        (
            one.model,
            one.version,
            one.scheme,
            "" if one.loss is None else number(one.loss),
            "" if one.num_bytes is None else size(one.num_bytes),
            age((now - one.published).total_seconds()) if one.published else "",
            plain(one.job),
            plain(one.problem) or (one.uri if one.folder is None else ""),
        )
        for one in versions
    ]
    return table([head, *rows])


def version_as_json(one: PublishedVersion) -> dict[str, JsonValue]:
    """One version of `models --output json`."""
    return {
        "model": one.model,
        "version": one.version,
        "uri": one.uri,
        "published": one.published.isoformat() if one.published else None,
        "job": one.job or None,
        "scheme": one.scheme or None,
        "bytes": one.num_bytes,
        "heldOutLoss": one.loss,
        "problem": one.problem or None,
    }
