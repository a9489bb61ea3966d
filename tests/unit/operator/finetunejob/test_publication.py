"""What a job leaves behind: the record of its version, its volume, and a deployment."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from job_double import KEY, SETTINGS, JobDouble
from manifests import a_job, a_version
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.modelversion import ModelVersion, record_content
from tunesmith_engine.stages.catalog import CATALOG
from tunesmith_operator.finetunejob.controller import finetunejob_controller
from tunesmith_operator.finetunejob.publication import Publisher, version_in

LOCAL = "file:///workspace/models/helpdesk/1a2b3c"
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
CLAIM = ("PersistentVolumeClaim", "ns", "helpdesk-tunesmith")
VERSION = ("ModelVersion", "ns", "helpdesk-1a2b3c")


def facts(**spec: Any) -> dict[str, Any]:
    return {"modelVersion": a_version(**spec)}


def published(double: JobDouble, told: dict[str, Any], **spec: Any) -> str | None:
    job = FineTuneJob.model_validate(a_job(**spec))
    return asyncio.run(Publisher(double).publish(told, job.spec, owner=double.owner, now=NOW))


def a_double() -> JobDouble:
    return JobDouble("ModelVersion", "ModelDeployment")


def test_a_version_belongs_to_nobody_and_names_its_model() -> None:
    double = a_double()
    assert published(double, facts()) is None
    metadata = double.objects[VERSION]["metadata"]

    assert "ownerReferences" not in metadata
    assert metadata["labels"] == {"tunesmith.dev/model": "helpdesk"}
    assert metadata["annotations"] == {"tunesmith.dev/published-at": "2026-11-29T12:00:00+00:00"}
    assert double.asked("apply") == []


def test_the_volume_that_a_version_lies_on_outlives_the_job() -> None:
    double = a_double()
    owner = {"uid": double.owner.uid, "kind": "FineTuneJob", "name": "helpdesk"}
    claim = {"name": CLAIM[2], "namespace": "ns", "ownerReferences": [owner]}
    double.put({"apiVersion": "v1", "kind": CLAIM[0], "metadata": claim, "spec": {}})
    assert published(double, facts(uri=LOCAL)) is None

    owners = double.objects[CLAIM]["metadata"]["ownerReferences"]
    assert [each["kind"] for each in owners] == ["FineTuneJob", "ModelVersion"]
    assert double.objects[VERSION]["spec"]["claimName"] == CLAIM[2]


def test_a_volume_that_somebody_gave_the_job_is_theirs() -> None:
    double = a_double()
    assert published(double, facts(uri=LOCAL), workspace={"claimName": "shared"}) is None

    assert double.objects[VERSION]["spec"]["claimName"] == "shared"
    assert double.asked("apply") == []


def test_a_version_with_other_content_is_told_of_and_never_overwritten() -> None:
    double = a_double()
    published(double, facts())
    again = published(double, facts())
    warning = published(double, facts(digest=f"sha256:{'9' * 64}"))

    assert again is None
    assert "with other content" in (warning or "")
    assert double.objects[VERSION]["spec"]["digest"] == f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    "told",
    [
        {"modelVersion": "helpdesk-1"},
        facts(model="other"),
        {"modelVersion": a_version() | {"metadata": {"name": "other-1a2b3c"}}},
    ],
)
def test_what_a_pod_reports_is_no_version_of_another_model(told: dict[str, Any]) -> None:
    double = a_double()

    assert "no version was recorded" in (published(double, told) or "")
    assert double.names("ModelVersion") == []
    assert version_in({}, FineTuneJob.model_validate(a_job()).spec) is None


def test_a_deployment_is_made_if_it_is_missing_and_left_alone_if_it_is_there() -> None:
    double = a_double()
    deploy = {"replicas": 2, "gateway": {"name": "public"}, "resources": {"gpusPerReplica": 1}}
    published(double, facts(), deploy=deploy)
    place = ("ModelDeployment", "ns", "helpdesk")
    first = double.objects[place]
    published(double, facts(), deploy={"replicas": 9})

    assert first["spec"] == {
        "model": "helpdesk",
        "replicas": 2,
        "resources": {"gpusPerReplica": 1},
        "gateway": {"name": "public"},
    }
    assert "ownerReferences" not in first["metadata"]
    assert double.objects[place] == first


def test_the_record_is_there_before_the_success_is_stored() -> None:
    double = a_double()

    async def run() -> None:
        controller = finetunejob_controller(double, SETTINGS, double.recorder)
        for _ in range(3 * len(CATALOG.names)):
            await controller.reconcile(KEY)
            for name in double.names("Job"):
                if "status" not in double.objects["Job", "ns", name]:
                    request = double.request_of(name)
                    told = facts(uri=LOCAL) if request.stage == "publish" else {}
                    double.report(request, **told)
                    double.end(name)

    asyncio.run(run())
    asked = double.asked("create", "patch_status")
    made = asked.index("create ModelVersion helpdesk-1a2b3c")

    assert double.status["phase"] == "Succeeded"
    assert double.status["modelVersion"] == "helpdesk-1a2b3c"
    assert asked[made + 1 :] == ["patch_status FineTuneJob helpdesk"]


def test_a_record_says_nothing_of_fields_that_an_older_release_lacks() -> None:
    """After a rollback the older operator reads it, and the older definitions take it."""
    record = record_content(ModelVersion.model_validate(a_version()))

    assert set(record) == {"apiVersion", "kind", "metadata", "spec"}
    assert record["spec"] == a_version()["spec"]
