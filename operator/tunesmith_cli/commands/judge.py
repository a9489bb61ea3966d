"""`tunesmith judge replay`: how the verdict on a recorded rollout came about.

The judge and the form of a recording are the engine's, in `tunesmith_engine.rollout`.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from tunesmith_api.modeldeployment.limits import Limits, Metric
from tunesmith_cli.errors import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INCONCLUSIVE,
    CommandError,
)
from tunesmith_cli.formats import duration, e_value, effect, number
from tunesmith_cli.terminal.style import Style, style_of, table
from tunesmith_engine.deployment.verdicts import in_words
from tunesmith_engine.rollout.breaker import Trip
from tunesmith_engine.rollout.columns import columns_of, window_end_s
from tunesmith_engine.rollout.judge import Analysis, Cause, Decision, Evidence, Verdict
from tunesmith_engine.rollout.queries import QueryEvidence
from tunesmith_engine.rollout.recording import Recording, RecordingError, read_recording

_EXIT_CODES: Final = {
    Decision.PROMOTE: EXIT_DONE,
    Decision.ROLLBACK: EXIT_FAILED,
    Decision.INCONCLUSIVE: EXIT_INCONCLUSIVE,
}
_COLOURS: Final = {
    Decision.PROMOTE: "green",
    Decision.ROLLBACK: "red",
    Decision.INCONCLUSIVE: "yellow",
}
# Looks that the table of the course shows: it has to fit a screen.
_SHOWN_LOOKS: Final = 8


def run(options: argparse.Namespace) -> int:
    """Judge the file again and show it."""
    recording = _read(options.file)
    analysis = Analysis(
        columns_of(recording.samples),
        recording.header.limits,
        now_seconds=recording.end_seconds,
        readings=recording.readings,
    )
    verdict = analysis.verdict()
    if options.output == "json":
        print(json.dumps(replay_as_json(recording, analysis, verdict), indent=1))
    else:
        print(replay_as_text(recording, analysis, verdict, style=style_of(sys.stdout)))
    return _EXIT_CODES[verdict.decision]


def _read(path: Path) -> Recording:
    try:
        with path.open(encoding="utf-8") as lines:
            return read_recording(lines)
    except RecordingError as error:
        raise CommandError(f"{path}, {error}", code=EXIT_BAD_INPUT) from error
    except UnicodeDecodeError as error:
        raise CommandError(
            f"{path} is no text in UTF-8 (byte {error.start}); give a recording in JSON Lines"
        ) from error


def _shown_looks(analysis: Analysis) -> list[int]:
    """Evenly spread looks up to the one that decided, which is the last of them."""
    last = analysis.last_look
    steps = min(_SHOWN_LOOKS, last + 1)
    return sorted({math.ceil((last + 1) * step / steps) - 1 for step in range(1, steps + 1)})


def replay_as_text(
    recording: Recording, analysis: Analysis, verdict: Verdict, *, style: Style
) -> str:
    """The course of the metric that matters most, the evidence at the verdict, the verdict."""
    header = recording.header
    parts = [f"{header.candidate} against {header.stable}, {len(recording.samples):,} requests"]
    if verdict.metric is not None and analysis.last_look >= 0:
        parts.append(_course_table(analysis, verdict.metric))
    if verdict.evidence:
        parts.append(_evidence_table(verdict))
    if verdict.queries:
        parts.append(_query_table(verdict.queries))
    parts.append(_verdict_line(verdict, header.limits, style=style))
    return "\n\n".join(parts)


def _course_table(analysis: Analysis, metric: Metric) -> str:
    """One metric over time, beside the evidence of all metrics against the candidate."""
    head = (metric, "effect", "from", "to", "against", "for", "all against", "verdict")
    rows = []
    for look in _shown_looks(analysis):
        seen = analysis.evidence_at(look, metric)
        decision, _ = analysis.decision_at(look)
        rows.append(
            (
                duration(window_end_s(analysis.limits, look)),
                *(effect(metric, value) for value in (seen.effect, seen.lower, seen.upper)),
                *(e_value(value) for value in (seen.harm, seen.promotion)),
                e_value(analysis.harm_at(look)),
                "-" if decision is Decision.INCONCLUSIVE else decision,
            )
        )
    return table([head, *rows])


def _evidence_table(verdict: Verdict) -> str:
    head = ("metric", "effect", "from", "to", "against", "for", "stable", "candidate")
    rows = [
        (
            seen.metric,
            effect(seen.metric, seen.effect),
            effect(seen.metric, seen.lower),
            effect(seen.metric, seen.upper),
            e_value(seen.harm),
            e_value(seen.promotion),
            f"{seen.num_stable:,}",
            f"{seen.num_candidate:,}",
        )
        for seen in verdict.evidence
    ]
    return table([head, *rows])


def _query_table(queries: Sequence[QueryEvidence]) -> str:
    head = ("query", "stable", "candidate", "bad in a row", "good in a row", "says")
    rows = [
        (
            seen.name,
            *("-" if value is None else number(value) for value in (seen.stable, seen.candidate)),
            str(seen.num_bad),
            str(seen.num_good),
            seen.problem or seen.state,
        )
        for seen in queries
    ]
    return table([head, *rows])


def _verdict_line(verdict: Verdict, limits: Limits, *, style: Style) -> str:
    name = style.paint(verdict.decision, "bold", _COLOURS[verdict.decision])
    when = "" if verdict.at_seconds is None else f" after {duration(verdict.at_seconds)}"
    if verdict.decision is Decision.PROMOTE:
        return f"{name}{when}: no metric is worse by its minimum effect"
    if verdict.cause in {Cause.FAILING, Cause.QUERY_WORSE, Cause.QUERY_PENDING}:
        return f"{name}{when}: {in_words(verdict, limits)}"
    if verdict.decision is Decision.ROLLBACK:
        return f"{name}{when}: the candidate is worse, most clearly in {verdict.metric}"
    why = {
        Cause.DEADLINE_EXCEEDED: "the deadline is over",
        Cause.TOO_FEW_SAMPLES: "there are too few samples of an arm",
    }.get(verdict.cause, "the evidence is not enough yet")
    if verdict.metric is None:
        return f"{name}{when}: {why}"
    if verdict.more_requests is None:
        return f"{name}{when}: {why}; {verdict.metric} has shown nothing to go by"
    return (
        f"{name}{when}: {why}; {verdict.metric} needs about {verdict.more_requests:,} more requests"
    )


def replay_as_json(
    recording: Recording, analysis: Analysis, verdict: Verdict
) -> dict[str, JsonValue]:
    """The one object that `judge replay --output json` prints; `course` has every metric."""
    header = recording.header
    course = [analysis.verdict_at(look) for look in _shown_looks(analysis)]
    return {
        "stable": header.stable,
        "candidate": header.candidate,
        "requests": len(recording.samples),
        "limits": header.limits.model_dump(mode="json", by_alias=True, exclude_none=True),
        "verdict": _verdict_as_json(verdict),
        "course": [_verdict_as_json(earlier) for earlier in course],
    }


def _verdict_as_json(verdict: Verdict) -> dict[str, JsonValue]:
    return {
        "decision": verdict.decision,
        "cause": verdict.cause,
        "final": verdict.is_final,
        "atSeconds": verdict.at_seconds,
        "harm": verdict.harm,
        "metric": verdict.metric,
        "moreRequests": verdict.more_requests,
        "evidence": [_evidence_as_json(seen) for seen in verdict.evidence],
        "failing": None if verdict.trip is None else _trip_as_json(verdict.trip),
        "queries": [_query_as_json(seen) for seen in verdict.queries],
    }


def _trip_as_json(trip: Trip) -> dict[str, JsonValue]:
    return {
        "stable": {"requests": trip.num_stable, "failed": trip.stable},
        "candidate": {"requests": trip.num_candidate, "failed": trip.candidate},
    }


def _query_as_json(seen: QueryEvidence) -> dict[str, JsonValue]:
    return {
        "query": seen.name,
        "state": seen.state,
        "stable": seen.stable,
        "candidate": seen.candidate,
        "problem": seen.problem,
        "badInARow": seen.num_bad,
        "goodInARow": seen.num_good,
    }


def _evidence_as_json(seen: Evidence) -> dict[str, JsonValue]:
    return {
        "metric": seen.metric,
        "effect": seen.effect,
        # JSON has no infinity: no bound is null.
        "lower": seen.lower if math.isfinite(seen.lower) else None,
        "upper": seen.upper if math.isfinite(seen.upper) else None,
        "harm": seen.harm,
        "promotion": seen.promotion,
        "stable": seen.num_stable,
        "candidate": seen.num_candidate,
        "towards": seen.outlook.towards,
        "moreRequests": seen.outlook.more_requests,
    }
