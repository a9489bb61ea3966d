"""What a replica counts of the requests that pass, by what became of them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from stand_in import Faults, StandIn
from tunesmith_serving.replica.in_process import request
from tunesmith_serving.replica.measurement import Measurement
from tunesmith_serving.replica.middleware import Replica
from tunesmith_serving.replica.settings import ReplicaSettings

CHAT = "/v1/chat/completions"
VERSION = {"version": "v1"}
LABELS = {"model": "helpdesk", **VERSION}
QUICK = Faults(ttft=0.0, itl=0.0)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def ask(registry: CollectorRegistry, body: dict[str, Any], *, faults: Faults = QUICK) -> None:
    """Ask a replica once."""
    engine = StandIn(
        model="helpdesk", faults=faults, known=[], shutdown_timeout=0, api_key=None, seed=0
    )
    settings = ReplicaSettings(version="v1", model="helpdesk", fingerprints=Path("none"))
    replica = Replica(engine, settings, registry=registry)
    text = json.dumps({"model": "helpdesk", "messages": [], "max_tokens": 4, **body}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(text))}
    asyncio.run(request(replica, CHAT, method="POST", body=text, headers=headers, shared={}))


def counted(registry: CollectorRegistry, outcome: str, *, model: str = "helpdesk") -> float | None:
    labels = {"model": model, **VERSION, "outcome": outcome}
    return registry.get_sample_value("tunesmith_requests_total", labels)


def test_a_streamed_answer_is_counted_with_its_latencies_and_tokens(
    registry: CollectorRegistry,
) -> None:
    ask(registry, {"stream": True, "stream_options": {"include_usage": True}})

    value = registry.get_sample_value
    assert counted(registry, "complete") == 1
    assert value("tunesmith_time_to_first_token_seconds_bucket", {**LABELS, "le": "0.3"}) == 1
    assert value("tunesmith_inter_token_latency_seconds_count", LABELS) == 1
    assert value("tunesmith_output_tokens_total", LABELS) == 4


def test_a_model_that_is_not_served_counts_as_other(registry: CollectorRegistry) -> None:
    ask(registry, {"model": "invented"})

    assert counted(registry, "rejected", model="other") == 1
    assert counted(registry, "rejected") == 0


@pytest.mark.parametrize(
    ("faults", "outcome"),
    [
        (Faults(ttft=0.0, itl=0.0, errors=1.0), "error"),
        (Faults(ttft=0.0, itl=0.0, aborts=1.0), "incomplete"),
    ],
)
def test_an_answer_that_breaks_off_is_no_success(
    faults: Faults, outcome: str, registry: CollectorRegistry
) -> None:
    """vLLM gives it status 200, a finish reason and `[DONE]`."""
    ask(registry, {"stream": True}, faults=faults)

    assert counted(registry, outcome) == 1
    assert counted(registry, "complete") == 0


@pytest.mark.parametrize(
    ("status", "tokens", "outcome"),
    [
        (200, 0, "incomplete"),
        (200, 2, "cancelled"),
        (422, 0, "rejected"),
        (429, 0, "error"),
        (503, 0, "error"),
    ],
)
def test_what_the_client_did_is_nobodys_failure(status: int, tokens: int, outcome: str) -> None:
    """But one that went before the first token has got nothing, whoever lost patience."""
    seen = Measurement(arrived=0.0)
    seen.start(status, is_stream=True)
    for _ in range(tokens):
        seen.read(b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n', now=1.0)
    seen.end(now=2.0, is_whole=False, is_disconnected=True)

    assert seen.outcome == outcome
