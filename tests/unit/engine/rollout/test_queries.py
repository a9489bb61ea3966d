"""The user's own queries: bad readings in a row roll back, missing ones never promote."""

from typing import Any

import numpy as np
import pytest

from rollouts import SECONDS, a_rollout, limits_of
from tunesmith_api.modeldeployment.limits import Limits, Metric
from tunesmith_api.modeldeployment.queries import PLACEHOLDERS, MetricQuery, QueryProblem
from tunesmith_engine.deployment.verdicts import in_words
from tunesmith_engine.rollout.judge import Cause, Decision, Verdict, judge
from tunesmith_engine.rollout.queries import QueryCourse, Reading, fill, is_bad
from tunesmith_engine.rollout.recording import Header, Recording, line_of, read_recording

TEXT = 'avg(thumbs_down{version="{{version}}"})'
SAMPLES = a_rollout()


def a_query(**fields: Any) -> MetricQuery:
    return MetricQuery(**{"name": "thumbsDown", "query": TEXT, "minimum_effect": 0.1, **fields})


def limits(**fields: Any) -> Limits:
    return limits_of(Metric.ERRORS, queries=[a_query(**fields)])


def readings(*candidate: float | None, since: float = 60.0) -> list[Reading]:
    """One each 30 s; stable's number is 0.2."""
    return [
        Reading(
            query="thumbsDown",
            time_seconds=since + 30 * index,
            stable=0.2,
            candidate=value,
            problem=QueryProblem.NO_DATA if value is None else None,
        )
        for index, value in enumerate(candidate)
    ]


def verdict(known: list[Reading], **fields: Any) -> Verdict:
    return judge(SAMPLES, limits(**fields), now_seconds=SECONDS, readings=known)


def test_readings_that_hold_let_it_promote() -> None:
    assert verdict(readings(*[0.21] * 18)).decision is Decision.PROMOTE


def test_bad_readings_in_a_row_roll_back() -> None:
    seen = verdict(readings(0.2, 0.4, 0.4, 0.4))

    assert (seen.decision, seen.cause, seen.is_final) == (
        Decision.ROLLBACK,
        Cause.QUERY_WORSE,
        True,
    )
    # The third is at 180 s, and the look at its very end had been taken.
    assert seen.at_seconds == 160.0
    assert in_words(seen, limits()) == (
        "query thumbsDown: 3 bad readings in a row, the last 0.4 against stable's 0.2"
    )


@pytest.mark.parametrize("gap", [0.2, None])
def test_a_good_or_a_missing_reading_begins_the_row_anew(gap: float | None) -> None:
    assert verdict(readings(0.4, 0.4, gap, 0.4, 0.4)).decision is Decision.INCONCLUSIVE


@pytest.mark.parametrize("known", [[], readings(*[None] * 18)])
def test_without_a_number_nothing_is_promoted(known: list[Reading]) -> None:
    seen = verdict(known)

    assert (seen.decision, seen.cause) == (Decision.INCONCLUSIVE, Cause.DEADLINE_EXCEEDED)
    told = in_words(seen, limits())
    assert "3 more good readings in a row of query thumbsDown would settle it" in told
    assert ("NoData" in told) is bool(known)


def test_the_verdict_says_that_it_waits_for_a_query() -> None:
    seen = judge(SAMPLES, limits(), now_seconds=SECONDS - 1)

    assert seen.cause is Cause.QUERY_PENDING


def test_a_query_that_is_not_required_hinders_only_by_bad_readings() -> None:
    assert verdict([], required=False).decision is Decision.PROMOTE
    assert verdict(readings(None), required=False).decision is Decision.PROMOTE
    assert verdict(readings(*[0.2, 0.4] * 9), required=False).cause is not Cause.QUERY_WORSE


def test_readings_of_the_warm_up_do_not_count() -> None:
    assert verdict(readings(0.4, 0.4, 0.4, since=-30.0 + 30.0)[:2]).decision is not (
        Decision.ROLLBACK
    )


@pytest.mark.parametrize(
    ("fields", "stable", "candidate", "expected"),
    [
        ({}, 0.2, 0.29, False),
        ({}, 0.2, 0.31, True),
        ({}, None, 0.31, None),
        ({}, 0.2, None, None),
        ({"worse": "lower"}, 0.9, 0.7, True),
        ({"worse": "lower"}, 0.9, 1.2, False),
        ({"minimum_effect": None, "limit": 0.5}, None, 0.6, True),
        ({"minimum_effect": None, "limit": 0.5}, 0.9, 0.5, False),
        ({"minimum_effect": None, "limit": 0.5, "worse": "lower"}, None, 0.4, True),
        ({"limit": 0.5}, None, 0.6, True),
        ({"limit": 0.5}, None, 0.4, None),
    ],
)
def test_a_reading_is_held_against_its_bounds(
    fields: dict[str, Any],
    stable: float | None,
    candidate: float | None,
    expected: bool | None,  # noqa: FBT001
) -> None:
    reading = Reading(query="thumbsDown", time_seconds=1, stable=stable, candidate=candidate)

    assert is_bad(a_query(**fields), reading) is expected


def test_a_later_reading_never_changes_an_earlier_look() -> None:
    ends = np.arange(70.0, 610.0, 10.0)
    known = readings(0.4, 0.4, 0.2, 0.4, 0.4, 0.4, 0.2)
    whole = QueryCourse(a_query(), known, since_s=60.0, ends_s=ends)
    for num in range(len(known)):
        part = QueryCourse(a_query(), known[:num], since_s=60.0, ends_s=ends)
        # A reading at the very end of a look came after it.
        seen = ends <= known[num].time_seconds
        assert (part.rolls_back()[seen] == whole.rolls_back()[seen]).all()
        assert (part.promotes()[seen] == whole.promotes()[seen]).all()


def test_placeholders_are_filled_in() -> None:
    values = {name: f"{name}-1" for name in PLACEHOLDERS}
    text = " ".join(f"{{{{{name}}}}}" for name in PLACEHOLDERS)

    assert fill(text, values) == " ".join(values.values())


@pytest.mark.parametrize("value", ['v1"} or vector(0) #', "v1\\", "", "{{role}}"])
def test_what_is_no_name_gets_into_no_query(value: str) -> None:
    values = {**dict.fromkeys(PLACEHOLDERS, "a"), "version": value}

    with pytest.raises(ValueError, match="gets into no query"):
        fill(TEXT, values)


def test_a_recording_keeps_readings_and_comes_to_the_same_verdict() -> None:
    known = readings(0.2, None, 0.4, 0.4, 0.4)
    header = Header(tunesmith="0.1.0", stable="v1", candidate="v2", limits=limits())
    lines = list(Recording(header, tuple(SAMPLES), tuple(known)).lines())

    again = read_recording(lines)

    assert again == Recording(header, tuple(SAMPLES), tuple(known))
    assert sum(line == line_of(known[0]) for line in lines) == 1
    replayed = judge(
        again.samples, again.header.limits, now_seconds=SECONDS, readings=again.readings
    )
    assert replayed == verdict(known)


def test_long_queries_fit_into_the_first_line() -> None:
    queries = [a_query(name=f"q{number}", query="é" * 2048, limit=1) for number in range(8)]
    header = Header(
        tunesmith="0", stable="a", candidate="b", limits=limits_of(Metric.ERRORS, queries=queries)
    )

    assert read_recording([line_of(header)]).header == header
