"""A batch Job of one pod, never restarted, as the child of an attempt."""

from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.lifecycle.observations import Waiting
from tunesmith_operator.kube.child_kind import AttemptTimes, ChildState
from tunesmith_operator.kube.kueue import has_left_queue
from tunesmith_operator.kube.objects import (
    Manifest,
    condition_of,
    created_at,
    has_condition,
    status_of,
    time_of,
    true_since,
)
from tunesmith_operator.kube.pod_waits import POD_GRACE_S, suspended_by_somebody, wait_of_pod
from tunesmith_operator.kube.pods import (
    DISRUPTION,
    ContainerRun,
    PodTermination,
    run_of,
    termination_of,
)
from tunesmith_operator.kube.resources import JOB


class BatchJob:
    """What a Job and its pods tell of an attempt."""

    resource = JOB
    pod_label = "batch.kubernetes.io/job-name"
    unread_spec = frozenset({"template"})

    def has_succeeded(self, child: Manifest) -> bool:
        """Whether its pod ended with 0; the controller says so once the pod is accounted for."""
        return has_condition(child, "Complete")

    def has_failed(self, child: Manifest) -> bool:
        """Whether its pod ended otherwise, or was taken away."""
        return has_condition(child, "Failed")

    def is_asleep(self, child: Manifest) -> bool:
        """Whether the controller has not begun with it since its queue let it run."""
        return not status_of(child).get("startTime")

    def termination(self, state: ChildState) -> PodTermination | None:
        """Why it failed; the Job's own word counts where its pod is gone."""
        if not self.has_failed(state.child):
            return None
        endings = (termination_of(pod) for pod in state.pods)
        ending = next((ending for ending in endings if ending is not None), None)
        if ending is not None:
            return ending
        # The policy of the Job names the condition that it has acted on, so a disruption is known
        # although the pod went with its node.
        failed = condition_of(state.child, "Failed") or {}
        if DISRUPTION in failed.get("message", ""):
            return PodTermination(cause=Reason.PREEMPTED)
        return PodTermination(cause=None if state.pods else Reason.POD_DELETED)

    def waiting(self, subject: str, state: ChildState) -> Waiting | None:
        """What its newest pod waits for, or why it has none."""
        job = state.child
        if job.get("spec", {}).get("suspend"):
            since = true_since(job, "Suspended") or created_at(job)
            return suspended_by_somebody(subject, job, since=since)
        if state.pods:
            return wait_of_pod(subject, state.pods[-1], state.warnings)
        name = job["metadata"]["name"]
        message = (
            f"{subject} has no pod: the cluster made none for Job {name}; "
            f"`kubectl describe job {name}` shows why (quota, pod security)"
        )
        # It counts from when the Job could have a pod: it may have been in a queue for hours.
        started = status_of(job).get("startTime")
        known = (created_at(job), time_of(started) if started else None, state.admitted)
        since = max(time for time in known if time is not None)
        return Waiting(Reason.POD_NOT_CREATED, message, since, grace_s=POD_GRACE_S)

    def times(self, state: ChildState) -> AttemptTimes:
        """The times of its newest pod, and the Job's own for what that does not say."""
        job, status = state.child, status_of(state.child)
        run = run_of(state.pods[-1]) if state.pods else ContainerRun()
        started, completed = (
            time_of(status[name]) if status.get(name) else None
            for name in ("startTime", "completionTime")
        )
        began, ended = run.began, run.ended
        if has_condition(job, "Complete"):
            began, ended = began or started, ended or completed
        elif has_condition(job, "Failed"):
            # NB: not its startTime. A pod that never ran, for want of an image, cost nothing.
            ended = ended or true_since(job, "Failed")
        admitted = state.admitted or started
        return AttemptTimes(admitted if has_left_queue(job) else None, began, ended)

    def log_command(self, child: Manifest) -> str:
        """How a person reads its log."""
        return f"kubectl logs -n {child['metadata']['namespace']} job/{child['metadata']['name']}"


BATCH_JOB: Final = BatchJob()
