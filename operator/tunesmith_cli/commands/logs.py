"""`tunesmith logs`: what the stages of a job wrote, oldest attempt first, and as they write it."""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.validation_errors import near_match
from tunesmith_cli.errors import EXIT_DONE, CommandError
from tunesmith_cli.inputs import StoredJob, find_job
from tunesmith_cli.terminal.plain_log import PlainLog
from tunesmith_cli.terminal.style import style_of
from tunesmith_engine.stages.catalog import CATALOG

# Seconds between two looks with --follow: at once for a person, and no load.
_POLL_S = 0.3
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Log:
    """The log of one attempt."""

    stage: str
    attempt: int
    path: Path


def run(options: argparse.Namespace) -> int:
    """Print every log that was asked for; with `--follow` until no run goes on.

    Raises:
        CommandError: there is no such stage, or nothing was logged.
    """
    _check_stage(options.stage)
    job = find_job(options.job, root=options.home)
    # On a terminal a log looks as its libraries meant it.
    printer = LogPrinter(is_plain=not style_of(sys.stdout).has_colour)
    while True:
        # NB: looked up before the logs are read. A run that ends in between has then written its
        # last line already; the other way round that line would never be printed.
        is_running = options.follow and job.home.is_running(job.name)
        logs = list(_logs(job, stage=options.stage, attempt=options.attempt))
        for log in logs:
            printer.print_new(log)
        if not is_running:
            printer.end()
            break
        time.sleep(_POLL_S)
        # The status anew: the next stage or attempt may have begun.
        job = find_job(options.job, root=options.home)
    if logs:
        return EXIT_DONE
    wanted = options.stage or "any stage"
    if options.attempt:
        wanted += f", attempt {options.attempt}"
    known = ", ".join(f"{log.stage} {log.attempt}" for log in _logs(job, stage=None, attempt=None))
    hint = f"there are {known}" if known else "no stage was started yet"
    raise CommandError(f"no log of {wanted} of job '{job.name}'; {hint}")


class LogPrinter:
    """Prints what was added to the logs since the last look."""

    def __init__(self, *, is_plain: bool) -> None:
        self._is_plain = is_plain
        self._plain = PlainLog()
        self._printed: dict[Path, int] = {}
        self._current: Path | None = None

    def print_new(self, log: Log) -> None:
        """Print the rest of a log, with a head where it is another than the last one."""
        # As bytes: a log holds whatever a library or a crash wrote, and not all of it is UTF-8.
        with log.path.open("rb") as file:
            file.seek(self._printed.get(log.path, 0))
            while chunk := file.read(_CHUNK):
                if self._current != log.path:
                    self.end()
                    self._current = log.path
                    # Flushed, for it goes through the text layer, and the log goes below it.
                    print(f"==> {log.stage}, attempt {log.attempt} <==", flush=True)
                sys.stdout.buffer.write(self._plain.add(chunk) if self._is_plain else chunk)
                self._printed[log.path] = file.tell()
        sys.stdout.flush()

    def end(self) -> None:
        """Print what the last log ends with, if that is no whole line."""
        sys.stdout.buffer.write(self._plain.rest())
        sys.stdout.flush()


def _check_stage(name: str | None) -> None:
    names = list(CATALOG.names)
    if name is None or name in names:
        return
    near = near_match(name, names)
    hint = f"did you mean '{near}'?" if near else f"the stages are {', '.join(names)}"
    raise CommandError(f"no stage '{name}'; {hint}")


def _logs(job: StoredJob, *, stage: str | None, attempt: int | None) -> Iterator[Log]:
    """Those of the keys that the job has now, in the order of stages and attempts."""
    for status in job.status.stages:
        if stage not in {None, status.name}:
            continue
        folder = job.home.stage(job.name, stage=status.name, key=status.key)
        for attempted in folder.attempts():
            # An attempt has a folder before its process has opened the log.
            if attempt in {None, attempted.number} and attempted.log.is_file():
                yield Log(stage=status.name, attempt=attempted.number, path=attempted.log)
