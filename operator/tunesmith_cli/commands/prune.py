"""`tunesmith prune`: remove what earlier versions of a job have left on disk.

The engine decides what may go, in `tunesmith_engine.local.pruning`.
"""

import argparse
import json
import sys

from pydantic import JsonValue

from tunesmith_cli.errors import EXIT_DONE
from tunesmith_cli.formats import counted, size
from tunesmith_cli.inputs import find_job
from tunesmith_cli.terminal.style import table
from tunesmith_engine.local.errors import JobBusy
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.pruning import StaleStage, prune_job

# The stage folders that went, each with the name of its job.
Pruned = list[tuple[str, StaleStage]]


def run(options: argparse.Namespace) -> int:
    """Prune one job, or all that do not run now."""
    home = HomeFolder(options.home)
    if options.job is None:
        pruned = _prune_all(home, is_dry_run=options.dry_run)
    else:
        name = find_job(options.job, root=options.home).name
        # A job that was named and runs is an error; among all of them it is passed over.
        pruned = [(name, old) for old in prune_job(home, name, is_dry_run=options.dry_run)]
    if options.output == "json":
        print(json.dumps(pruned_as_json(pruned, is_dry_run=options.dry_run), indent=1))
    else:
        print(pruned_as_text(pruned, is_dry_run=options.dry_run))
    return EXIT_DONE


def _prune_all(home: HomeFolder, *, is_dry_run: bool) -> Pruned:
    pruned: Pruned = []
    for name in home.list_jobs():
        try:
            stages = prune_job(home, name, is_dry_run=is_dry_run)
        except JobBusy as busy:
            print(f"left alone: {busy.message}", file=sys.stderr)
            continue
        pruned += [(name, old) for old in stages]
    return pruned


def pruned_as_text(pruned: Pruned, *, is_dry_run: bool) -> str:
    """What went, or would go, and how much space that makes."""
    if not pruned:
        return "nothing to remove: every stage folder belongs to the job as it is now"
    rows = [(name, old.stage, old.key, size(old.num_bytes)) for name, old in pruned]
    total = size(sum(old.num_bytes for _, old in pruned))
    verb = "would remove" if is_dry_run else "removed"
    folders = counted(len(pruned), "stage folder")
    return f"{table([('job', 'stage', 'key', 'size'), *rows])}\n\n{verb} {folders}, {total}"


def pruned_as_json(pruned: Pruned, *, is_dry_run: bool) -> dict[str, JsonValue]:
    """The one object that `prune --output json` prints."""
    return {
        "dryRun": is_dry_run,
        "bytes": sum(old.num_bytes for _, old in pruned),
        "stages": [
            {
                "job": name,
                "stage": old.stage,
                "key": old.key,
                "path": str(old.path),
                "bytes": old.num_bytes,
            }
            for name, old in pruned
        ],
    }
