"""The pod of a replica: vLLM behind the replica's middleware, probed and drained by it.

`serving_lint.py` holds every pod made here to the traps that are known of vLLM in Kubernetes.
"""

from typing import Final

from kubernetes.utils.quantity import parse_quantity

from tunesmith_api.modeldeployment.engine import SHUTDOWN_TIMEOUT_S
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_engine.deployment.observations import DesiredRevision
from tunesmith_engine.deployment.request_identity import SALT_VARIABLE
from tunesmith_engine.deployment.serve_command import (
    API_KEY_VARIABLE,
    serve_arguments,
)
from tunesmith_engine.sources.credentials import API_KEY
from tunesmith_engine.stages.contracts import Environment
from tunesmith_operator.kube.objects import Manifest
from tunesmith_operator.kube.restricted_pod import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    placement_fields,
)
from tunesmith_operator.modeldeployment.deployment_ref import (
    LABEL_REVISION,
    LABEL_VERSION,
    DeploymentRef,
)
from tunesmith_operator.modeldeployment.model_files import model_files
from tunesmith_operator.settings import Settings

PORT: Final = 8000
CONTAINER: Final = "server"
DEFAULT_CPU: Final = "1"
# Python, torch and vLLM themselves.
_ENGINE_BYTES: Final = 3 << 30
_SHM_SIZE: Final = "2Gi"

_GRACE_MARGIN_S: Final = 15
_STARTUP_PERIOD_S: Final = 5
# A busy engine misses probes of a second or two and was restarted eight times a day for it
# (gonka-ai/gonka#1421): a hang is what the replica itself says, which has its own patience.
_LIVENESS: Final = {"periodSeconds": 15, "timeoutSeconds": 15, "failureThreshold": 6}


def pod_template(
    revision: DesiredRevision,
    spec: ModelDeploymentSpec,
    *,
    owner: DeploymentRef,
    settings: Settings,
    num_bytes: int | None,
) -> Manifest:
    """The pods of a revision; `num_bytes` are those of the version's files, None if unknown."""
    labels = {LABEL_REVISION: revision.revision, LABEL_VERSION: revision.version}
    image = settings.images[Environment.SERVER]
    files = model_files(revision, spec, image=image)
    drain_s = spec.rollout.drain_seconds
    container = {
        "name": CONTAINER,
        "image": image,
        "command": [
            "python",
            *serve_arguments(
                revision,
                spec,
                folder=files.folder,
                # The pod's own address, whichever that is.
                host="0.0.0.0",  # noqa: S104
                port=PORT,
                stable_url=_stable_url(revision, owner),
            ),
        ],
        "env": _environment(spec, owner),
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": _demands(spec, num_bytes=num_bytes),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            *files.mounts,
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        ],
        "startupProbe": _probe(
            "ready",
            periodSeconds=_STARTUP_PERIOD_S,
            timeoutSeconds=5,
            # The deployment gives a slow start up first, and says why.
            failureThreshold=2 * spec.rollout.progress_deadline_seconds // _STARTUP_PERIOD_S + 1,
        ),
        "readinessProbe": _probe("ready", periodSeconds=2, timeoutSeconds=5, failureThreshold=2),
        "livenessProbe": _probe("live", **_LIVENESS),
        "lifecycle": {"preStop": {"exec": {"command": _drain_command(drain_s)}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return {
        "metadata": {"labels": owner.metadata("", **labels)["labels"]},
        "spec": {
            "automountServiceAccountToken": False,
            # A Service named VLLM would else become VLLM_PORT, which vLLM reads.
            "enableServiceLinks": False,
            "securityContext": POD_SECURITY,
            # NB: preStop counts into it; with less, answers under way end in SIGKILL.
            "terminationGracePeriodSeconds": drain_s + SHUTDOWN_TIMEOUT_S + _GRACE_MARGIN_S,
            "initContainers": list(files.init_containers),
            "containers": [container],
            "volumes": [
                *files.volumes,
                {"name": "tmp", "emptyDir": {}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _SHM_SIZE}},
            ],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {LABEL_REVISION: revision.revision}},
                }
            ],
            **placement_fields(spec.resources),
        },
    }


def needed_bytes(num_bytes: int) -> int:
    """Memory of a replica for a version of that size, where nobody says how much."""
    return 2 * num_bytes + _ENGINE_BYTES


def _stable_url(revision: DesiredRevision, owner: DeploymentRef) -> str | None:
    """The Service of the revision to compare with: that of the route would split, too."""
    if revision.compared_with is None:
        return None
    return f"http://{owner.name_of(revision.compared_with)}:{PORT}"


def _drain_command(deadline_s: int) -> list[str]:
    return ["python", "-m", "tunesmith_serving", "drain", "--deadline", str(deadline_s)]


def _environment(spec: ModelDeploymentSpec, owner: DeploymentRef) -> list[Manifest]:
    # The root is read-only, and vLLM caches below HOME.
    variables: list[Manifest] = [
        {"name": "HOME", "value": "/tmp"},  # noqa: S108
        {"name": SALT_VARIABLE, "value": owner.uid},
    ]
    if spec.api_keys is not None:
        # Not in the command, which anybody on the node can list.
        key = {"name": spec.api_keys.name, "key": API_KEY}
        variables.append({"name": API_KEY_VARIABLE, "valueFrom": {"secretKeyRef": key}})
    return variables


def _demands(spec: ModelDeploymentSpec, *, num_bytes: int | None) -> Manifest:
    """Asked for without a limit: an estimate that is a little low costs no replica its life."""
    resources = spec.resources
    memory = resources.memory or str(needed_bytes(num_bytes or 0))
    demands: Manifest = {"requests": {"cpu": resources.cpu or DEFAULT_CPU, "memory": memory}}
    if resources.gpus_per_replica:
        # Of accelerators the limit is the request.
        demands["limits"] = {resources.accelerator: str(resources.gpus_per_replica)}
    return demands


def _probe(path: str, **times: int) -> Manifest:
    return {"httpGet": {"path": f"/tunesmith/{path}", "port": PORT}, **times}


def given_bytes(memory: str) -> int:
    """A quantity of memory, in bytes."""
    return int(parse_quantity(memory))  # type: ignore[no-untyped-call]
