"""Why a job or a deployment is where it is, and what to do about it.

The end of `run`, `status` and the report say it in the same words. A hint is one line for each
reason; docs/task/when-a-job-fails.md and docs/task/when-a-rollout-stops.md say the same, and a test
keeps them in step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tunesmith_api.conditions import ConditionType
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason

# By text, not by `Reason`: a status may hold a reason of a newer version, which has no hint.
HINTS: Final[Mapping[str, str]] = {
    Reason.INVALID_SPEC: "the message names the field, the rule and a near name",
    Reason.SECRET_NOT_FOUND: "a folder of that name in the home folder's secrets/, a file per key",
    Reason.ENVIRONMENT_MISSING: "make setup, or set TUNESMITH_ENVIRONMENTS",
    Reason.DATASET_NOT_FOUND: "check the path; relative file:// starts at the manifest",
    Reason.BASE_MODEL_NOT_FOUND: "check the path; relative file:// starts at the manifest",
    Reason.MODEL_ACCESS_DENIED: "accept the licence on the hub; set secretRef",
    Reason.DATASET_INVALID: "the message lists file and line",
    Reason.CHAT_TEMPLATE_MISSING: "set spec.model.chatTemplate, or use an instruct model",
    Reason.ENDPOINT_UNUSABLE: "try url, model and key with curl; the message says what came back",
    Reason.LOSS_MASK_INVALID: "the log shows the rendered row",
    Reason.UNSAFE_WEIGHTS: "take a safetensors or GGUF edition",
    Reason.REMOTE_CODE_REFUSED: "take a safetensors or GGUF edition",
    Reason.MEMORY_ESTIMATE_EXCEEDED: "the message names what would fit, or more memory or disk",
    Reason.DISK_ESTIMATE_EXCEEDED: "the message names what would fit, or more memory or disk",
    Reason.RESOURCES_UNAVAILABLE: "ask for less, or take a larger machine",
    Reason.WORKSPACE_UNAVAILABLE: "check workspace.uri, and the rights of workspace.secretRef",
    Reason.LOSS_DIVERGED: "lower optimizer.learningRate; the message says to what",
    Reason.FORGETTING_BUDGET_EXCEEDED: "lower optimizer.learningRate, add dataset.replay or "
    "training.klToBase, or raise the budget",
    Reason.EVALUATION_GATE_FAILED: "the message names metric, value and bound",
    Reason.COMPRESSION_LOSS_EXCEEDED: "a wider scheme, or fallback: widen",
    Reason.SERVING_PARITY_FAILED: "serving.enforceEager: true; see serve",
    Reason.OUTPUT_CONFLICT: "another output.version or output.uri",
    Reason.PUBLISH_FAILED: "check the target's space and rights",
    Reason.SOURCE_UNREACHABLE: "check the network and the address",
    Reason.DISK_FULL: "free space where the home folder lies",
    Reason.UNSCHEDULABLE: "ask for less in spec.resources, or add such a node",
    Reason.IMAGE_PULL_FAILED: "the operator's image names, and the nodes' right to pull them",
    Reason.VOLUME_UNAVAILABLE: "bind the claim, or set a StorageClass that can; mend what cannot "
    "be mounted",
    Reason.POD_NOT_CREATED: "kubectl describe job or raycluster: quota or pod security refuses "
    "the pod; or KubeRay does not run",
    Reason.POD_NOT_GONE: "see that KubeRay's operator runs, or delete the pods; delete a "
    "node that is dead",
    Reason.POD_NOT_STARTED: "kubectl describe pod shows what the node waits for",
    Reason.WAITING_FOR_QUOTA: "nothing: it starts when quota is free",
    Reason.EXCEEDS_MAX_QUOTA: "ask for less in spec.resources, or raise the quota",
    Reason.QUEUE_NOT_FOUND: "create the LocalQueue or ClusterQueue, or name another",
    Reason.QUEUE_STOPPED: "kubectl describe localqueue: its stopPolicy, or its ClusterQueue's",
    Reason.WORKLOAD_DEACTIVATED: "spec.active: true in the Workload",
    Reason.ADMISSION_PENDING: "kubectl describe workload shows what Kueue waits for",
    Reason.KUEUE_NOT_INSTALLED: "install Kueue, or leave queueName out",
    Reason.FORBIDDEN: "the message says what the API server refuses: a right, a quota, a policy",
    Reason.OUT_OF_MEMORY: "smaller microBatchSize, or gradientCheckpointing: all",
    Reason.DEVICE_OUT_OF_MEMORY: "smaller microBatchSize, or gradientCheckpointing: all",
    Reason.HOST_OOM_KILLED: "smaller microBatchSize or sequenceLength, or more memory",
    Reason.KILLED: "the log of the last attempt",
    Reason.PREEMPTED: "nothing: it goes on by itself",
    Reason.NODE_LOST: "nothing: it goes on by itself",
    Reason.POD_DELETED: "nothing: it goes on by itself",
    Reason.STAGE_CRASHED: "the log of the last attempt",
    Reason.BACKOFF_LIMIT_EXCEEDED: "the message names the last failure: mend that",
    Reason.DEADLINE_EXCEEDED: "a longer deadline; finished stages are kept",
    Reason.SUSPENDED: "suspend: false, or the same command: it goes on from the last checkpoint",
    Reason.INTERRUPTED: "suspend: false, or the same command: it goes on from the last checkpoint",
    Reason.STOPPED_AS_ASKED: "the same command without --until goes on",
    Reason.ROLLED_BACK: "publish another version, or change engine or resources: either is tried "
    "anew",
    Reason.VERSION_NOT_FOUND: "publish it, or set spec.version to one that is there",
    Reason.VERSION_UNUSABLE: "publish it again, or set another spec.version",
    Reason.STRATEGY_NOT_SUPPORTED: "rollout.strategy: blueGreen, or a Gateway that can; leave "
    "rollout.sticky out",
    Reason.ANALYSIS_FAILED: "the message names the metric or your query, or says that requests "
    "fail; mend the version, or raise its minimumEffect",
    Reason.ANALYSIS_INCONCLUSIVE: "the message says what would settle it: more requests; or "
    "promote or abort it yourself",
    Reason.PROGRESS_DEADLINE_EXCEEDED: "the message says what they wait for; ask for less, or "
    "allow more time",
    Reason.REPLICA_CRASHED: "the log of the replica",
    Reason.REPLICA_NOT_READY: "the log of the replica",
    Reason.ABORTED: "publish another version, or change its settings",
    Reason.SUPERSEDED: "nothing: the newer one is tried",
    Reason.PAUSED: "rollout.paused: false, or resume it",
    Reason.FINGERPRINT_MISMATCH: "publish the version again; kubectl logs of the replica has the "
    "numbers",
    Reason.NOT_PROBED: "nothing: replicas are asked soon after they start",
    Reason.TRAFFIC_DRIFTED: "train on newer data; or limit the client that it comes from",
    Reason.NO_REFERENCE: "publish the version with this release, which writes the reference",
    Reason.REFERENCE_OF_ANOTHER_VERSION: "publish the version again: its files were mixed up",
    Reason.NO_TRAFFIC: "nothing: it is said once there are requests",
    Reason.ERROR_BUDGET_BURNS: "look at versions, replicas and queue; see the runbook",
    Reason.NO_GATEWAY: "create it, or name another",
    Reason.ROUTE_NOT_ACCEPTED: "allow the route's namespace and host names in the Gateway's "
    "listener; for a shadow, Gateway API v1.3 or newer",
    Reason.OWNED_BY_ANOTHER: "rename the deployment, or delete the other one",
    Reason.PROXY_DOWN: "see that the proxy runs; the rollout then goes on by itself",
}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The reason of the job's state, its message, and what to do; each may be empty."""

    reason: str = ""
    message: str = ""
    hint: str = ""


def diagnose(status: FineTuneJobStatus) -> Diagnosis:
    """Why the job is in its phase, from the condition that says so."""
    wanted = ConditionType.FAILED if status.phase == Phase.FAILED else ConditionType.READY
    for condition in status.conditions:
        if condition.type == wanted:
            return Diagnosis(
                reason=condition.reason,
                message=condition.message,
                hint=hint_for(condition.reason),
            )
    return Diagnosis()


def hint_for(reason: str) -> str:
    """What to do; empty for a healthy job and for a reason of a newer version."""
    return HINTS.get(reason, "")
