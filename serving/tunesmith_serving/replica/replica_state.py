"""What a replica says of itself: /tunesmith/ready, live, state, reference, samples and drift.

Ages, never times: whoever reads them has a clock of its own.
"""

import secrets
from collections.abc import Callable
from typing import Any

from tunesmith_engine.deployment.replica_report import ReadyReason
from tunesmith_engine.drift.sketches import REFERENCE_FILE, Reference
from tunesmith_serving.replica.readiness import Readiness
from tunesmith_serving.replica.settings import ReplicaSettings
from tunesmith_serving.replica.traffic import Traffic


class ReplicaState:
    """Views on what the middleware holds; `instance` is another one after every start."""

    def __init__(
        self,
        settings: ReplicaSettings,
        *,
        readiness: Readiness,
        traffic: Traffic,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._readiness = readiness
        self._traffic = traffic
        self._clock = clock
        self._started = clock()
        self.instance = secrets.token_hex(8)

    def ready(self) -> tuple[int, dict[str, Any]]:
        """200 or 503, and why."""
        verdict = self._readiness.verdict(self._clock())
        content = {"reason": verdict.reason, "message": verdict.message}
        return (200 if verdict.is_ready else 503), content

    def live(self) -> tuple[int, dict[str, Any]]:
        """503 only where a new process would help: the engine hangs."""
        verdict = self._readiness.verdict(self._clock())
        hangs = verdict.reason is ReadyReason.NO_PROGRESS
        return (503 if hangs else 200), {"reason": verdict.reason, "message": verdict.message}

    def state(self) -> dict[str, Any]:
        """Everything but samples."""
        now = self._clock()
        verdict = self._readiness.verdict(now)
        evidence = self._readiness.evidence.shown(now)
        probe = {"probe": evidence.model_dump(by_alias=True)} if evidence is not None else {}
        return {
            "version": self._settings.version,
            "digest": self._settings.digest,
            "revision": self._settings.revision,
            "instance": self.instance,
            "uptimeSeconds": round(now - self._started, 3),
            "ready": verdict.is_ready,
            "reason": verdict.reason,
            "message": verdict.message,
            "draining": self._readiness.is_draining,
            "running": self._readiness.heartbeat.num_running,
            "accepted": self._traffic.num_accepted,
            "quietSeconds": round(now - self._traffic.last_arrival, 3),
            **probe,
        }

    def reference(self) -> tuple[int, dict[str, Any]]:
        """200 and the statistics of the data that the version was trained on; 404 without any."""
        path = self._settings.fingerprints.with_name(REFERENCE_FILE)
        try:
            reference = Reference.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 404, {"message": "the version has no statistics of its training data"}
        version = reference.model_version or self._settings.version
        named = reference.model_copy(update={"model_version": version})
        return 200, named.model_dump(mode="json", by_alias=True, exclude_none=True)

    def drift(self, *, after: int) -> tuple[int, dict[str, Any]]:
        """200 and blocks of measured requests behind the place `after`; 404 without a tap."""
        if self._traffic.tap is None:
            return 404, {"message": "this replica was started with --no-tap"}
        version = {"instance": self.instance, "version": self._settings.version}
        return 200, version | self._traffic.tap.page(after=after)

    def samples(self, *, after: int, limit: int) -> dict[str, Any]:
        """Up to `limit` samples behind the place `after`."""
        page = self._traffic.ring.after(after, limit=limit, now=self._clock())
        return {
            "instance": self.instance,
            "next": page.next,
            "dropped": page.dropped,
            "watermarkSeconds": page.watermark_seconds,
            "samples": page.samples,
        }
