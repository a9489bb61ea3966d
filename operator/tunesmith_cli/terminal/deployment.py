"""A deployment in words: the lines that `deploy` shows while it serves, and `rollout status`."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol, Self, TextIO

from tunesmith_api.conditions import ConditionType
from tunesmith_api.modeldeployment.status import (
    CandidateStatus,
    ModelDeploymentStatus,
    RevisionStatus,
    VerdictStatus,
)
from tunesmith_cli.formats import duration, e_value, effect, number
from tunesmith_cli.terminal.live_screen import LiveScreen
from tunesmith_cli.terminal.style import Style, is_terminal, plain, style_of, table

_COLOURS: Final = {
    "Serving": "green",
    "Failed": "red",
    "RollingBack": "red",
    "promote": "green",
    "rollback": "red",
}
_SHOWN_EVENTS: Final = 5
_SHOWN_REJECTED: Final = 3


class DeploymentDisplay(Protocol):
    """Something that is told every new status, and closed at the end."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def show(self, status: ModelDeploymentStatus) -> None:
        """Take note of the newest status."""

    def say(self, text: str) -> None:
        """Write a line that stays."""


def deployment_display(name: str, *, stream: TextIO) -> DeploymentDisplay:
    """The display that suits the stream."""
    if is_terminal(stream):
        return LiveDeployment(name, stream=stream, style=style_of(stream))
    return DeploymentLines(name, stream=stream)


class DeploymentLines:
    """One line for each event."""

    def __init__(self, name: str, *, stream: TextIO) -> None:
        self._name = name
        self._stream = stream
        self._before: ModelDeploymentStatus | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def show(self, status: ModelDeploymentStatus) -> None:
        """Write what is new."""
        for event in events(self._before, status):
            self.say(event)
        self._before = status

    def say(self, text: str) -> None:
        """Write a line of its own."""
        print(f"{self._name}: {text}", file=self._stream, flush=True)


class LiveDeployment(LiveScreen):
    """Everything of the status, and the last events below it."""

    def __init__(
        self,
        name: str,
        *,
        stream: TextIO,
        style: Style,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stream)
        self._name = name
        self._style = style
        self._clock = clock
        self._begin = clock()
        self._status: ModelDeploymentStatus | None = None
        self._events: deque[tuple[float, str]] = deque(maxlen=_SHOWN_EVENTS)

    def show(self, status: ModelDeploymentStatus) -> None:
        """Draw the status from now on."""
        now = self._clock() - self._begin
        self._events += [(now, event) for event in events(self._status, status)]
        self._status = status

    def lines(self, width: int) -> list[str]:
        """The status and the events, cut to the width."""
        status = self._status
        if status is None:
            return []
        served = duration(self._clock() - self._begin)
        lines = [f"{self._name} · {status.phase} · {served}", *status_lines(status)]
        lines += ["", *(f"{duration(when):>12}  {event}" for when, event in self._events)]
        cut = [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines]
        return [self._style.paint(cut[0], "bold", _COLOURS.get(status.phase, "yellow")), *cut[1:]]


def events(before: ModelDeploymentStatus | None, status: ModelDeploymentStatus) -> Iterator[str]:
    """What a person wants to hear of, between one status and the next."""
    seen = before or ModelDeploymentStatus()
    if status.endpoint and status.endpoint != seen.endpoint:
        yield f"listens at {status.endpoint}"
    if (status.phase, _headline(status)) != (seen.phase, _headline(seen)):
        yield _with_phase(status)
    known = {entry.revision for entry in seen.rejected}
    for entry in status.rejected:
        if entry.revision not in known and before is not None:
            yield f"{entry.version} is taken back ({entry.reason}): {plain(entry.message)}"
    if _identity(status.stable) != _identity(seen.stable) and status.stable is not None:
        yield f"stable is {status.stable.version}"


def status_lines(status: ModelDeploymentStatus) -> list[str]:
    """Why it stands as it does, who serves, who might, and what the judge says."""
    lines = [f"  {headline}"] if (headline := _headline(status)) else []
    head = ("", "version", "weight", "achieved", "ready", "since")
    rows: list[tuple[str, ...]] = [head, *_rows(status)]
    lines += ["", *(f"  {line}" for line in table(rows).splitlines())] if len(rows) > 1 else []
    verdict = status.last_verdict
    if verdict is not None:
        lines += ["", *(f"  {line}" for line in _verdict_lines(verdict))]
    lines += [
        f"  rejected {entry.version}: {entry.reason}, {plain(entry.message)}"
        for entry in status.rejected[-_SHOWN_REJECTED:]
    ]
    if status.endpoint:
        lines += ["", f"  endpoint {status.endpoint}"]
    return lines


def _headline(status: ModelDeploymentStatus) -> str:
    """Reason and message of what is, or hinders, now."""
    ready = next((c for c in status.conditions if c.type == ConditionType.READY), None)
    return f"{ready.reason}: {plain(ready.message)}" if ready else ""


def _with_phase(status: ModelDeploymentStatus) -> str:
    headline = _headline(status)
    is_said = headline.startswith(f"{status.phase}:")
    return headline if is_said else f"{status.phase}, {headline}"


def _identity(revision: RevisionStatus | None) -> str | None:
    return revision.revision if revision else None


def _rows(status: ModelDeploymentStatus) -> Iterator[tuple[str, ...]]:
    named = [("stable", status.stable), ("candidate", status.candidate)]
    for role, revision in [*named, *(("draining", drain) for drain in status.draining)]:
        if revision is None:
            continue
        achieved = revision.achieved_weight
        weight = f"{revision.weight} %"
        if isinstance(revision, CandidateStatus) and revision.mirror:
            weight = f"{revision.mirror} % copies"
        yield (
            role,
            revision.version,
            weight,
            "-" if achieved is None else f"{achieved:.0f} %",
            f"{revision.ready_replicas}/{revision.replicas}",
            f"{revision.since:%H:%M:%S} UTC",
        )


def _verdict_lines(verdict: VerdictStatus) -> list[str]:
    said = f"verdict on {verdict.version}: {verdict.decision} ({verdict.cause}), {verdict.message}"
    head = ("metric", "effect", "from", "to", "against", "for", "stable", "candidate")
    rows = [
        (
            row.metric,
            *(effect(row.metric, value) for value in (row.effect, row.lower, row.upper)),
            e_value(row.harm),
            e_value(row.promotion),
            f"{row.stable:,}",
            f"{row.candidate:,}",
        )
        for row in verdict.evidence
    ]
    lines = [plain(said), *table([head, *rows]).splitlines()] if rows else [plain(said)]
    for row in verdict.queries:
        numbers = [
            "none" if value is None else number(value) for value in (row.candidate, row.stable)
        ]
        why = f" ({row.problem})" if row.problem else ""
        lines.append(f"query {row.query}: {numbers[0]} against {numbers[1]}, {row.state}{why}")
    return lines
