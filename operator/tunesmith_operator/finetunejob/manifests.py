"""What the operator makes for a job: pure functions from a plan to manifests.

Once per job: the report that its stages alone may patch (service_accounts.py), and a workspace.
Once per attempt: a batch Job of one pod, which carries its request. Everything is owned by the
FineTuneJob, so that its deletion takes all of it away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from tunesmith_api.finetunejob.resources import Workspace
from tunesmith_engine.planning.plan import Plan, PlannedStage
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_engine.stages.configmap_reporter import report_address
from tunesmith_engine.stages.contracts import (
    METRICS_PORT,
    STAGE_VARIABLES,
    Environment,
    StageRequest,
    StageResult,
)
from tunesmith_operator.finetunejob.child_names import (
    LABEL_JOB,
    LABEL_STAGE,
    REQUEST_ANNOTATION,
    attempt_name,
    report_key,
    shared_name,
)
from tunesmith_operator.finetunejob.job_ref import JobRef
from tunesmith_operator.finetunejob.placement import (
    demands_of,
    given_memory,
    placement_of,
    queue_hold,
    queue_labels,
)
from tunesmith_operator.kube.objects import MANAGED_BY, MANAGER, Manifest
from tunesmith_operator.kube.restricted_pod import CONTAINER_SECURITY, POD_SECURITY
from tunesmith_operator.settings import Settings

WORKSPACE: Final = "/workspace"
REQUESTS: Final = "/run/tunesmith/request"
SECRETS: Final = "/run/tunesmith/secrets"
REQUEST_FILE: Final = "request.json"
# The port of the pods that train, by this name in the chart's PodMonitor. NB: neither 8080 nor the
# name `metrics`, which are those of Ray's own exporter.
TRAINING_METRICS: Final = {"name": "train-metrics", "containerPort": 9090}
# Bytes. All annotations of an object together may have 256 KiB; a request has some 20.
_MAX_ANNOTATION: Final = 192 << 10
# Ray's object store and torch's workers hand tensors on there; a container's own has 64 MiB.
_SHM_SIZE: Final = "2Gi"
# What an image is started with to prove that it can be: it ends at once. A pod asks for the most of
# any of its containers, so these little ones add nothing.
_PROOF: Final = ("python", "-c", "")
_PROOF_DEMANDS: Final = {"requests": {"cpu": "100m", "memory": "128Mi"}}


def shared_objects(owner: JobRef, *, workspace: Workspace, settings: Settings) -> list[Manifest]:
    """What a job has once; the report comes last, so that its being there proves the other."""
    name = shared_name(owner.name)
    report = owned("v1", "ConfigMap", name, owner)
    if workspace.claim_name or workspace.uri:
        return [report]
    storage_class = workspace.storage_class_name or settings.workspace_class
    claim = {
        "accessModes": [workspace.access_mode or "ReadWriteOnce"],
        "resources": {"requests": {"storage": workspace.size or settings.workspace_size}},
        # Left out, the cluster's default is meant; an empty one would mean none at all.
        **({"storageClassName": storage_class} if storage_class else {}),
    }
    return [owned("v1", "PersistentVolumeClaim", name, owner, spec=claim), report]


def request_of(
    plan: Plan,
    stage: PlannedStage,
    *,
    owner: JobRef,
    attempt: int,
    finished: Mapping[str, StageResult],
    in_pods_of_their_own: bool = False,
) -> StageRequest:
    """What an attempt of a stage is told; `finished` are the results so far, by key.

    `in_pods_of_their_own` are its workers, if it has any.
    """
    folder = f"{WORKSPACE}/jobs/{plan.job}/stages/{stage.name}/{stage.short_key}"
    progress, result = (
        report_address(
            owner.namespace,
            shared_name(owner.name),
            report_key(stage.name, attempt, kind, key=stage.key),
        )
        for kind in ("progress", "result")
    )
    return StageRequest(
        job=plan.job,
        stage=stage.name,
        key=stage.key,
        attempt=attempt,
        spec=plan.spec,
        inputs={read.name: finished[read.key] for read in plan.read_by(stage)},
        stage_keys={planned.name: planned.key for planned in plan.stages},
        output=f"{folder}/artifacts",
        report=progress,
        result=result,
        base=WORKSPACE,
        cache=f"{WORKSPACE}/cache",
        secrets=SECRETS,
        models=f"{WORKSPACE}/models",
        memory=given_memory((planned.stage for planned in plan.stages), plan.spec),
        store=store_of(owner, plan.spec.workspace),
        apart=in_pods_of_their_own and plan.spec.workspace.uri is not None,
        memory_store=memory_store_of(owner, plan.spec.workspace),
    )


def store_of(owner: JobRef, workspace: Workspace) -> str | None:
    """The job's own prefix in the object store that is its workspace, if one is.

    A job that is made again under its name is another one.
    """
    if workspace.uri is None:
        return None
    return f"{workspace.uri.rstrip('/')}/{owner.namespace}-{owner.name}-{owner.uid}"


def memory_store_of(owner: JobRef, workspace: Workspace) -> str | None:
    """Where searches remember each other: what jobs of a namespace share of their workspaces.

    None of a volume that is made for the job, which goes with it.
    """
    if workspace.uri is not None:
        return f"{workspace.uri.rstrip('/')}/search-memory/{owner.namespace}"
    return f"file://{WORKSPACE}/search-memory" if workspace.claim_name else None


def request_map(owner: JobRef, request: StageRequest) -> Manifest | None:
    """A request that is too large for an annotation; its pod reads it from here."""
    text = text_of(request)
    if fits_annotation(text):
        return None
    return owned("v1", "ConfigMap", _attempt_name(owner, request), owner, data={REQUEST_FILE: text})


def text_of(request: StageRequest) -> str:
    """The request as its stage reads it."""
    return request.model_dump_json(by_alias=True)


def fits_annotation(text: str) -> bool:
    """Whether a pod can carry the request itself, with room for annotations of others."""
    return len(text.encode()) <= _MAX_ANNOTATION


@dataclass(frozen=True, slots=True)
class StageAttempt:
    """What the child of an attempt is made from.

    `account` is the ServiceAccount of its pods. `prepared` is what `prepare` found out, whether or
    not this stage reads it: memory is estimated from it. None before that is done. `proven` are the
    environments of later stages whose images are pulled before this one starts.
    """

    owner: JobRef
    stage: PlannedStage
    request: StageRequest
    account: str
    prepared: StageResult | None = None
    proven: tuple[Environment, ...] = ()


def batch_job_of(attempt: StageAttempt, *, settings: Settings) -> Manifest:
    """The batch Job of an attempt: one pod, never restarted, for whoever decides is `advance`."""
    owner, request = attempt.owner, attempt.request
    spec = {
        **queue_hold(request.spec),
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        # A pod that is going still has the workspace: no other beside it.
        "podReplacementPolicy": "Failed",
        # A pod that is taken away fails its Job at once and with this reason, which is there still
        # when the pod has gone with its node.
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                }
            ]
        },
        "template": pod_template(attempt, settings=settings),
    }
    name = _attempt_name(owner, request)
    return owned("batch/v1", "Job", name, owner, labels=queue_labels(request.spec), spec=spec)


def pod_template(attempt: StageAttempt, *, settings: Settings) -> Manifest:
    """The pod of an attempt, in which all its workers are."""
    text = text_of(attempt.request)
    return {
        "metadata": {
            "labels": _labels(attempt.owner) | {LABEL_STAGE: attempt.stage.name},
            # Not only in a ConfigMap, which would cost each attempt one more write.
            "annotations": {REQUEST_ANNOTATION: text} if fits_annotation(text) else {},
        },
        "spec": _pod(attempt, settings=settings),
    }


def stage_command(stage: PlannedStage) -> list[str]:
    """What runs a stage in its pod."""
    return ["python", "-m", stage.stage.package, stage.name, f"{REQUESTS}/{REQUEST_FILE}"]


def _pod(attempt: StageAttempt, *, settings: Settings) -> Manifest:
    stage, spec = attempt.stage, attempt.request.spec
    volumes, mounts = _volumes(attempt, settings=settings)
    trains = stage.name == TRAIN.name
    variables = STAGE_VARIABLES
    if trains:
        variables = variables | {METRICS_PORT: str(TRAINING_METRICS["containerPort"])}
    return {
        "restartPolicy": "Never",
        "serviceAccountName": attempt.account,
        "automountServiceAccountToken": True,
        # A Service named RAY or VLLM would else become variables that those programs read.
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        **_proofs(attempt, settings=settings),
        "containers": [
            {
                "name": "stage",
                "image": settings.images[Environment(stage.environment)],
                "command": stage_command(stage),
                # The root is read-only, and Ray writes its token and its session into HOME.
                "env": [
                    {"name": "HOME", "value": "/tmp"},  # noqa: S108 - a volume of the pod's own
                    *({"name": name, "value": value} for name, value in variables.items()),
                ],
                **({"ports": [TRAINING_METRICS]} if trains else {}),
                "resources": demands_of(
                    stage.stage,
                    spec,
                    prepared=attempt.prepared,
                    workers=spec.resources.workers,
                ),
                "securityContext": CONTAINER_SECURITY,
                "volumeMounts": mounts,
                # What the log ends with stays readable in the pod's status.
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }
        ],
        "volumes": volumes,
        **placement_of(spec.resources),
    }


def _proofs(attempt: StageAttempt, *, settings: Settings) -> Manifest:
    """Containers that run first, one in each other image, so that none is missing hours later."""
    images = {settings.images[environment]: environment for environment in attempt.proven}
    images.pop(settings.images[Environment(attempt.stage.environment)], None)
    if not images:
        return {}
    proofs = [
        {
            "name": f"pull-{environment}",
            "image": image,
            "command": list(_PROOF),
            "resources": _PROOF_DEMANDS,
            "securityContext": CONTAINER_SECURITY,
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
        for image, environment in images.items()
    ]
    return {"initContainers": proofs}


def _attempt_name(owner: JobRef, request: StageRequest) -> str:
    return attempt_name(owner.name, stage=request.stage, attempt=request.attempt, key=request.key)


def _request_source(owner: JobRef, request: StageRequest) -> Manifest:
    if not fits_annotation(text_of(request)):
        name = _attempt_name(owner, request)
        return {"configMap": {"name": name}}
    field = {"fieldPath": f"metadata.annotations['{REQUEST_ANNOTATION}']"}
    return {"downwardAPI": {"items": [{"path": REQUEST_FILE, "fieldRef": field}]}}


def _volumes(attempt: StageAttempt, *, settings: Settings) -> tuple[list[Manifest], list[Manifest]]:
    """Volumes and their mounts."""
    owner, request = attempt.owner, attempt.request
    placed: list[tuple[str, str, Manifest]] = [
        ("workspace", WORKSPACE, _workspace_source(owner, request.spec.workspace, settings)),
        ("request", REQUESTS, _request_source(owner, request)),
        ("tmp", "/tmp", {"emptyDir": {}}),  # noqa: S108 - a volume of the pod's own
        ("shm", "/dev/shm", {"emptyDir": {"medium": "Memory", "sizeLimit": _SHM_SIZE}}),  # noqa: S108
    ]
    secrets = attempt.stage.stage.secrets_for(request.spec)
    # A secret that is missing is no reason not to start: the stage then ends with SecretNotFound,
    # which says more than a pod that never starts.
    placed += [
        (
            f"secret-{index}",
            f"{SECRETS}/{secret}",
            {"secret": {"secretName": secret, "optional": True}},
        )
        for index, secret in enumerate(secrets)
    ]
    volumes = [{"name": volume, **source} for volume, _, source in placed]
    return volumes, [{"name": volume, "mountPath": path} for volume, path, _ in placed]


def _workspace_source(owner: JobRef, workspace: Workspace, settings: Settings) -> Manifest:
    """The volume on which the stage works; before an object store, a disk of the pod's own."""
    if workspace.uri is not None:
        # Limited and not asked for: what a queue of Kueue has no quota of, it would never admit.
        return {"emptyDir": {"sizeLimit": workspace.size or settings.workspace_size}}
    claim = workspace.claim_name or shared_name(owner.name)
    return {"persistentVolumeClaim": {"claimName": claim}}


def owned(
    api_version: str,
    kind: str,
    name: str,
    owner: JobRef,
    *,
    labels: Mapping[str, str] = MappingProxyType({}),
    **rest: Any,
) -> Manifest:
    """An object that goes when its FineTuneJob does."""
    metadata = {
        "name": name,
        "namespace": owner.namespace,
        "labels": {**_labels(owner), **labels},
        "ownerReferences": [owner.owner_reference],
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def _labels(owner: JobRef) -> dict[str, str]:
    return {LABEL_JOB: owner.name, MANAGED_BY: MANAGER}
