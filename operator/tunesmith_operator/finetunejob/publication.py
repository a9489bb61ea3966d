"""What a job leaves behind that is not its own: the record of its version, and a deployment.

Both are made before the job's success is stored, so that a job that has succeeded has its version;
a look that was killed in between makes them again, and finds them. Deleting the job takes neither
away.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pydantic import JsonValue, ValidationError

from tunesmith_api.finetunejob.deploy import Deploy
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.status import MAX_WARNINGS, FineTuneJobStatus, Phase
from tunesmith_api.metadata import ObjectMeta
from tunesmith_api.modeldeployment.deployment import ModelDeployment
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec, ServingResources, Storage
from tunesmith_api.modelversion import PUBLISHED_ANNOTATION, ModelVersion, record_content
from tunesmith_engine.conditions import truncate_message
from tunesmith_operator.finetunejob.child_names import shared_name
from tunesmith_operator.finetunejob.job_ref import JobRef
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.objects import Manifest

LABEL_MODEL: Final = "tunesmith.dev/model"
# Apart from what the operator applies for the job, which knows no version: neither takes away what
# the other has written into a claim.
VOLUME_KEEPER: Final = "tunesmith-operator-versions"
_FILE: Final = "file://"


def has_just_succeeded(before: FineTuneJobStatus | None, after: FineTuneJobStatus) -> bool:
    """Whether a look has found that the job is over and well, and that is not stored yet."""
    was_over = before is not None and before.phase == Phase.SUCCEEDED
    return after.phase == Phase.SUCCEEDED and not was_over


def with_warning(status: FineTuneJobStatus, warning: str) -> FineTuneJobStatus:
    """The status that says so, too; the newest warnings are kept."""
    warnings = [*status.warnings, truncate_message(warning)][-MAX_WARNINGS:]
    return status.model_copy(update={"warnings": warnings})


def version_in(facts: Mapping[str, JsonValue], spec: FineTuneJobSpec) -> ModelVersion | str | None:
    """The version in what `publish` reported; why it is none, or None where nothing is told.

    NB: a pod wrote it. Of another model it would be served in place of that model's own.
    """
    record = facts.get("modelVersion")
    if record is None:
        return None
    try:
        version = ModelVersion.model_validate(record)
    except ValidationError as error:
        path = ".".join(str(part) for part in error.errors()[0]["loc"])
        return f"what publish reported is no ModelVersion ({path}); no version was recorded"
    named = f"{version.spec.model}-{version.spec.version}"
    if version.spec.model != spec.output.model or version.metadata.name != named:
        return (
            f"publish reported {version.metadata.name}, which is no version of "
            f"{spec.output.model}; no version was recorded"
        )
    return version


class Publisher:
    """Makes the records of versions, and deployments."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def publish(
        self,
        facts: Mapping[str, JsonValue],
        spec: FineTuneJobSpec,
        *,
        owner: JobRef,
        now: datetime,
    ) -> str | None:
        """Record the version, and deploy it if the job asks for that.

        Return what a person should know, if anything went otherwise.

        Raises:
            kubernetes.aio.client.exceptions.ApiException: the API server refuses.
        """
        version = version_in(facts, spec)
        warning = version if isinstance(version, str) else None
        if isinstance(version, ModelVersion):
            warning = await self._record(version, spec, owner=owner, now=now)
        if spec.deploy is not None:
            await self._client.create(deployment_of(spec.deploy, spec, owner=owner))
        return warning

    async def _record(
        self, version: ModelVersion, spec: FineTuneJobSpec, *, owner: JobRef, now: datetime
    ) -> str | None:
        claim = _claim_of(version, spec, owner)
        manifest = record_of(version, claim_name=claim, namespace=owner.namespace, now=now)
        await self._client.create(manifest)
        name = version.metadata.name
        stored = await self._client.get("ModelVersion", owner.namespace, name)
        if stored is None:
            return None
        if stored["spec"].get("digest") != version.spec.digest:
            return (
                f"ModelVersion {name} is there already with other content, and was left as it is: "
                f"what this job published at {version.spec.uri} has no record; set output.version "
                "to another name"
            )
        # A claim that somebody gave the job is theirs to keep.
        if claim is not None and spec.workspace.claim_name is None:
            await self._client.apply(kept_volume(claim, stored), manager=VOLUME_KEEPER)
        return None


def record_of(
    version: ModelVersion, *, claim_name: str | None, namespace: str, now: datetime
) -> Manifest:
    """The record as it is created `now`; nobody owns it."""
    record: Manifest = record_content(version)
    volume = {"claimName": claim_name} if claim_name else {}
    return {
        **record,
        "metadata": {
            "name": version.metadata.name,
            "namespace": namespace,
            "labels": {**version.metadata.labels, LABEL_MODEL: version.spec.model},
            "annotations": {
                **version.metadata.annotations,
                PUBLISHED_ANNOTATION: now.isoformat(timespec="seconds"),
            },
        },
        "spec": {**record["spec"], **volume},
    }


def kept_volume(claim: str, version: Manifest) -> Manifest:
    """What makes a job's volume stay for as long as a version lies on it: one owner more."""
    metadata = version["metadata"]
    owner = {
        "apiVersion": version["apiVersion"],
        "kind": version["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim,
            "namespace": metadata["namespace"],
            "ownerReferences": [owner],
        },
    }


def deployment_of(deploy: Deploy, spec: FineTuneJobSpec, *, owner: JobRef) -> Manifest:
    """The ModelDeployment that follows the model of the job."""
    deployment = ModelDeployment(
        metadata=ObjectMeta(name=deploy.name or spec.output.model, namespace=owner.namespace),
        spec=ModelDeploymentSpec(
            model=spec.output.model,
            replicas=deploy.replicas,
            resources=ServingResources(
                gpus_per_replica=deploy.resources.gpus_per_replica,
                accelerator=spec.resources.accelerator,
            ),
            storage=Storage(secret_ref=spec.output.secret_ref),
            gateway=deploy.gateway,
        ),
    )
    # Without defaults: the server fills them in, and those of a later release are its own.
    given = deployment.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True
    )
    return {"apiVersion": deployment.api_version, "kind": deployment.kind, **given}


def _claim_of(version: ModelVersion, spec: FineTuneJobSpec, owner: JobRef) -> str | None:
    """The volume that the version lies on, if it does."""
    if not version.spec.uri.startswith(_FILE) or spec.workspace.uri is not None:
        return None
    return spec.workspace.claim_name or shared_name(owner.name)
