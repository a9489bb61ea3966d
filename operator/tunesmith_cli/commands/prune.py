"""`tunesmith prune`: remove what earlier versions of a job have left on disk."""

import argparse
import json
import sys

from tunesmith_cli.formats import counted, size
from tunesmith_cli.jobs import find_job
from tunesmith_cli.refusal import EXIT_DONE
from tunesmith_cli.terminal import table
from tunesmith_engine.local.errors import JobBusy
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.pruning import StaleStage, prune_job

Found = list[tuple[str, StaleStage]]


def run(options: argparse.Namespace) -> int:
    """Prune one job, or all that do not run now."""
    home = HomeFolder(options.home)
    if options.job is None:
        found = _all(home, is_dry_run=options.dry_run)
    else:
        job = find_job(options.job, home=options.home)
        pruned = prune_job(home, job.name, is_dry_run=options.dry_run)
        found = [(job.name, each) for each in pruned]
    if options.output == "json":
        print(json.dumps(_as_json(found, is_dry_run=options.dry_run), indent=1))
    else:
        print(_as_text(found, is_dry_run=options.dry_run))
    return EXIT_DONE


def _all(home: HomeFolder, *, is_dry_run: bool) -> Found:
    found: Found = []
    for name in home.list_jobs():
        try:
            pruned = prune_job(home, name, is_dry_run=is_dry_run)
        except JobBusy as busy:
            print(f"left alone: {busy.message}", file=sys.stderr)
            continue
        found += [(name, each) for each in pruned]
    return found


def _as_text(found: Found, *, is_dry_run: bool) -> str:
    if not found:
        return "nothing to remove: every stage folder belongs to the job as it is now"
    rows = [(name, each.stage, each.key, size(each.num_bytes)) for name, each in found]
    total = size(sum(each.num_bytes for _, each in found))
    verb = "would remove" if is_dry_run else "removed"
    folders = counted(len(found), "stage folder")
    return f"{table([('job', 'stage', 'key', 'size'), *rows])}\n\n{verb} {folders}, {total}"


def _as_json(found: Found, *, is_dry_run: bool) -> dict[str, object]:
    return {
        "dryRun": is_dry_run,
        "bytes": sum(each.num_bytes for _, each in found),
        "stages": [
            {
                "job": name,
                "stage": each.stage,
                "key": each.key,
                "path": str(each.path),
                "bytes": each.num_bytes,
            }
            for name, each in found
        ],
    }
