"""Progress of a running stage: written by the stage, read by the engine, lost without harm.

A `Reporter` is handed to every stage. `FileReporter` replaces one small JSON file atomically, at
most once every `interval_s`, so that a reader never sees half a record and a fast loop does not
wear out the disk.
"""

import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from tunesmith_api.conditions import MAX_MESSAGE
from tunesmith_api.finetunejob.status import Metric, Progress


class FileReporter:
    """A reporter that keeps the latest progress in one file."""

    def __init__(
        self,
        path: Path,
        *,
        stage: str,
        interval_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._stage = stage
        self._interval_s = interval_s
        self._clock = clock
        self._last_write = -float("inf")
        self._last_message: str | None = None

    def progress(
        self,
        message: str,
        *,
        step: int | None = None,
        total_steps: int | None = None,
        epoch: float | None = None,
        eta_s: float | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Replace the file.

        Unless it was written a moment ago with the same message and more steps are to come.
        """
        if self._is_too_soon(message, is_last=step is not None and step == total_steps):
            return
        record = Progress(
            stage=self._stage,
            step=step,
            total_steps=total_steps,
            epoch=epoch,
            eta_seconds=eta_s,
            message=message[:MAX_MESSAGE],
            metrics=[
                Metric(name=name, value=f"{value:.6g}") for name, value in (metrics or {}).items()
            ],
            last_update_time=datetime.now(UTC),
        )
        self._write(record.model_dump_json(by_alias=True))
        self._last_write, self._last_message = self._clock(), message

    def _write(self, text: str) -> None:
        write_atomically(self._path, text)

    def _is_too_soon(self, message: str, *, is_last: bool) -> bool:
        recent = self._clock() - self._last_write < self._interval_s
        return recent and not is_last and message == self._last_message


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` with `text`: readers see the old file or the new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, since a rename is atomic within one file system only; with the process's
    # number, since two processes of a stage may write the same file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        # Without it a power cut may leave the new name with no content behind it.
        os.fsync(file.fileno())
    temporary.replace(path)
