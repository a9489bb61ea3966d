"""Why a job or a deployment is where it is, and what to do about it.

The end of `run`, `status` and the report say it in the same words. A hint is one line for each
reason; docs/task/when-a-job-fails.md and docs/task/when-a-rollout-stops.md say the same, and a test
keeps them in step. Of a job that was stopped on purpose more is said: what its stage goes on from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tunesmith_api.conditions import ConditionType
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import CATALOG

# By text, not by `Reason`: a status may hold a reason of a newer version, which has no hint.
HINTS: Final[Mapping[str, str]] = {
    Reason.INVALID_SPEC: "correct the field that the message names; tunesmith validate FILE "
    "checks all of them",
    Reason.OTHER_RELEASE: "upgrade the operator again, and it goes on where it was; or delete it "
    "and make it anew",
    Reason.SECRET_NOT_FOUND: "for each secretRef a folder of that name in the home folder's "
    "secrets/, a file per key",
    Reason.ENVIRONMENT_MISSING: "make setup, or set TUNESMITH_ENVIRONMENTS",
    Reason.DATASET_NOT_FOUND: "correct dataset.train.uri or the other source that the message "
    "names; relative file:// starts at the manifest",
    Reason.BASE_MODEL_NOT_FOUND: "correct model.uri; relative file:// starts at the manifest",
    Reason.MODEL_ACCESS_DENIED: "accept the licence on the hub, and set model.secretRef to a "
    "secret with your token",
    Reason.DATASET_INVALID: "mend the rows that the message names by file and line; if they are "
    "right, set dataset.format and dataset.columns",
    Reason.CHAT_TEMPLATE_MISSING: "set model.chatTemplate, or model.uri to an instruct model",
    Reason.ENDPOINT_UNUSABLE: "correct url, model or secretRef of the endpoint that the message "
    "names; try them with curl",
    Reason.LOSS_MASK_INVALID: "set model.chatTemplate to one that renders answers as they are; "
    "the log shows the rendered row",
    Reason.UNSAFE_WEIGHTS: "set model.uri to a safetensors or GGUF edition",
    Reason.REMOTE_CODE_REFUSED: "set model.uri to an edition in safetensors or GGUF that needs no "
    "code of its own",
    Reason.MEMORY_ESTIMATE_EXCEEDED: "set what the message says would fit, such as "
    "training.gradientCheckpointing: all, or raise resources.memory",
    Reason.DISK_ESTIMATE_EXCEEDED: "free space where the home folder lies, lower checkpoint.keep, "
    "or raise workspace.size",
    Reason.RESOURCES_UNAVAILABLE: "lower resources.workers or resources.gpusPerWorker, or take a "
    "larger machine; without a GPU, set compression.quantize.scheme: W8A8 in place of FP8",
    Reason.WORKSPACE_UNAVAILABLE: "correct workspace.uri, and let workspace.secretRef read and "
    "write there",
    Reason.LOSS_DIVERGED: "lower training.optimizer.learningRate; the message says to what",
    Reason.NO_TRIAL_COMPLETED: "narrow search.parameters, or raise search.budget; the trials' "
    "records have the reason of each",
    Reason.FORGETTING_BUDGET_EXCEEDED: "lower training.optimizer.learningRate, add dataset.replay "
    "or training.klToBase, or raise training.forgettingBudget",
    Reason.EVALUATION_GATE_FAILED: "if the held-out loss rose, lower "
    "training.optimizer.learningRate or training.epochs; if it hardly fell, raise them or add "
    "rows; or change the bound in evaluation.gates",
    Reason.COMPRESSION_LOSS_EXCEEDED: "set compression.quantize.scheme to a wider one (W4A16, "
    "W8A8, none), or compression.gate.fallback: widen; of a pruned model lower "
    "compression.prune.ratio, or set compression.prune.gate.fallback: unpruned",
    Reason.EXPORT_PARITY_FAILED: "choose a wider precision in export.formats, or raise "
    "export.gate.maxLossRise",
    Reason.EXPORT_TARGET_MISSED: "choose a narrower precision in export.formats, a smaller model, "
    "or raise export.maxSize or export.maxMemory",
    Reason.SERVING_PARITY_FAILED: "set serving.enforceEager: true; see serve",
    Reason.OUTPUT_CONFLICT: "set another output.version or output.uri",
    Reason.PUBLISH_FAILED: "free space at output.uri, or let output.secretRef write there",
    Reason.SOURCE_UNREACHABLE: "check the network and the address that the message names, then "
    "run again",
    Reason.DISK_FULL: "free space where the home folder lies",
    Reason.UNSCHEDULABLE: "lower resources.cpu, resources.memory or resources.gpusPerWorker, "
    "correct resources.nodeSelector, or add such a node",
    Reason.IMAGE_PULL_FAILED: "correct images of the chart, or set resources.imagePullSecrets",
    Reason.VOLUME_UNAVAILABLE: "bind workspace.claimName, set workspace.storageClassName to a "
    "class that can, or mend what cannot be mounted",
    Reason.POD_NOT_CREATED: "kubectl describe job or raycluster: quota or pod security refuses "
    "the pod; or KubeRay does not run",
    Reason.POD_NOT_GONE: "see that KubeRay's operator runs, or delete the pods; delete a "
    "node that is dead",
    Reason.POD_NOT_STARTED: "kubectl describe pod shows what the node waits for",
    Reason.WAITING_FOR_QUOTA: "nothing: it starts when quota is free",
    Reason.EXCEEDS_MAX_QUOTA: "lower resources.cpu, resources.memory or resources.gpusPerWorker, "
    "or raise the quota",
    Reason.QUEUE_NOT_FOUND: "create the LocalQueue or ClusterQueue, or correct queueName",
    Reason.QUEUE_STOPPED: "kubectl describe localqueue: its stopPolicy, or its ClusterQueue's",
    Reason.WORKLOAD_DEACTIVATED: "spec.active: true in the Workload",
    Reason.ADMISSION_PENDING: "kubectl describe workload shows what Kueue waits for",
    Reason.KUEUE_NOT_INSTALLED: "install Kueue, or leave queueName out",
    Reason.FORBIDDEN: "the message says what the API server refuses: a right, a quota, a policy",
    Reason.OUT_OF_MEMORY: "lower training.batch.microBatchSize, or set "
    "training.gradientCheckpointing: all",
    Reason.DEVICE_OUT_OF_MEMORY: "lower training.batch.microBatchSize, or set "
    "training.gradientCheckpointing: all",
    Reason.HOST_OOM_KILLED: "lower training.batch.microBatchSize or training.sequenceLength, or "
    "raise resources.memory",
    Reason.KILLED: "the log of the last attempt",
    Reason.PREEMPTED: "nothing: it goes on by itself",
    Reason.NODE_LOST: "nothing: it goes on by itself",
    Reason.POD_DELETED: "nothing: it goes on by itself",
    Reason.STAGE_CRASHED: "the log of the last attempt",
    Reason.BACKOFF_LIMIT_EXCEEDED: "mend the last failure, which the message names, or raise "
    "backoffLimit",
    Reason.DEADLINE_EXCEEDED: "raise activeDeadlineSeconds; finished stages are kept",
    Reason.SUSPENDED: "set suspend: false: training goes on from its last checkpoint, another "
    "stage begins again, and what is done stays",
    Reason.INTERRUPTED: "the same command: training goes on from its last checkpoint, another "
    "stage begins again, and what is done stays",
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
    Reason.BIAS_GROWN: "look at the engine, its settings and the machine; see the runbook",
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


# What takes up a job that was stopped on purpose.
_GOES_ON: Final[Mapping[str, str]] = {
    Reason.SUSPENDED: "set suspend: false: it",
    Reason.INTERRUPTED: "the same command",
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
                hint=_hint_of_stopped(status, condition.reason) or hint_for(condition.reason),
            )
    return Diagnosis()


def _hint_of_stopped(status: FineTuneJobStatus, reason: str) -> str:
    """What a stopped job goes on with, by the stage that it stands at; empty for any other."""
    stage = next((stage for stage in status.stages if stage.state != "Succeeded"), None)
    rows = {row.name: row for row in CATALOG}
    if reason not in _GOES_ON or stage is None or stage.name not in rows:
        return ""
    if not stage.attempt:
        return f"{_GOES_ON[reason]} goes on with {stage.name}"
    if rows[stage.name].resumes:
        return f"{_GOES_ON[reason]} goes on from the last checkpoint of {stage.name}, if it has one"
    return f"{_GOES_ON[reason]} begins {stage.name} again; the stages before it are done"


def hint_for(reason: str) -> str:
    """What to do; empty for a healthy job and for a reason of a newer version."""
    return HINTS.get(reason, "")
