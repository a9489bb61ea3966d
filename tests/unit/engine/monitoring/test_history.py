"""Looks at a deployment, one after the other: rates over the last seconds, points of an hour."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tunesmith_engine.monitoring.history import KEPT_S, WINDOW_S, History
from tunesmith_engine.monitoring.replica_metrics import ReplicaMetrics
from tunesmith_engine.monitoring.sighting import ReplicaSighting, Sighting
from watched import CANDIDATE, NOW, STABLE, STEP_S, counted, report, sighting, status


def replica(num: int, *, uptime: float = 900.0, name: str = "a") -> ReplicaSighting:
    """A replica of the stable version that has answered so many requests."""
    said = report(uptimeSeconds=uptime)
    return ReplicaSighting(name, STABLE, said, ReplicaMetrics(outcomes={"complete": float(num)}))


def rate_after(*looks: Sighting) -> float | None:
    history = History()
    for seen in looks:
        history = history.after(seen)
    assert history.view is not None
    total = history.view.total
    return total.requests_per_second if total else None


def test_one_look_tells_no_rate_and_says_so() -> None:
    history = History().after(sighting(0, replicas=(replica(500),)))

    assert history.view is not None
    assert history.view.total is None
    assert history.view.missing.traffic == "two readings are needed, a few seconds apart"


def test_a_rate_is_what_was_counted_between_two_looks() -> None:
    looks = [sighting(index, replicas=(replica(500 + 20 * index),)) for index in range(3)]

    assert rate_after(*looks) == pytest.approx(20 / STEP_S)


def test_a_restarted_replica_does_not_count_backwards() -> None:
    looks = [
        sighting(0, replicas=(replica(500),)),
        sighting(1, replicas=(replica(10, uptime=2.0),)),
    ]

    assert rate_after(*looks) == pytest.approx(10 / STEP_S)


def test_a_replica_that_was_silent_goes_on_from_what_it_said_last() -> None:
    silent = replace(replica(0), report=None, metrics=None)
    looks = [
        sighting(0, replicas=(replica(500),)),
        sighting(1, replicas=(silent,)),
        sighting(2, replicas=(replica(520),)),
    ]

    assert rate_after(*looks) == pytest.approx(20 / (2 * STEP_S))


def test_a_new_replica_counts_from_its_start_and_an_old_one_that_is_new_to_us_does_not() -> None:
    known = replica(100)
    looks = [sighting(0, replicas=(known,))]
    young = sighting(1, replicas=(known, replica(15, uptime=3.0, name="b")))
    old = sighting(1, replicas=(known, replica(9000, uptime=900.0, name="b")))

    assert rate_after(*looks, young) == pytest.approx(15 / STEP_S)
    assert rate_after(*looks, old) == 0


def test_what_was_long_ago_is_no_rate_any_more() -> None:
    burst = [sighting(0, replicas=(replica(0),)), sighting(1, replicas=(replica(900),))]
    calm = [
        sighting(index, replicas=(replica(900),)) for index in range(2, 3 + int(WINDOW_S / STEP_S))
    ]

    assert rate_after(*burst, *calm) == 0


def test_an_hour_is_kept_and_no_more() -> None:
    history = History()
    num_looks = int(KEPT_S / STEP_S) + 50
    for index in range(num_looks):
        history = history.after(sighting(index))

    assert len(history.points) == KEPT_S / STEP_S
    assert history.points[-1].seq == num_looks


def test_a_clock_that_is_set_back_moves_no_rate() -> None:
    looks = [
        sighting(index, time=NOW - timedelta(hours=index), replicas=(replica(20 * index),))
        for index in range(3)
    ]

    assert rate_after(*looks) == pytest.approx(20 / STEP_S)


def test_points_tell_versions_apart() -> None:
    rows = [(STABLE, 60, 0.1), (CANDIDATE, 20, 0.4)]
    empty = tuple(
        ReplicaSighting(f"{name}-0", name, report(name), ReplicaMetrics()) for name, *_ in rows
    )
    full = tuple(
        ReplicaSighting(f"{name}-0", name, report(name), counted(num, ttft=ttft))
        for name, num, ttft in rows
    )
    history = (
        History()
        .after(sighting(0, status=status(25), replicas=empty))
        .after(sighting(1, status=status(25, drift=1.0), replicas=full))
    )

    point = history.points[-1]
    stable, candidate = point.revisions[STABLE], point.revisions[CANDIDATE]
    assert (stable.role, candidate.role) == ("stable", "candidate")
    assert (stable.weight, candidate.weight) == (75, 25)
    assert stable.requests_per_second == pytest.approx(60 / STEP_S)
    assert stable.ttft is not None
    assert candidate.ttft is not None
    assert stable.ttft.p95 < candidate.ttft.p50
    assert point.drift["scriptShare"] == pytest.approx(12.9 / 11.5, abs=1e-3)
