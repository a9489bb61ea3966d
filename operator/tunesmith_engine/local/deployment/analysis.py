"""The trial of one candidate: its samples are recorded as they come, and judged by the window.

The recording is the memory: a `tunesmith deploy` that was killed reads it again and goes on, and
`tunesmith judge replay` comes to the same verdict.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tunesmith_engine.rollout.judge import Verdict, judge, num_looks
from tunesmith_engine.rollout.merge import Page, SampleMerger
from tunesmith_engine.rollout.queries import Reading
from tunesmith_engine.rollout.recording import (
    Header,
    Recording,
    RecordingError,
    line_of,
    read_recording,
)
from tunesmith_engine.stages.reporter import write_atomically

_LOG = logging.getLogger(__name__)
# Ages are told anew at each reading, so that a request's time moves by what a reading takes.
_JITTER_S = 0.05


class Analysis:
    """One recording that grows; `path` is a file of its own for each rollout."""

    def __init__(self, path: Path, header: Header) -> None:
        known = _read(path)
        # NB: limits that follow the data void every promise: those of the first sample stand.
        self._header = known.header if known else header
        self._path = path
        samples = known.samples if known else ()
        last = samples[-1].time_seconds if samples else 0.0
        self._merger = SampleMerger(samples=samples, until=last)
        self._readings = list(known.readings) if known else []
        # What was recorded before is not taken from the replicas again.
        self._recorded_until = last + _JITTER_S if samples else 0.0
        self._judged_until = 0.0
        self.verdict: Verdict | None = None
        # Whole again, if whoever wrote it was killed in the middle of a line.
        self._rewrite(self._header)

    def after(self, replica: str) -> int:
        """The place behind which a replica is to be asked next."""
        return self._merger.after(replica)

    def add(
        self,
        pages: Iterable[Page],
        *,
        replicas: Collection[str],
        now: float,
        readings: Sequence[Reading] = (),
    ) -> None:
        """Record what is complete by now, and judge at the end of each window.

        `replicas` are all that may tell something; `now` is seconds since the rollout began.
        """
        # A reading counts from now on: what was judged without it is not judged again.
        latest = max(
            self._merger.until, *(known.time_seconds for known in self._readings[-1:]), 0.0
        )
        new = [
            reading.model_copy(update={"time_seconds": max(reading.time_seconds, latest)})
            for reading in readings
        ]
        num_recorded = len(self._merger.samples)
        unknown = [self._without_recorded(page) for page in pages]
        self._merger = self._merger.merge(unknown, replicas=replicas, now=now)
        samples = self._merger.samples[num_recorded:]
        self._readings += new
        if samples or new:
            with self._path.open("a", encoding="utf-8") as file:
                lines = [*map(line_of, samples), *map(line_of, new)]
                file.writelines(f"{line}\n" for line in lines)
        self._judge()

    def close(self) -> None:
        """Write down until when it was judged: a replay looks as often as the judge did."""
        if self._judged_until > 0:
            self._rewrite(self._header.model_copy(update={"ended_seconds": self._judged_until}))

    def _without_recorded(self, page: Page) -> Page:
        earliest = page.read_at - self._recorded_until
        return replace(page, samples=tuple(s for s in page.samples if s["ageSeconds"] < earliest))

    def _judge(self) -> None:
        limits, until = self._header.limits, self._merger.until
        is_news = num_looks(limits, now_seconds=until) > num_looks(
            limits, now_seconds=self._judged_until
        )
        is_settled = self.verdict is not None and self.verdict.is_final
        if not is_settled and (is_news or until >= limits.deadline_seconds):
            self._judged_until = until
            self.verdict = judge(
                self._merger.samples, limits, now_seconds=until, readings=self._readings
            )

    def _rewrite(self, header: Header) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        recording = Recording(header, self._merger.samples, tuple(self._readings))
        write_atomically(self._path, "".join(f"{line}\n" for line in recording.lines()))


def _read(path: Path) -> Recording | None:
    try:
        text = path.read_text(encoding="utf-8")
        # What follows the last end of a line is half of one.
        return read_recording(text[: text.rfind("\n") + 1].splitlines())
    except FileNotFoundError:
        return None
    except (RecordingError, UnicodeDecodeError) as error:
        _LOG.warning("%s is passed over, and judging starts anew: %s", path, error)
        return None
