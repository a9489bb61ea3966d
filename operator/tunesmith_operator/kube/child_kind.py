"""One attempt's child as it was read once, and what each kind of child makes of it.

A stage runs in a batch Job or in a RayJob, and whoever watches, reads or judges a child asks its
`ChildKind` instead of its `kind`: `batch_job.py` and `ray_job.py` are the two. The way of a fact,
say of a pod that was killed for want of memory, is short: the pod is read into a `ChildState`, of
which the observer makes the `ObservedAttempt` that `advance` judges.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from tunesmith_engine.lifecycle.observations import Waiting
from tunesmith_operator.kube.client import KubeClient, Reader
from tunesmith_operator.kube.kueue import admitted_at, is_queued, names_queue, queue_wait
from tunesmith_operator.kube.objects import Manifest
from tunesmith_operator.kube.pods import PodTermination, newest_last, overdue_pod
from tunesmith_operator.kube.resources import POD, Resource

# Phases in which a pod has ended; a pod without one has not been seen by its kubelet.
ENDED_PHASES: Final = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class AttemptTimes:
    """When an attempt left its queue, began and ended; a time that nobody wrote down is None."""

    admitted: datetime | None = None
    began: datetime | None = None
    ended: datetime | None = None


class ChildKind(Protocol):
    """A kind of object that runs an attempt: what is watched of it, and what it tells.

    `pod_label` is the label by which its pods bear its name, and `unread_spec` are the fields of
    its spec that nobody reads, large ones, of which caches keep no copy.
    """

    @property
    def resource(self) -> Resource: ...

    @property
    def pod_label(self) -> str: ...

    @property
    def unread_spec(self) -> frozenset[str]: ...

    def has_succeeded(self, child: Manifest) -> bool:
        """Whether the stage ended well, and the child's controller has taken note of it."""

    def has_failed(self, child: Manifest) -> bool:
        """Whether its controller is done with it, without success."""

    def is_asleep(self, child: Manifest) -> bool:
        """Whether its controller has not begun with it since its queue let it run."""

    def termination(self, state: "ChildState") -> PodTermination | None:
        """How it failed; None if it has not, or something of it is left that has to go first."""

    def waiting(self, subject: str, state: "ChildState") -> Waiting | None:
        """What a child outside a queue waits for, in the name of `subject`; None if it runs."""

    def times(self, state: "ChildState") -> AttemptTimes:
        """The times that it and its pods have written down."""

    def log_command(self, child: Manifest) -> str:
        """How a person reads its log."""


@dataclass(frozen=True, slots=True)
class ChildState:
    """A child and what was read with it at `now`; it has `num_pods` pods when it is whole.

    `pods` have the newest last. `workloads` are Kueue's of this child, None if Kueue is not
    installed; they are read only while Kueue alone knows. `warnings` are the Events of the pod that
    is overdue, None if none is.
    """

    kind: ChildKind
    child: Manifest
    pods: list[Manifest]
    now: datetime
    num_pods: int = 1
    workloads: Sequence[Manifest] | None = None
    warnings: Sequence[Manifest] | None = None

    @property
    def has_succeeded(self) -> bool:
        return self.kind.has_succeeded(self.child)

    @property
    def termination(self) -> PodTermination | None:
        """How it failed; None if it has not, or something of it is left that has to go first."""
        return self.kind.termination(self)

    @property
    def times(self) -> AttemptTimes:
        return self.kind.times(self)

    @property
    def admitted(self) -> datetime | None:
        """When its queue let it run, for as long as only the queue knows."""
        return admitted_at(self.child, self.workloads)

    def waiting(self, subject: str) -> Waiting | None:
        """What it waits for, in its queue or after it; None if it runs."""
        if is_queued(self.child):
            return queue_wait(subject, self.child, self.workloads)
        return self.kind.waiting(subject, self)


def is_over(kind: ChildKind, child: Manifest) -> bool:
    """Whether it has ended, well or not."""
    return kind.has_succeeded(child) or kind.has_failed(child)


def only_queue_knows(kind: ChildKind, child: Manifest) -> bool:
    """Whether nothing in the child itself says why it does not run, or when it was let run."""
    return names_queue(child) and (is_queued(child) or kind.is_asleep(child))


async def read_child(
    child: Manifest,
    kind: ChildKind,
    *,
    reader: Reader,
    client: KubeClient,
    num_pods: int,
    now: datetime,
) -> ChildState:
    """Read what there is to know of a child, and no more than its state asks for.

    Pods come from `reader`. Workloads and Events are in no cache: each read of them is a list of
    its own at every look, so they are read only while nothing else tells.
    """
    namespace, uid = child["metadata"]["namespace"], child["metadata"]["uid"]
    labels = f"{kind.pod_label}={child['metadata']['name']}"
    pods = newest_last(await reader.list(POD.kind, namespace, labels=labels))
    state = ChildState(kind, child, pods, now, num_pods=num_pods)
    if state.has_succeeded or state.termination is not None:
        return state
    if only_queue_knows(kind, child):
        state = replace(state, workloads=await client.workloads(namespace, of_uid=uid))
    overdue = None if is_queued(child) else overdue_pod(pods, now=now)
    if overdue is None:
        return state
    pod_uid = overdue["metadata"]["uid"]
    return replace(state, warnings=await client.warnings(namespace, of_uid=pod_uid))
