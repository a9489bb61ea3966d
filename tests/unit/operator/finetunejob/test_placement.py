"""Where pods may run and what they ask for, as the job's fields say."""

from typing import Any

import pytest

from attempts import OWNER, SETTINGS, attempt_for
from manifests import DEFAULT_STAGES, a_job
from small_models import SMOL, as_told
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.stages.catalog import CATALOG, EXPORT, PREPARE, PUBLISH, TRAIN
from tunesmith_engine.stages.contracts import StageName
from tunesmith_operator.finetunejob.manifests import shared_objects, store_of
from tunesmith_operator.finetunejob.placement import SPOT_MARKS, given_memory

SMALL = as_told(SMOL)


def pod_for(stage: str = "train", **spec: Any) -> dict[str, Any]:
    pod: dict[str, Any] = attempt_for(stage, **spec)["spec"]["template"]["spec"]
    return pod


def asked(stage: str = "train", **spec: Any) -> dict[str, Any]:
    demands: dict[str, Any] = pod_for(stage, **spec)["containers"][0]["resources"]
    return demands


def workspace_of(**workspace: Any) -> dict[str, Any] | None:
    """The claim that is made for a job."""
    job = FineTuneJob.model_validate(a_job(workspace=workspace))
    made = shared_objects(OWNER, workspace=job.spec.workspace, settings=SETTINGS)
    claims = [each["spec"] for each in made if each["kind"] == "PersistentVolumeClaim"]
    return claims[0] if claims else None


def test_a_pod_of_a_job_that_asks_for_nothing_may_run_anywhere() -> None:
    assert not {"nodeSelector", "tolerations", "affinity", "priorityClassName"} & set(pod_for())


def test_selector_priority_and_pull_secrets_stand_in_the_pod_of_every_stage() -> None:
    resources = {
        "nodeSelector": {"pool": "gpu"},
        "priorityClassName": "batch",
        "imagePullSecrets": [{"name": "registry"}],
    }
    for stage in DEFAULT_STAGES:
        pod = pod_for(stage, resources=resources)

        assert {name: pod[name] for name in resources} == resources


def test_tolerations_are_those_of_the_job_without_what_it_left_out() -> None:
    given = [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]

    assert pod_for(resources={"tolerations": given})["tolerations"] == given


def test_spot_tolerates_and_prefers_nodes_that_may_be_taken_away() -> None:
    pod = pod_for(resources={"spot": True})
    preferred = pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]

    assert [each["key"] for each in pod["tolerations"]] == [key for key, _ in SPOT_MARKS]
    assert len(preferred) == len(SPOT_MARKS)


def test_accelerators_are_asked_for_under_the_name_that_the_job_gives() -> None:
    resources = {"gpusPerWorker": 4, "accelerator": "amd.com/gpu"}

    assert asked("train", resources=resources)["limits"] == {"amd.com/gpu": "4"}


def test_workers_that_share_a_pod_ask_for_all_they_need_together() -> None:
    resources = {"workers": 2, "cpu": "500m", "memory": "3Gi"}

    assert asked("train", resources=resources)["requests"] == {"cpu": "1000m", "memory": "6Gi"}
    assert asked("evaluate", resources=resources)["requests"] == {"cpu": "500m", "memory": "3Gi"}


def test_before_prepare_has_seen_the_model_a_stage_asks_for_two_gibibytes() -> None:
    assert asked("prepare")["requests"] == {"cpu": "1", "memory": "2Gi"}


def test_afterwards_a_stage_asks_for_what_it_is_estimated_to_take() -> None:
    train = int(asked("train", facts=SMALL)["requests"]["memory"])
    publish = int(asked("publish", facts=SMALL)["requests"]["memory"])

    assert train > 4 * publish > 4 * 500_000_000


def test_training_asks_for_the_memory_that_its_longest_row_takes() -> None:
    def memory(**rows: Any) -> int:
        return int(asked("train", facts=SMALL, **rows)["requests"]["memory"])

    assert memory(longest_row=50) < memory(longest_row=500) < memory()
    assert memory(longest_row=0) == memory(longest_row=True) == memory()


@pytest.mark.parametrize("facts", [{"numParameters": "many"}, {"numParameters": 1, "bogus": 2}])
def test_facts_that_are_none_change_nothing(facts: dict[str, Any]) -> None:
    assert asked("train", facts=facts)["requests"]["memory"] == "2Gi"


def given(**resources: Any) -> dict[StageName, tuple[int, str]]:
    """Bytes, and the field that says so, of each stage whose memory is known before its pod is."""
    spec = FineTuneJob.model_validate(a_job(resources=resources)).spec
    found = given_memory(CATALOG, spec)
    return {stage: (each.size_bytes, each.given_by) for stage, each in found.items()}


