"""The reference that a replica hands out: missing, of another release, or of another version."""

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from tunesmith_engine.drift.signals import measure
from tunesmith_engine.drift.sketches import Reference, Sketch
from tunesmith_engine.monitoring.traffic_drift import SketchDetector

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
ROWS = [measure("Why does it not print?", "So.", prompt_tokens=8, output_tokens=2)] * 16
SKETCH = Sketch.of(ROWS).model_dump(mode="json", by_alias=True)


def a_reference(**changes: Any) -> dict[str, Any]:
    known = Reference(training=Sketch.of(ROWS), validation=Sketch.of(ROWS))
    return {**known.model_dump(mode="json", by_alias=True), **changes}


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (None, "NoReference"),
        ({"training": "somebody's words"}, "NoReference"),
        (a_reference(version=2), "NoReference"),
        (a_reference(training={**SKETCH, "version": 2}), "NoReference"),
        (a_reference(modelVersion="v1"), "ReferenceOfAnotherVersion"),
        (a_reference(modelVersion="v2"), ""),
        (a_reference(), ""),
    ],
)
def test_only_the_reference_of_its_own_version_is_compared_with(
    reference: dict[str, Any] | None, reason: str
) -> None:
    detector = SketchDetector()

    state = detector.observe(None, [(NOON, SKETCH)], reference=reference)
    traffic = detector.traffic(state, version="v2", reference=reference)

    assert (traffic.reason, traffic.drifted) == (reason, [])
    assert "somebody" not in str(state)


def test_blocks_of_another_release_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    detector, reference = SketchDetector(), a_reference()
    blocks = [
        (NOON, {**SKETCH, "version": 2}),
        (NOON, {"text": "somebody's words"}),
        (NOON, SKETCH),
    ]

    with caplog.at_level(logging.WARNING):
        state = detector.observe(None, blocks, reference=reference)

    assert detector.traffic(state, version="v2", reference=reference).requests == len(ROWS)
    assert "somebody" not in caplog.text
