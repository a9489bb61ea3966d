from datetime import datetime
from typing import Any, NamedTuple
from tunesmith_api.base import ApiModel
class Row(NamedTuple):
    signal: str
    log_e: float
    effect: float
    num_requests: int
class DriftState(ApiModel):
    n: int = 0
    since: datetime | None = None
    ref: bool = False
    counts: dict[str, tuple[int, ...]] = {}
    reference: dict[str, tuple[int, ...]] = {}
class DriftReport(NamedTuple):
    threshold_log_e: float
    since: datetime | None
    num_requests: int
    signals: tuple[Row, ...]
    drifted: tuple[str, ...]
    reason: str
def observe(state: DriftState, block: Any, *, at: datetime, reference: Any) -> DriftState:
    counts = dict(state.counts)
    for k, v in block.signals.items():
        counts[k] = tuple(map(sum, zip(counts[k], v))) if k in counts else v
    return DriftState(n=state.n + block.num_requests, since=state.since or at, ref=reference is not None, counts=counts, reference=reference.training.signals if reference else {})
def report(state: DriftState) -> DriftReport:
    rows = []
    for k, v in state.counts.items():
        r = state.reference.get(k)
        if not r or not sum(r): continue
        tv = 0.5 * sum(abs(a / sum(v) - b / sum(r)) for a, b in zip(v, r))
        rows.append(Row(k, tv * sum(v) / 10, tv, sum(v)))
    drifted = tuple(r.signal for r in rows if r.log_e > 7)
    return DriftReport(7.0, state.since, state.n, tuple(rows), drifted, "NoTraffic" if not state.n else "" if state.ref else "NoReference")
