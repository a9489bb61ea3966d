"""Why a job, a stage or a deployment is where it is, in one CamelCase word.

The same word stands in conditions, results, Events, logs and `docs/task/when-a-job-fails.md` or
`docs/task/when-a-rollout-stops.md`, where a test looks for every one of them.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a job, a stage or a deployment is in the state it is in.

    Part of the API: values are only ever added.
    """

    # Life of a job
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    CACHED = "Cached"
    SUSPENDED = "Suspended"
    INTERRUPTED = "Interrupted"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    STOPPED_AS_ASKED = "StoppedAsAsked"

    # Input that no retry will mend
    INVALID_SPEC = "InvalidSpec"
    OTHER_RELEASE = "OtherRelease"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, not a password
    BASE_MODEL_NOT_FOUND = "BaseModelNotFound"
    MODEL_ACCESS_DENIED = "ModelAccessDenied"
    UNSAFE_WEIGHTS = "UnsafeWeights"
    REMOTE_CODE_REFUSED = "RemoteCodeRefused"
    CHAT_TEMPLATE_MISSING = "ChatTemplateMissing"
    DATASET_NOT_FOUND = "DatasetNotFound"
    DATASET_INVALID = "DatasetInvalid"
    ENDPOINT_UNUSABLE = "EndpointUnusable"
    LOSS_MASK_INVALID = "LossMaskInvalid"
    MEMORY_ESTIMATE_EXCEEDED = "MemoryEstimateExceeded"
    DISK_ESTIMATE_EXCEEDED = "DiskEstimateExceeded"
    RESOURCES_UNAVAILABLE = "ResourcesUnavailable"
    ENVIRONMENT_MISSING = "EnvironmentMissing"
    WORKSPACE_UNAVAILABLE = "WorkspaceUnavailable"

    # Waits for the cluster, before a stage's process runs
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    VOLUME_UNAVAILABLE = "VolumeUnavailable"
    POD_NOT_CREATED = "PodNotCreated"
    POD_NOT_STARTED = "PodNotStarted"
    POD_NOT_GONE = "PodNotGone"

    # Waits in a queue of Kueue
    WAITING_FOR_QUOTA = "WaitingForQuota"
    EXCEEDS_MAX_QUOTA = "ExceedsMaxQuota"
    QUEUE_NOT_FOUND = "QueueNotFound"
    QUEUE_STOPPED = "QueueStopped"
    WORKLOAD_DEACTIVATED = "WorkloadDeactivated"
    ADMISSION_PENDING = "AdmissionPending"
    KUEUE_NOT_INSTALLED = "KueueNotInstalled"

    # The API server refuses what the operator asks for
    FORBIDDEN = "Forbidden"

    # Verdicts of a stage about the model
    LOSS_DIVERGED = "LossDiverged"
    NO_TRIAL_COMPLETED = "NoTrialCompleted"
    FORGETTING_BUDGET_EXCEEDED = "ForgettingBudgetExceeded"
    EVALUATION_GATE_FAILED = "EvaluationGateFailed"
    COMPRESSION_LOSS_EXCEEDED = "CompressionLossExceeded"
    EXPORT_PARITY_FAILED = "ExportParityFailed"
    EXPORT_TARGET_MISSED = "ExportTargetMissed"
    SERVING_PARITY_FAILED = "ServingParityFailed"
    OUTPUT_CONFLICT = "OutputConflict"
    PUBLISH_FAILED = "PublishFailed"

    # Faults of the machine, which a retry may mend
    SOURCE_UNREACHABLE = "SourceUnreachable"
    DISK_FULL = "DiskFull"
    OUT_OF_MEMORY = "OutOfMemory"
    DEVICE_OUT_OF_MEMORY = "DeviceOutOfMemory"
    HOST_OOM_KILLED = "HostOOMKilled"
    KILLED = "Killed"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    POD_DELETED = "PodDeleted"
    STAGE_CRASHED = "StageCrashed"

    # Life of a deployment
    SERVING = "Serving"
    DEPLOYING = "Deploying"
    ANALYZING = "Analyzing"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    PROMOTED = "Promoted"
    DRAINING = "Draining"
    SUPERSEDED = "Superseded"

    # A version that is not served, or not any more
    ROLLED_BACK = "RolledBack"
    VERSION_NOT_FOUND = "VersionNotFound"
    VERSION_UNUSABLE = "VersionUnusable"
    STRATEGY_NOT_SUPPORTED = "StrategyNotSupported"
    ANALYSIS_FAILED = "AnalysisFailed"
    ANALYSIS_INCONCLUSIVE = "AnalysisInconclusive"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    REPLICA_CRASHED = "ReplicaCrashed"
    REPLICA_NOT_READY = "ReplicaNotReady"
    ABORTED = "Aborted"

    # Drift of what is served: artifact, traffic, error budget
    FINGERPRINT_MISMATCH = "FingerprintMismatch"
    FINGERPRINTS_MATCH = "FingerprintsMatch"
    BIAS_GROWN = "BiasGrown"
    BIAS_AS_RELEASED = "BiasAsReleased"
    NOT_PROBED = "NotProbed"
    TRAFFIC_DRIFTED = "TrafficDrifted"
    TRAFFIC_AS_REFERENCE = "TrafficAsReference"
    NO_REFERENCE = "NoReference"
    REFERENCE_OF_ANOTHER_VERSION = "ReferenceOfAnotherVersion"
    NO_TRAFFIC = "NoTraffic"
    ERROR_BUDGET_BURNS = "ErrorBudgetBurns"
    WITHIN_ERROR_BUDGET = "WithinErrorBudget"

    # The route of a deployment
    NO_GATEWAY = "NoGateway"
    ROUTE_NOT_ACCEPTED = "RouteNotAccepted"
    OWNED_BY_ANOTHER = "OwnedByAnother"
    PROXY_DOWN = "ProxyDown"
