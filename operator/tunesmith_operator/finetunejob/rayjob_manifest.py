"""The RayJob of an attempt of training: a head, and a pod for each worker. Pure, as `manifests.py`.

Made where KubeRay is installed and a job asks for more than one worker. The head runs the stage and
Ray's own services, and trains nothing: all workers are alike, what one of them lacks takes no other
down with it, and the head needs no accelerator.
"""

import shlex
from copy import deepcopy
from enum import Enum, auto
from typing import Final

from tunesmith_engine.stages.contracts import LEAVING
from tunesmith_operator.finetunejob.child_names import rayjob_name
from tunesmith_operator.finetunejob.manifests import (
    StageAttempt,
    owned,
    pod_template,
    stage_command,
)
from tunesmith_operator.finetunejob.placement import demands_of, queue_hold, queue_labels
from tunesmith_operator.kube.objects import Manifest
from tunesmith_operator.kube.ray_job import POD_LABEL
from tunesmith_operator.kube.resources import RAY_JOB
from tunesmith_operator.settings import Settings

# That of the trainer's image; KubeRay goes by it.
RAY_VERSION: Final = "2.60.0"

HEAD_DEMANDS: Final = {"requests": {"cpu": "500m", "memory": "2Gi"}}
# Little more than the least that Ray takes: tensors go from worker to worker, past its store, which
# by default would hold 30 % of a pod's memory.
_OBJECT_STORE_BYTES: Final = 80 << 20
_PORTS: Final = (("gcs-server", 6379), ("dashboard", 8265))
# On the pod's own volume: each pod is told for itself.
_LEAVING_FOLDER: Final = "/tmp/leaving"  # noqa: S108
_LEAVE: Final = ["python", "-m", "tunesmith_trainer.train.leaving"]
# Ray's agent answers there in every pod; images need no tool for it.
_HEALTH: Final = {"path": "/api/healthz", "port": 52365}


class WorkerPlacement(Enum):
    """Where the workers of an attempt of training can be."""

    ONE_POD = auto()
    ONE_NODE = auto()
    ANY_NODE = auto()


def worker_placement(claim: Manifest | None) -> WorkerPlacement:
    """Where pods can be that share this claim; one that is not there says nothing yet."""
    # What it was given counts before what it asked for: a class may offer more.
    spec, status = (claim or {}).get("spec", {}), (claim or {}).get("status", {})
    modes = status.get("accessModes") or spec.get("accessModes") or []
    if "ReadWriteMany" in modes:
        return WorkerPlacement.ANY_NODE
    return WorkerPlacement.ONE_POD if modes == ["ReadWriteOncePod"] else WorkerPlacement.ONE_NODE


def rayjob_of(attempt: StageAttempt, *, settings: Settings, on_one_node: bool) -> Manifest:
    """The RayJob; `on_one_node` keeps its pods together, for a volume that only one node mounts."""
    owner, stage, request = attempt.owner, attempt.stage, attempt.request
    name = rayjob_name(owner.name, stage=stage.name, attempt=request.attempt, key=stage.key)
    template = pod_template(attempt, settings=settings)
    template["metadata"]["labels"][POD_LABEL] = name
    if on_one_node:
        _keep_together(template, name)
    spec = {
        **queue_hold(request.spec),
        # KubeRay hands the stage to Ray over HTTP: the submitters that it makes itself are refused
        # by Pod Security *restricted*, for ever and with no word in the status.
        "submissionMode": "HTTPMode",
        "entrypoint": shlex.join(stage_command(stage)),
        # Whether there is another attempt, `advance` decides.
        "backoffLimit": 0,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 0,
        "rayClusterSpec": {
            "rayVersion": RAY_VERSION,
            # KubeRay 1.5 does not know it and drops it; Ray's job API is open to the cluster then.
            "authOptions": {"mode": "token"},
            "headGroupSpec": _head(template),
            "workerGroupSpecs": [_workers(template, attempt)],
        },
    }
    labels = queue_labels(request.spec)
    return owned(RAY_JOB.api_version, RAY_JOB.kind, name, owner, labels=labels, spec=spec)


def _head(template: Manifest) -> Manifest:
    ports = [{"name": name, "containerPort": port} for name, port in _PORTS]
    return {
        # Without processors, so that Ray places no worker of training there.
        "rayStartParams": _start_params(cpus=0, gpus=0),
        "template": _ray_pod(template, resources=HEAD_DEMANDS, ports=ports),
    }


def _workers(template: Manifest, attempt: StageAttempt) -> Manifest:
    """One Ray worker in each pod: what Ray thinks a pod has is what one of them takes."""
    spec = attempt.request.spec
    resources = spec.resources
    count = resources.workers
    return {
        "groupName": "workers",
        "replicas": count,
        "minReplicas": count,
        "maxReplicas": count,
        "rayStartParams": _start_params(cpus=1, gpus=resources.gpus_per_worker),
        "template": _ray_pod(
            template, resources=demands_of(attempt.stage.stage, spec, prepared=attempt.prepared)
        ),
    }


def _start_params(*, cpus: int, gpus: int) -> dict[str, str]:
    return {
        "num-cpus": str(cpus),
        "num-gpus": str(gpus),
        "object-store-memory": str(_OBJECT_STORE_BYTES),
    }


def _ray_pod(template: Manifest, **fields: object) -> Manifest:
    """The pod in which KubeRay puts its own command, which starts Ray."""
    template = deepcopy(template)
    (container,) = template["spec"]["containers"]
    del container["command"]
    container["env"] += [
        {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
        # Told to end, Ray waits for actors to leave their node, and its own coordinator stays on
        # the head: that ended by SIGKILL. What is worth waiting for, the preStop hook saw off.
        {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": "0"},
        {"name": LEAVING, "value": _LEAVING_FOLDER},
    ]
    # Training takes no signals: without it, all since the last checkpoint would be done again.
    container["lifecycle"] = {"preStop": {"exec": {"command": _LEAVE}}}
    # KubeRay's own probes run wget in the container; for these an image needs no tool.
    probe = {"httpGet": _HEALTH, "timeoutSeconds": 5, "periodSeconds": 10}
    container["readinessProbe"] = {**probe, "initialDelaySeconds": 5, "failureThreshold": 6}
    container["livenessProbe"] = {**probe, "initialDelaySeconds": 60, "failureThreshold": 30}
    container.update(fields)
    return template


def _keep_together(template: Manifest, name: str) -> None:
    affinity = template["spec"].setdefault("affinity", {})
    affinity["podAffinity"] = {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {
                "labelSelector": {"matchLabels": {POD_LABEL: name}},
                "topologyKey": "kubernetes.io/hostname",
            }
        ]
    }
