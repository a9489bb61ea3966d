"""The detector of `drift/` behind what watching asks of one, and its report as a status has it."""

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from tunesmith_api.modeldeployment.monitoring_status import (
    MAX_SIGNALS,
    SignalDrift,
    TrafficStatus,
)
from tunesmith_engine.drift.monitor import DriftState, observe, report
from tunesmith_engine.drift.sketches import Reference, Sketch

_LOG = logging.getLogger(__name__)
Json = dict[str, Any]


class SketchDetector:
    """Keeps no state of its own."""

    def observe(
        self,
        state: Json | None,
        blocks: Iterable[tuple[datetime, Mapping[str, Any]]],
        *,
        reference: Json | None,
    ) -> Json:
        """The state after blocks of requests, each with its time; None begins anew."""
        read = []
        for at, sketch in blocks:
            try:
                read.append((at, Sketch.model_validate(sketch)))
            except ValidationError:
                # Of another release, whose bins are others.
                _LOG.warning("a block of requests cannot be read, and is passed over")
        after = observe(_state(state), read, reference=_reference(reference))
        return after.model_dump(mode="json", by_alias=True, exclude_none=True)

    def traffic(self, state: Json | None, *, version: str, reference: Json | None) -> TrafficStatus:
        """What the state shows of the traffic of `version`."""
        known = _reference(reference)
        if known is not None and known.model_version not in {"", version}:
            return TrafficStatus(version=version, reason="ReferenceOfAnotherVersion")
        shown = report(_state(state), reference=known)
        rows = sorted(shown.signals, key=lambda row: row.log_e, reverse=True)
        return TrafficStatus(
            version=version,
            since=shown.since,
            requests=shown.num_requests,
            threshold_log_e=round(shown.threshold_log_e, 3),
            signals=[
                SignalDrift(
                    signal=row.signal,
                    log_e=round(row.log_e, 3),
                    effect=round(row.effect, 4),
                )
                for row in rows[:MAX_SIGNALS]
            ],
            drifted=list(shown.drifted),
            reason=shown.reason or "",
        )


def _state(state: Json | None) -> DriftState:
    if state is None:
        return DriftState()
    try:
        return DriftState.model_validate(state)
    except ValidationError:
        # Of another release: it begins anew.
        return DriftState()


def _reference(reference: Json | None) -> Reference | None:
    try:
        return Reference.model_validate(reference) if reference is not None else None
    except ValidationError:
        return None