def test_stages_are_given_what_their_pods_ask_for() -> None:
    found = given(memory="3Gi", workers=2)

    assert found[TRAIN.name] == (6 << 30, "resources.memory: 3Gi for each of 2 workers")
    assert found[PUBLISH.name] == (3 << 30, "resources.memory: 3Gi")
    assert set(found) == set(CATALOG.names) - {PREPARE.name}


def test_decimal_and_binary_units_of_memory_are_told_apart() -> None:
    sizes = [given(memory=each)[TRAIN.name][0] for each in ("5M", "5Mi", "5G", "5T", "5Ti")]

    assert sizes == [5 * 10**6, 5 << 20, 5 * 10**9, 5 * 10**12, 5 << 40]


@pytest.mark.parametrize(
    "resources", [{}, {"gpusPerWorker": 1}, {"nodeSelector": {"nvidia.com/gpu.memory": "81559"}}]
)
def test_where_no_field_tells_nothing_is_given(resources: dict[str, Any]) -> None:
    assert given(**resources) == {}


def test_training_on_accelerators_is_given_their_memory_where_a_field_tells() -> None:
    slice_ = given(gpusPerWorker=1, accelerator="nvidia.com/mig-1g.10gb.me", memory="64Gi")
    labelled = given(gpusPerWorker=1, nodeSelector={"nvidia.com/gpu.memory": "81559"})
    nonsense = given(gpusPerWorker=1, nodeSelector={"nvidia.com/gpu.memory": "large"})

    named = "resources.accelerator: nvidia.com/mig-1g.10gb.me"
    assert slice_[TRAIN.name] == (10 << 30, named)
    # The other stages compute on one, too, and what they need of it was never measured.
    assert set(slice_) == {TRAIN.name, EXPORT.name, PUBLISH.name}
    assert labelled[TRAIN.name][0] == 81559 << 20
    assert nonsense == {}


def test_a_queue_is_named_on_the_job_of_every_stage() -> None:
    for stage in DEFAULT_STAGES:
        labels = attempt_for(stage, queueName="team")["metadata"]["labels"]

        assert labels["kueue.x-k8s.io/queue-name"] == "team"


def test_a_job_of_a_queue_waits_from_its_creation_and_no_other_says_a_word() -> None:
    assert attempt_for("train", queueName="team")["spec"]["suspend"] is True
    assert "suspend" not in attempt_for("train")["spec"]


def test_a_workspace_is_made_as_the_job_says_and_else_as_the_operator_does() -> None:
    assert workspace_of() == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "50Gi"}},
        "storageClassName": "slow",
    }
    assert workspace_of(size="9Gi", storageClassName="fast", accessMode="ReadWriteMany") == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "9Gi"}},
        "storageClassName": "fast",
    }


def test_a_workspace_that_is_given_is_used_and_none_is_made() -> None:
    pod = pod_for(workspace={"claimName": "shared"})
    claims = {
        each["persistentVolumeClaim"]["claimName"]
        for each in pod["volumes"]
        if "persistentVolumeClaim" in each
    }

    assert claims == {"shared"}
    assert workspace_of(claimName="shared") is None


STORED: dict[str, Any] = {
    "workspace": {"uri": "s3://jobs/a/", "secretRef": {"name": "bucket"}},
    "output": {"model": "helpdesk", "uri": "s3://models"},
}


def test_before_an_object_store_lies_a_disk_of_the_pods_own_and_no_volume_is_made() -> None:
    pod = pod_for(**STORED)
    volumes = {each["name"]: each for each in pod["volumes"]}
    job = FineTuneJob.model_validate(a_job(**STORED))

    assert volumes["workspace"] == {"name": "workspace", "emptyDir": {"sizeLimit": "50Gi"}}
    assert volumes["secret-0"]["secret"]["secretName"] == "bucket"
    assert [
        each["kind"]
        for each in shared_objects(OWNER, workspace=job.spec.workspace, settings=SETTINGS)
    ] == ["ConfigMap"]


def test_the_disk_before_an_object_store_is_as_large_as_the_job_says() -> None:
    pod = pod_for(**STORED | {"workspace": {"uri": "s3://jobs", "size": "9Gi"}})
    (volume,) = (each for each in pod["volumes"] if each["name"] == "workspace")

    assert volume["emptyDir"] == {"sizeLimit": "9Gi"}


def test_each_job_has_a_place_of_its_own_in_the_store() -> None:
    job = FineTuneJob.model_validate(a_job(**STORED))

    assert store_of(OWNER, job.spec.workspace) == "s3://jobs/a/ns-helpdesk-u"
    assert store_of(OWNER, FineTuneJob.model_validate(a_job()).spec.workspace) is None
