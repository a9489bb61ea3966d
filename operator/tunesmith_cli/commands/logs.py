"""`tunesmith logs`: what the stages of a job wrote, oldest attempt first, and as they write it."""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.complaints import near_match
from tunesmith_cli.jobs import KnownJob, find_job
from tunesmith_cli.refusal import EXIT_DONE, Refusal
from tunesmith_engine.stages.catalog import CATALOG

_POLL_S = 0.3
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Log:
    """The log of one attempt."""

    stage: str
    attempt: int
    path: Path


def run(options: argparse.Namespace) -> int:
    """Print every log that was asked for; with `--follow` until no run goes on."""
    stage = _stage(options.stage)
    job = find_job(options.job, home=options.home)
    printer = _Printer()
    while True:
        is_running = options.follow and job.home.is_running(job.name)
        logs = list(_logs(job, stage=stage, attempt=options.attempt))
        for log in logs:
            printer.print_new(log)
        if not is_running:
            break
        time.sleep(_POLL_S)
        job = find_job(options.job, home=options.home)
    if not logs:
        raise Refusal(_nothing(job, stage=stage, attempt=options.attempt))
    return EXIT_DONE


class _Printer:
    """Prints what was added to the logs since the last look."""

    def __init__(self) -> None:
        self._printed: dict[Path, int] = {}
        self._current: Path | None = None

    def print_new(self, log: Log) -> None:
        with log.path.open("rb") as file:
            file.seek(self._printed.get(log.path, 0))
            while chunk := file.read(_CHUNK):
                self._announce(log)
                sys.stdout.buffer.write(chunk)
                self._printed[log.path] = file.tell()
        sys.stdout.flush()

    def _announce(self, log: Log) -> None:
        if self._current != log.path:
            self._current = log.path
            print(f"==> {log.stage}, attempt {log.attempt} <==", flush=True)


def _stage(given: str | None) -> str | None:
    names = [str(name) for name in CATALOG.names]
    if given is None or given in names:
        return given
    near = near_match(given, names)
    hint = f"did you mean '{near}'?" if near else f"the stages are {', '.join(names)}"
    raise Refusal(f"no stage '{given}'; {hint}")


def _logs(job: KnownJob, *, stage: str | None, attempt: int | None) -> Iterator[Log]:
    """Those of the keys that the job has now, in the order of stages and attempts."""
    for each in job.status.stages:
        if stage not in {None, each.name}:
            continue
        for found in job.home.stage(job.name, stage=each.name, key=each.key).attempts():
            if attempt in {None, found.number} and found.log.is_file():
                yield Log(stage=each.name, attempt=found.number, path=found.log)


def _nothing(job: KnownJob, *, stage: str | None, attempt: int | None) -> str:
    known = ", ".join(
        f"{each.stage} {each.attempt}" for each in _logs(job, stage=None, attempt=None)
    )
    wanted = f"{stage or 'any stage'}{f', attempt {attempt}' if attempt else ''}"
    hint = f"there are {known}" if known else "no stage was started yet"
    return f"no log of {wanted} of job '{job.name}'; {hint}"
