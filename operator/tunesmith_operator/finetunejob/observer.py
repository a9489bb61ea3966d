"""What is to be seen of a job: its children with their pods, and the report.

It reads and never writes. Each attempt is read once, into a `ChildState`, and told to `advance` as
an `ObservedAttempt`; what the executor has to know beside that stands in the `Snapshot`.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from datetime import datetime

from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Observations, ObservedAttempt, Waiting
from tunesmith_engine.planning.plan import Plan
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_operator.controller.child_cache import ChildCache, ChildRef
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.finetunejob.attempts import (
    CHILD_KINDS,
    StageAttempt,
    attempts_of,
    may_run_in_rayjob,
)
from tunesmith_operator.finetunejob.child_names import LABEL_JOB, attempt_parts, shared_name
from tunesmith_operator.finetunejob.report import Report
from tunesmith_operator.kube.child_kind import ChildState, is_over, read_child
from tunesmith_operator.kube.client import KubeClient, Reader
from tunesmith_operator.kube.objects import SELECTOR, Manifest, owners_of
from tunesmith_operator.kube.resources import CONFIG_MAP, JOB, RAY_JOB


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one look has seen, for `advance` and for the executor.

    `has_report` says that report and workspace are there. One that `lacks_report` is without them
    although something runs, and one that `lacks_pods` has a child for which nobody makes pods:
    somebody took away what they need. `report_cleanup` is the patch
    that takes from the report what nobody reads any more.
    """

    observations: Observations = field(default_factory=Observations)
    has_report: bool = False
    lacks_report: bool = False
    lacks_pods: bool = False
    report_cleanup: Manifest | None = None


class Observer:
    """Sees the children of one job, whose status names its attempts."""

    def __init__(
        self, plan: Plan, client: KubeClient, children: ChildCache, *, key: Key, uid: str
    ) -> None:
        self._plan = plan
        self._client = client
        self._children = children
        self._key = key
        self._uid = uid

    async def observe(
        self,
        status: FineTuneJobStatus | None,
        *,
        now: datetime,
        active: AbstractSet[ChildRef] = frozenset(),
    ) -> Snapshot:
        """Everything that is to be seen at `now`; `status` says which attempts to look for.

        `active` are the children that were told of and not of their end: what the status does not
        speak of is looked for, too.
        """
        attempts = attempts_of(self._plan, status)
        if not attempts:
            return Snapshot(Observations(attempts=tuple(await self._unrecorded())))
        unfinished = [attempt for attempt in attempts if attempt.result_digest is None]
        shared = ChildRef(CONFIG_MAP.kind, shared_name(self._key.name))
        reader = self._children.reader(
            self._client,
            self._key,
            uid=self._uid,
            running=[attempt.children for attempt in unfinished],
            beside=shared,
        )
        children = [(attempt, await self._child(attempt, reader)) for attempt in unfinished]
        # NB: the report after the children. A stage reports before its Job ends: read first, the
        # report could lack the result that the Job's end goes with, a crash that was none.
        config_map = await reader.get(CONFIG_MAP.kind, self._key.namespace, shared.name)
        report = Report.of(config_map, uid=self._uid)
        seen = [
            observed_attempt(attempt, await self._state(child, reader, now=now), report)
            for attempt, child in children
            if child is not None
        ]
        reader.finish()
        expected = {child for attempt in unfinished for child in attempt.children}
        seen += await self._started_late(active - expected)
        return Snapshot(
            Observations(finished=_finished(attempts, seen, report), attempts=tuple(seen)),
            has_report=not report.is_missing,
            lacks_report=report.is_missing and any(attempt.is_running for attempt in seen),
            lacks_pods=any(_lacks_pods(attempt.waiting, now=now) for attempt in seen),
            report_cleanup=report.removal_of_outdated(attempts),
        )

    async def _child(self, attempt: StageAttempt, reader: Reader) -> Manifest | None:
        for kind, name in attempt.children:
            child = await reader.get(kind, self._key.namespace, name)
            # What somebody else has under that name tells nothing of this job.
            if child is not None and self._uid in owners_of(child):
                return child
        return None

    async def _state(self, child: Manifest, reader: Reader, *, now: datetime) -> ChildState:
        # A head beside the workers; what runs in one pod is never asked how many it has.
        num_pods = 1 + self._plan.spec.resources.workers
        kind = CHILD_KINDS[child["kind"]]
        return await read_child(
            child, kind, reader=reader, client=self._client, num_pods=num_pods, now=now
        )

    async def _unrecorded(self) -> list[ObservedAttempt]:
        """What runs of this job although its status knows of no attempt.

        Another release has started it, or somebody has emptied the status.
        """
        labels = f"{SELECTOR},{LABEL_JOB}={self._key.name}"
        jobs = await self._client.list(JOB.kind, self._key.namespace, labels=labels)
        running = self._running(JOB.kind, jobs)
        # Without KubeRay a list of RayJobs is a 404.
        if may_run_in_rayjob(self._plan, TRAIN.name) and await self._client.serves(RAY_JOB.kind):
            rayjobs = await self._client.list(RAY_JOB.kind, self._key.namespace, labels=labels)
            running += self._running(RAY_JOB.kind, rayjobs)
        return running

    async def _started_late(self, children: AbstractSet[ChildRef]) -> list[ObservedAttempt]:
        """What runs although its attempt is over: its start was late on its way to the server."""
        running: list[ObservedAttempt] = []
        for kind, name in sorted(children):
            child = await self._client.get(kind, self._key.namespace, name)
            running += self._running(kind, [] if child is None else [child])
        return running

    def _running(self, kind: str, children: Iterable[Manifest]) -> list[ObservedAttempt]:
        return [
            self._by_name(child)
            for child in children
            if self._uid in owners_of(child) and not is_over(CHILD_KINDS[kind], child)
        ]

    def _by_name(self, child: Manifest) -> ObservedAttempt:
        """An attempt of which nothing but the name of its child is known."""
        # Another release may have started it, for a stage that this plan does not have.
        stage, attempt, key = attempt_parts(child["metadata"]["name"])
        keys = (planned.key for planned in self._plan.stages if planned.name == stage)
        known = next((whole for whole in keys if whole.startswith(key)), key)
        return ObservedAttempt(stage, known, attempt, is_running=True)


