"""`tunesmith prune`: free the disk of what nothing in the home folder needs any more.

The engine decides what may go, in `tunesmith_engine.local.pruning`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import JsonValue

from tunesmith_cli.errors import EXIT_DONE
from tunesmith_cli.formats import size
from tunesmith_cli.inputs import find_job
from tunesmith_cli.terminal.style import table
from tunesmith_engine.local.errors import JobBusy
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.pruning import Unneeded, prune_job, prune_shared

_WORDS: Final[Mapping[str, str]] = {
    "stage": "stage of an earlier key",
    "checkpoints": "checkpoints of a stage that is done",
    "partial": "half written",
    "cache": "can be fetched or converted again",
}


def run(options: argparse.Namespace) -> int:
    """Prune one job, or all that do not run now and what they share."""
    home = HomeFolder(options.home)
    if options.job is None:
        pruned = list(_prune_all(home, with_cache=options.cache, is_dry_run=options.dry_run))
    else:
        name = find_job(options.job, root=options.home).name
        # A job that was named and runs is an error; among all of them it is passed over.
        pruned = prune_job(home, name, is_dry_run=options.dry_run)
    if options.output == "json":
        print(json.dumps(pruned_as_json(pruned, is_dry_run=options.dry_run), indent=1))
    else:
        print(pruned_as_text(pruned, home=home, is_dry_run=options.dry_run))
    return EXIT_DONE


def _prune_all(home: HomeFolder, *, with_cache: bool, is_dry_run: bool) -> Iterator[Unneeded]:
    for name in home.list_jobs():
        try:
            yield from prune_job(home, name, is_dry_run=is_dry_run)
        except JobBusy as busy:
            print(f"left alone: {busy.message}", file=sys.stderr)
    yield from prune_shared(home, with_cache=with_cache, is_dry_run=is_dry_run)


def pruned_as_text(pruned: list[Unneeded], *, home: HomeFolder, is_dry_run: bool) -> str:
    """What went, or would go, and how much space that makes."""
    if not pruned:
        return "nothing to remove: all that is here belongs to a job as it is now"
    root = home.root.resolve()
    rows = [
        (
            one.job or "-",
            _WORDS[one.kind],
            str(one.path.relative_to(root) if one.path.is_relative_to(root) else one.path),
            size(one.num_bytes),
        )
        for one in pruned
    ]
    total = size(sum(one.num_bytes for one in pruned))
    verb = "would free" if is_dry_run else "freed"
    return f"{table([('job', 'what', 'where', 'size'), *rows])}\n\n{verb} {total}"


def pruned_as_json(pruned: list[Unneeded], *, is_dry_run: bool) -> dict[str, JsonValue]:
    """The one object that `prune --output json` prints."""
    return {
        "dryRun": is_dry_run,
        "bytes": sum(one.num_bytes for one in pruned),
        "removed": [
            {
                "job": one.job or None,
                "kind": one.kind,
                "stage": one.stage or None,
                "key": one.key or None,
                "path": str(one.path),
                "bytes": one.num_bytes,
            }
            for one in pruned
        ],
    }
