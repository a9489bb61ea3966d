"""What the operator makes for a job: pure functions from a plan to manifests.

Once per job: the report that its stages alone may patch (identities.py), and a workspace. Once per
attempt: a batch Job of one pod, which carries its request. Everything is owned by the FineTuneJob,
so that its deletion takes all of it away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from tunesmith_api.base import API_VERSION
from tunesmith_api.finetunejob.resources import Workspace
from tunesmith_engine.planning.records import PlannedStage
from tunesmith_engine.stages.contracts import Environment, StageRequest
from tunesmith_engine.stages.environment import STAGE_VARIABLES
from tunesmith_operator.finetunejob.child_names import (
    LABEL_JOB,
    LABEL_STAGE,
    MANAGED_BY,
    MANAGER,
    REQUEST_ANNOTATION,
    attempt_name,
    family_name,
)
from tunesmith_operator.finetunejob.placement import (
    demands_of,
    placement_of,
    queue_hold,
    queue_labels,
)
from tunesmith_operator.kube.client import Manifest
from tunesmith_operator.settings import Settings

WORKSPACE: Final = "/workspace"
REQUESTS: Final = "/run/tunesmith/request"
SECRETS: Final = "/run/tunesmith/secrets"
REQUEST_FILE: Final = "request.json"
# Bytes. All annotations of an object together may have 256 KiB; a request has some 20.
_MAX_ANNOTATION: Final = 192 << 10
_UNPRIVILEGED: Final = 65532
_SHM_SIZE: Final = "2Gi"


@dataclass(frozen=True, slots=True)
class Owner:
    """The FineTuneJob that everything belongs to."""

    name: str
    namespace: str
    uid: str


def family_of(owner: Owner, *, workspace: Workspace, settings: Settings) -> list[Manifest]:
    """What a job has once; the report comes last, so that its being there proves the other."""
    name = family_name(owner.name)
    claim = owned("v1", "PersistentVolumeClaim", name, owner, spec=_claim(workspace, settings))
    has_volume = workspace.claim_name or workspace.uri
    return [*([] if has_volume else [claim]), owned("v1", "ConfigMap", name, owner)]


def store_of(owner: Owner, workspace: Workspace) -> str | None:
    """The job's own prefix in the object store that is its workspace, if one is.

    A job that is made again under its name is another one.
    """
    if workspace.uri is None:
        return None
    return f"{workspace.uri.rstrip('/')}/{owner.namespace}-{owner.name}-{owner.uid}"


def request_map(owner: Owner, request: StageRequest) -> Manifest | None:
    """A request that is too large for an annotation; its pod reads it from here."""
    text = text_of(request)
    if fits_annotation(text):
        return None
    return owned("v1", "ConfigMap", _request_name(owner, request), owner, data={REQUEST_FILE: text})


def text_of(request: StageRequest) -> str:
    """The request as its stage reads it."""
    return request.model_dump_json(by_alias=True)


def fits_annotation(text: str) -> bool:
    """Whether a pod can carry the request itself, with room for annotations of others."""
    return len(text.encode()) <= _MAX_ANNOTATION


def attempt_of(
    owner: Owner, stage: PlannedStage, request: StageRequest, *, settings: Settings, account: str
) -> Manifest:
    """The batch Job of an attempt: one pod, never restarted, for whoever decides is `advance`."""
    name = attempt_name(owner.name, stage=stage.name, attempt=request.attempt, key=stage.key)
    spec = {
        **queue_hold(request.spec),
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                }
            ]
        },
        "template": pod_template(owner, stage, request, settings=settings, account=account),
    }
    return owned("batch/v1", "Job", name, owner, labels=queue_labels(request.spec), spec=spec)


def pod_template(
    owner: Owner, stage: PlannedStage, request: StageRequest, *, settings: Settings, account: str
) -> Manifest:
    """The pod of an attempt, in which all its workers are."""
    return {
        "metadata": {
            "labels": _labels(owner) | {LABEL_STAGE: str(stage.name)},
            "annotations": _annotations(request),
        },
        "spec": _pod(owner, stage, request, settings=settings, account=account),
    }


def stage_command(stage: PlannedStage) -> list[str]:
    """What runs a stage in its pod."""
    return ["python", "-m", stage.module, stage.name, f"{REQUESTS}/{REQUEST_FILE}"]


def _pod(
    owner: Owner, stage: PlannedStage, request: StageRequest, *, settings: Settings, account: str
) -> Manifest:
    volumes, mounts = _volumes(owner, request, settings=settings)
    return {
        "restartPolicy": "Never",
        "serviceAccountName": account,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _UNPRIVILEGED,
            "runAsGroup": _UNPRIVILEGED,
            "fsGroup": _UNPRIVILEGED,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "stage",
                "image": settings.images[Environment(stage.environment)],
                "command": stage_command(stage),
                "env": [
                    {"name": "HOME", "value": "/tmp"},  # noqa: S108 - a volume of the pod's own
                    *({"name": each, "value": STAGE_VARIABLES[each]} for each in STAGE_VARIABLES),
                ],
                "resources": demands_of(request, workers=request.spec.resources.workers),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": mounts,
                # What the log ends with stays readable in the pod's status.
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }
        ],
        "volumes": volumes,
        **placement_of(request.spec.resources),
    }


def _request_name(owner: Owner, request: StageRequest) -> str:
    return attempt_name(owner.name, stage=request.stage, attempt=request.attempt, key=request.key)


def _annotations(request: StageRequest) -> dict[str, str]:
    text = text_of(request)
    return {REQUEST_ANNOTATION: text} if fits_annotation(text) else {}


def _request_source(owner: Owner, request: StageRequest) -> Manifest:
    if not fits_annotation(text_of(request)):
        name = _request_name(owner, request)
        return {"configMap": {"name": name}}
    field = {"fieldPath": f"metadata.annotations['{REQUEST_ANNOTATION}']"}
    return {"downwardAPI": {"items": [{"path": REQUEST_FILE, "fieldRef": field}]}}


def _volumes(
    owner: Owner, request: StageRequest, *, settings: Settings
) -> tuple[list[Manifest], list[Manifest]]:
    """Volumes and their mounts.

    A secret that is missing is no reason not to start: the stage then ends with SecretNotFound,
    which says more than a pod that never starts.
    """
    placed: list[tuple[str, str, Manifest]] = [
        ("workspace", WORKSPACE, _workspace_source(owner, request.spec.workspace, settings)),
        ("request", REQUESTS, _request_source(owner, request)),
        ("tmp", "/tmp", {"emptyDir": {}}),  # noqa: S108 - a volume of the pod's own
        ("shm", "/dev/shm", {"emptyDir": {"medium": "Memory", "sizeLimit": _SHM_SIZE}}),  # noqa: S108
    ]
    placed += [
        (
            f"secret-{index}",
            f"{SECRETS}/{secret}",
            {"secret": {"secretName": secret, "optional": True}},
        )
        for index, secret in enumerate(_secrets(request))
    ]
    volumes = [{"name": volume, **source} for volume, _, source in placed]
    return volumes, [{"name": volume, "mountPath": path} for volume, path, _ in placed]


def _workspace_source(owner: Owner, workspace: Workspace, settings: Settings) -> Manifest:
    """The volume on which the stage works.

    Before an object store lies a disk of the pod's own, limited and not asked for: what a queue of
    Kueue has no quota of, it would never admit.
    """
    if workspace.uri is not None:
        return {"emptyDir": {"sizeLimit": workspace.size or settings.workspace_size}}
    claim = workspace.claim_name or family_name(owner.name)
    return {"persistentVolumeClaim": {"claimName": claim}}


def _secrets(request: StageRequest) -> list[str]:
    """The secrets that this job names, each once."""
    spec = request.spec
    sources = (
        spec.model,
        spec.dataset.train,
        spec.dataset.validation,
        spec.evaluation.general_text,
        spec.output,
        spec.workspace,
    )
    return sorted({each.secret_ref.name for each in sources if each and each.secret_ref})


def _claim(workspace: Workspace, settings: Settings) -> Manifest:
    storage_class = workspace.storage_class_name or settings.workspace_class
    named = {"storageClassName": storage_class} if storage_class else {}
    return {
        "accessModes": [workspace.access_mode or "ReadWriteOnce"],
        "resources": {"requests": {"storage": workspace.size or settings.workspace_size}},
        **named,
    }


def owned(
    api_version: str,
    kind: str,
    name: str,
    owner: Owner,
    *,
    labels: Mapping[str, str] = MappingProxyType({}),
    **rest: Any,
) -> Manifest:
    """An object that goes when its FineTuneJob does."""
    reference = {
        "apiVersion": API_VERSION,
        "kind": "FineTuneJob",
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    metadata = {
        "name": name,
        "namespace": owner.namespace,
        "labels": {**_labels(owner), **labels},
        "ownerReferences": [reference],
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def owners_of(found: Manifest) -> set[str]:
    """The uids of those that the object goes with."""
    return {each["uid"] for each in found["metadata"].get("ownerReferences") or []}


def _labels(owner: Owner) -> dict[str, str]:
    return {LABEL_JOB: owner.name, MANAGED_BY: MANAGER}