def observed_attempt(attempt: StageAttempt, state: ChildState, report: Report) -> ObservedAttempt:
    """An attempt as its child, its pods and the report tell of it."""
    stage, number, times = attempt.stage, attempt.number, asdict(state.times)
    if state.has_succeeded:
        result = report.result_of(attempt, outcome="Succeeded")
        return ObservedAttempt(
            stage.name, stage.key, number, is_running=False, result=result, exit_code=0, **times
        )
    termination = state.termination
    if termination is None:
        return ObservedAttempt(
            stage.name,
            stage.key,
            number,
            is_running=True,
            progress=report.progress_of(attempt),
            waiting=state.waiting(stage.name),
            **times,
        )
    return ObservedAttempt(
        stage.name,
        stage.key,
        number,
        is_running=False,
        progress=report.progress_of(attempt),
        result=report.result_of(attempt, outcome="Failed"),
        exit_code=termination.exit_code,
        cause=termination.cause,
        termination_message=termination.termination_message,
        log=state.kind.log_command(state.child),
        **times,
    )


def _finished(
    attempts: Iterable[StageAttempt], seen: Iterable[ObservedAttempt], report: Report
) -> dict[str, StageResult]:
    """The results that count, by key: those that were noted, and those of now."""
    noted = (
        (attempt.stage.key, report.noted_result_of(attempt))
        for attempt in attempts
        if attempt.result_digest is not None
    )
    new = ((attempt.key, attempt.result) for attempt in seen)
    return {
        key: result
        for key, result in (*noted, *new)
        if result is not None and result.outcome == "Succeeded"
    }


def _lacks_pods(waiting: Waiting | None, *, now: datetime) -> bool:
    # Before it is told, the cluster has only not come to it yet.
    if waiting is None or waiting.reason is not Reason.POD_NOT_CREATED:
        return False
    return now >= waiting.reported_at
