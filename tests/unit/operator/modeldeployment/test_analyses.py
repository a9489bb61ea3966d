"""The trial of a candidate in the operator: the user's queries are read, judged and recorded."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from deployment_double import KEY, IdleReplicas
from tunesmith_api.modeldeployment.limits import Limits
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.monitoring.prometheus import Answer, Prometheus
from tunesmith_engine.rollout.judge import Cause, Verdict
from tunesmith_engine.rollout.recording import read_recording
from tunesmith_operator.modeldeployment import analyses
from tunesmith_operator.modeldeployment.analyses import Analyses

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
LIMITS = Limits.model_validate(
    {
        "warmupSeconds": 0,
        "querySeconds": 0.001,
        "metrics": {"ttftP50": {}},
        "queries": [
            {
                "name": "thumbsDown",
                "query": 'thumbs{ns="{{namespace}}",d="{{deployment}}",v="{{version}}"}',
                "minimumEffect": 0.1,
                "consecutive": 1,
            }
        ],
    }
)
NUMBERS = {
    'thumbs{ns="ns",d="helpdesk",v="v1"}': 0.1,
    'thumbs{ns="ns",d="helpdesk",v="v2"}': 0.4,
}


def a_trial() -> ModelDeploymentStatus:
    of_both: dict[str, Any] = {"digest": "sha256:0", "uri": "file:///models", "since": NOW}
    return ModelDeploymentStatus.model_validate(
        {
            "stable": {**of_both, "revision": "0000aaaa", "version": "v1"},
            "candidate": {
                **of_both,
                "revision": "0000bbbb",
                "version": "v2",
                "strategy": "canary",
                "state": "Analyzing",
                "analysisSince": NOW - timedelta(seconds=100),
            },
        }
    )


@pytest.fixture(autouse=True)
def _quick_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds pass between any two looks at the clock."""
    ticks = count(step=10.0)
    monkeypatch.setattr(analyses, "time", SimpleNamespace(monotonic=lambda: next(ticks)))


def look(known: Analyses) -> Verdict | None:
    async def run() -> Verdict | None:
        # What is read at this look counts from the next one on.
        await known.verdict(KEY, a_trial(), limits=LIMITS, hosts={}, now=NOW)
        later = NOW + timedelta(seconds=20)
        return await known.verdict(KEY, a_trial(), limits=LIMITS, hosts={}, now=later)

    return asyncio.run(run())


def test_a_query_takes_a_candidate_back_and_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask_all(_: Prometheus, queries: Sequence[str]) -> list[Answer]:
        return [NUMBERS[query] for query in queries]

    monkeypatch.setattr(Prometheus, "ask_all", ask_all)
    known = Analyses(IdleReplicas(), Prometheus.at("http://127.0.0.1:1"))

    verdict = look(known)

    assert verdict is not None
    assert verdict.cause is Cause.QUERY_WORSE
    recording = known.recording(KEY)
    assert recording is not None
    first, *_ = read_recording(recording.splitlines()).readings
    assert (first.stable, first.candidate) == (0.1, 0.4)


def test_an_operator_without_a_prometheus_says_so() -> None:
    verdict = look(Analyses(IdleReplicas()))

    assert verdict is not None
    assert [seen.problem for seen in verdict.queries] == ["NoPrometheus"]
