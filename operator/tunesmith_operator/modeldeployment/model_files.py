"""How a serving pod gets at the files of a version: a volume, an object store, an OCI image.

`serve` proves the files by the version's digest whatever way they came.
"""

from dataclasses import dataclass
from typing import Final

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_engine.deployment.observations import DesiredRevision
from tunesmith_operator.kube.objects import Manifest
from tunesmith_operator.kube.restricted_pod import CONTAINER_SECURITY

# Where a job's stages have their volume; versions that they publish bear paths below it.
WORKSPACE: Final = "/workspace"
MODEL: Final = "/model"
SECRETS: Final = "/run/tunesmith/secrets"
_REMOTE: Final = ("hf://", "s3://", "gs://", "az://", "abfs://", "https://")
_OCI: Final = "oci://"
# Where an image has the version, as KServe's modelcars have it.
IMAGE_FOLDER: Final = "models"
_FILE: Final = "file://"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The folder of the version in the pod, and what the pod needs to have it there."""

    folder: str
    volumes: tuple[Manifest, ...]
    mounts: tuple[Manifest, ...]
    init_containers: tuple[Manifest, ...] = ()


def why_unreachable(uri: str, *, claim_name: str | None) -> str | None:
    """Why pods cannot get at the files of a version; None if they can."""
    if uri.startswith((*_REMOTE, _OCI)):
        return None
    if not uri.startswith(_FILE):
        return (
            f"no pod can read {uri}; publish it to a volume, an object store, a hub or an OCI image"
        )
    path = uri.removeprefix(_FILE)
    if not path.startswith(f"{WORKSPACE}/") or ".." in path.split("/"):
        return f"{uri} is no path of a job's volume, which begins with file://{WORKSPACE}/"
    if claim_name is None:
        return f"nobody says which volume holds {uri}; set storage.claimName"
    return None


def why_not_loaded(uri: str, base_uri: str, *, has_gateway: bool) -> str | None:
    """Why a running pod cannot load an adapter, or its route not choose it; None if both work."""
    if not has_gateway:
        return "which adapter answers the route decides; name a Gateway in spec.gateway"
    if uri.startswith(_FILE) and base_uri.startswith(_FILE):
        return None
    return f"a pod that runs loads adapters from a volume alone, and this one lies at {uri}"


def folder_on_volume(uri: str) -> str:
    """Where a pod has the files of a file:// URI: at the same path as the job that wrote them."""
    return uri.removeprefix(_FILE)


def model_files(revision: DesiredRevision, spec: ModelDeploymentSpec, *, image: str) -> ModelFiles:
    """How the pods of a revision get at its version."""
    if revision.uri.startswith(_FILE):
        claim = {"claimName": revision.claim_name, "readOnly": True}
        return ModelFiles(
            folder=revision.uri.removeprefix(_FILE),
            volumes=({"name": "model", "persistentVolumeClaim": claim},),
            mounts=({"name": "model", "mountPath": WORKSPACE, "readOnly": True},),
        )
    mount = {"name": "model", "mountPath": MODEL}
    if revision.uri.startswith(_OCI):
        reference = revision.uri.removeprefix(_OCI)
        volume = {"reference": reference, "pullPolicy": "IfNotPresent"}
        return ModelFiles(
            folder=f"{MODEL}/{IMAGE_FOLDER}",
            volumes=({"name": "model", "image": volume},),
            mounts=({**mount, "readOnly": True},),
        )
    return _fetched(revision, spec, image=image, mount=mount)


def _fetched(
    revision: DesiredRevision, spec: ModelDeploymentSpec, *, image: str, mount: Manifest
) -> ModelFiles:
    """A copy on the node's disk, made before the server starts."""
    # Below the volume, not at its root: fsGroup makes that one a folder of root's, and a download
    # that was killed half-way is removed before the next.
    folder = f"{MODEL}/version"
    command = ["python", "-m", "tunesmith_serving", "fetch", revision.uri, folder]
    command += ["--digest", revision.digest]
    volumes: list[Manifest] = [{"name": "model", "emptyDir": {}}]
    mounts = [mount, {"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - the pod's own
    if spec.storage.secret_ref is not None:
        secret = spec.storage.secret_ref.name
        command += ["--secret", secret, "--secrets", SECRETS]
        volumes.append({"name": "credentials", "secret": {"secretName": secret}})
        # The server itself never sees the credentials.
        mounts.append({"name": "credentials", "mountPath": f"{SECRETS}/{secret}", "readOnly": True})
    fetch = {
        "name": "fetch",
        "image": image,
        "command": command,
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return ModelFiles(
        folder=folder,
        volumes=tuple(volumes),
        mounts=({**mount, "readOnly": True},),
        init_containers=(fetch,),
    )
