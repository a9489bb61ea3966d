"""A child of an attempt and its pods, as if they had just been read."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tunesmith_operator.finetunejob.attempts import CHILD_KINDS
from tunesmith_operator.kube.child_kind import ChildState

Manifest = dict[str, Any]
NOW = datetime(2026, 11, 1, 1, tzinfo=UTC)


def state_of(
    child: Manifest,
    pods: Sequence[Manifest] = (),
    *,
    num_pods: int = 1,
    warnings: Sequence[Manifest] | None = None,
    admitted: datetime | None = None,
) -> ChildState:
    """The state at `NOW`; `admitted` is when Kueue says that it let the child run."""
    kind = CHILD_KINDS[child["kind"]]
    if admitted is not None:
        child = {**child, "metadata": {**child["metadata"], "uid": "u"}}
    workloads = None if admitted is None else [_workload(admitted)]
    return ChildState(
        kind, child, list(pods), NOW, num_pods=num_pods, workloads=workloads, warnings=warnings
    )


def _workload(admitted: datetime) -> Manifest:
    at = admitted.isoformat().replace("+00:00", "Z")
    condition = {"type": "Admitted", "status": "True", "lastTransitionTime": at}
    return {
        "metadata": {"name": "w", "ownerReferences": [{"uid": "u"}]},
        "status": {"conditions": [condition]},
    }
