"""What is made, deleted and mended for the actions of one look, and in which order."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException

from api_double import Manifest
from job_double import KEY, SETTINGS, WRITES, JobDouble
from tunesmith_engine.lifecycle.observations import Action, Observations, Start, Stop
from tunesmith_engine.stages.contracts import Environment, StageRequest, StageResult
from tunesmith_operator.controller.child_cache import ChildCache
from tunesmith_operator.finetunejob.attempts import possible_children
from tunesmith_operator.finetunejob.child_names import REQUEST_ANNOTATION, attempt_name
from tunesmith_operator.finetunejob.controller import WATCHES
from tunesmith_operator.finetunejob.executor import KubeExecutor
from tunesmith_operator.finetunejob.observer import Snapshot
from tunesmith_operator.finetunejob.service_accounts import StageAccounts
from tunesmith_operator.kube.api_errors import CONFLICT, ForeignObjectError
from tunesmith_operator.settings import Settings

OWN = "helpdesk-tunesmith"
ACCOUNT = [f"create {kind} {OWN}" for kind in ("ServiceAccount", "Role", "RoleBinding")]
SHARED = [f"create {kind} {OWN}" for kind in ("PersistentVolumeClaim", "ConfigMap")]


def apply(
    double: JobDouble,
    *actions: Action,
    snapshot: Snapshot | None = None,
    children: ChildCache | None = None,
    settings: Settings = SETTINGS,
) -> bool:
    """Whether a child was created by a look that decided on these actions."""
    executor = KubeExecutor(
        double.plan,
        double,
        owner=double.owner,
        settings=settings,
        accounts=StageAccounts(double),
        children=ChildCache(WATCHES) if children is None else children,
    )
    return asyncio.run(executor.apply(actions, snapshot or Snapshot()))


def start(double: JobDouble, stage: str = "prepare") -> Start:
    planned = next(planned for planned in double.plan.stages if planned.name == stage)
    return Start(planned.name, planned.key, 1)


def finished(double: JobDouble, *stages: str, facts: Any = None) -> Snapshot:
    """What a look has seen after these stages."""
    planned = [stage for stage in double.plan.stages if stage.name in stages]
    results = {
        stage.key: StageResult(
            stage=stage.name,
            key=stage.key,
            attempt=1,
            outcome="Succeeded",
            reason="Succeeded",
            facts=facts or {},
        )
        for stage in planned
    }
    return Snapshot(Observations(finished=results), has_report=True)


def training(double: JobDouble, modes: Sequence[str] = ()) -> str:
    """The kind in which the training of the job is started, with a claim of these modes."""
    if modes:
        claim = {"name": OWN, "namespace": "ns"}
        spec = {"accessModes": list(modes)}
        double.put(
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": claim, "spec": spec}
        )
    apply(double, start(double, "train"), snapshot=finished(double, "prepare"))
    return double.asked("create")[-1].split()[1]


def test_the_child_is_made_last_after_the_identity_and_what_all_stages_share() -> None:
    double = JobDouble()
    has_created = apply(double, start(double))
    (job,) = double.names("Job")

    assert has_created
    assert double.asked(*WRITES) == [*ACCOUNT, *SHARED, f"create Job {job}"]


def test_what_is_there_already_is_not_made_again() -> None:
    double = JobDouble()
    apply(double, start(double))
    double.requests.clear()
    has_created = apply(double, start(double), snapshot=Snapshot(has_report=True))
    (job,) = double.names("Job")

    assert not has_created
    assert double.asked(*WRITES) == [f"create Job {job}"]


def test_a_job_with_a_volume_of_somebodys_own_gets_none_from_the_operator() -> None:
    double = JobDouble(workspace={"claimName": "shared"})
    apply(double, start(double))

    assert double.names("PersistentVolumeClaim") == []


def test_a_request_that_fits_into_no_annotation_is_there_before_its_pod() -> None:
    double = JobDouble()
    facts = {"columns": ["x" * 1000] * 300}
    apply(double, start(double, "train"), snapshot=finished(double, "prepare", facts=facts))
    (job,) = double.names("Job")
    template = double.objects["Job", "ns", job]["spec"]["template"]

    assert double.asked(*WRITES) == [*ACCOUNT, f"create ConfigMap {job}", f"create Job {job}"]
    assert template["metadata"]["annotations"] == {}


def test_a_stop_deletes_whatever_the_child_may_be_and_counts_nothing_that_was_told() -> None:
    double = JobDouble("RayJob", resources={"workers": 2})
    action = start(double, "train")
    children = ChildCache(WATCHES)
    told = {"metadata": {"name": "a", "ownerReferences": [{"uid": double.owner.uid}]}}
    children.note(KEY, "Job", told, is_gone=False)
    for kind, name in possible_children(double.plan, "train", key=action.key, number=1):
        owners = [{"uid": double.owner.uid, "kind": "FineTuneJob", "name": "helpdesk"}]
        metadata = {"name": name, "namespace": "ns", "ownerReferences": owners}
        double.put({"apiVersion": "v1", "kind": kind, "metadata": metadata})
    double.requests.clear()
    apply(
        double,
        Stop(action.stage, action.key, 1, because="Suspended"),
        children=children,
    )
    kinds = [request.split()[1] for request in double.asked("delete")]

    assert kinds == ["Job", "RayJob"]
    assert children._children == {}


def test_what_somebody_took_away_from_what_runs_is_given_back_without_any_action() -> None:
    double = JobDouble()
    apply(double, snapshot=Snapshot(lacks_report=True))
    without_report = double.asked(*WRITES)
    apply(double, snapshot=Snapshot(has_report=True, lacks_pods=True))
    without_pods = double.asked(*WRITES)
    apply(double, snapshot=Snapshot(has_report=True))

    assert without_report == SHARED
    assert without_pods == ACCOUNT
    assert double.asked(*WRITES) == []


@pytest.mark.parametrize("kind", ["ConfigMap", "PersistentVolumeClaim"])
def test_what_a_deleted_job_has_left_is_waited_for_and_never_taken_over(kind: str) -> None:
    double = JobDouble()
    owner = {"kind": "FineTuneJob", "name": "helpdesk", "uid": "of-the-deleted-job"}
    left = {"name": OWN, "namespace": "ns", "ownerReferences": [owner]}
    double.put({"apiVersion": "v1", "kind": kind, "metadata": left})

    with pytest.raises(ApiException) as refused:
        apply(double, start(double))

    assert refused.value.status == CONFLICT
    assert double.names("Job") == []
    owners = double.objects[kind, "ns", OWN]["metadata"]["ownerReferences"]
    assert owners == [owner]


@pytest.mark.parametrize("owners", [[], [{"kind": "Deployment", "name": "prod", "uid": "of-prod"}]])
@pytest.mark.parametrize(
    "kind", ["ConfigMap", "PersistentVolumeClaim", "ServiceAccount", "Role", "RoleBinding"]
)
def test_what_somebody_else_has_under_our_name_is_never_taken_over(
    kind: str, owners: list[dict[str, str]]
) -> None:
    """Release `prod` and job `prod`: the operator's own account is called prod-tunesmith, too."""
    double = JobDouble()
    metadata = {"name": OWN, "namespace": "ns", "ownerReferences": owners}
    foreign = {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": {"of": "others"}}
    double.put(foreign)
    before = double.objects[kind, "ns", OWN]

    with pytest.raises(ForeignObjectError, match=f"{kind} {OWN} is there already"):
        apply(double, start(double))

    assert double.objects[kind, "ns", OWN] == before
    assert double.names("Job") == []


def test_a_job_of_somebody_else_is_neither_taken_for_an_attempt_nor_stopped() -> None:
    double = JobDouble()
    action = start(double)
    name = attempt_name("helpdesk", stage=action.stage, attempt=1, key=action.key)
    metadata = {"name": name, "namespace": "ns", "labels": {"tunesmith.dev/job": "helpdesk"}}
    double.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}})

    with pytest.raises(ForeignObjectError):
        apply(double, action)
    apply(double, Stop(action.stage, action.key, 1, because="Suspended"))

    assert double.names("Job") == [name]


def test_several_workers_train_in_a_rayjob_where_kuberay_is_installed() -> None:
    workers = {"resources": {"workers": 2}}

    assert training(JobDouble("RayJob", **workers)) == "RayJob"
    assert training(JobDouble(**workers)) == "Job"
    assert training(JobDouble("RayJob")) == "Job"


@pytest.mark.parametrize(
    ("modes", "kind", "is_together"),
    [
        (["ReadWriteMany"], "RayJob", False),
        (["ReadWriteOnce"], "RayJob", True),
        (["ReadWriteOncePod"], "Job", None),
    ],
)
def test_how_far_apart_the_workers_may_be_follows_from_the_volume_that_is_there(
    modes: list[str], kind: str, *, is_together: bool | None
) -> None:
    double = JobDouble("RayJob", resources={"workers": 2})

    assert training(double, modes) == kind
    for name in double.names("RayJob"):
        groups = double.objects["RayJob", "ns", name]["spec"]["rayClusterSpec"]
        head = groups["headGroupSpec"]["template"]["spec"]
        assert ("podAffinity" in head.get("affinity", {})) is is_together


STORED: dict[str, Any] = {
    "workspace": {"uri": "s3://jobs"},
    "output": {"model": "helpdesk", "uri": "s3://models"},
}


def test_with_an_object_store_several_workers_have_pods_anywhere_and_no_volume() -> None:
    double = JobDouble("RayJob", resources={"workers": 2}, **STORED)

    assert training(double) == "RayJob"
    assert double.names("PersistentVolumeClaim") == []
    (name,) = double.names("RayJob")
    cluster = double.objects["RayJob", "ns", name]["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    for template in (cluster["headGroupSpec"]["template"], workers["template"]):
        (disk,) = (each for each in template["spec"]["volumes"] if each["name"] == "workspace")
        assert disk == {"name": "workspace", "emptyDir": {"sizeLimit": "50Gi"}}
        assert "podAffinity" not in template["spec"].get("affinity", {})
    assert workers["replicas"] == 2
    assert told(workers["template"]).apart


def test_jobs_of_a_namespace_remember_each_other_where_their_workspaces_are_shared() -> None:
    def memory_of(job: JobDouble) -> str | None:
        apply(job, start(job))
        (name,) = job.names("Job")
        return job.request_of(name).memory_store

    assert memory_of(JobDouble(**STORED)) == "s3://jobs/search-memory/ns"
    assert (
        memory_of(JobDouble(workspace={"claimName": "shared"})) == "file:///workspace/search-memory"
    )
    assert memory_of(JobDouble()) is None


def test_workers_in_one_pod_or_on_a_volume_share_a_folder() -> None:
    in_one_pod = JobDouble(resources={"workers": 2}, **STORED)
    on_a_volume = JobDouble("RayJob", resources={"workers": 2})

    assert training(in_one_pod) == "Job"
    assert training(on_a_volume) == "RayJob"
    (job,), (rayjob,) = in_one_pod.names("Job"), on_a_volume.names("RayJob")
    spec = on_a_volume.objects["RayJob", "ns", rayjob]["spec"]["rayClusterSpec"]
    assert not in_one_pod.request_of(job).apart
    assert not told(spec["headGroupSpec"]["template"]).apart


def told(template: Manifest) -> StageRequest:
    """What a pod tells its stage."""
    return StageRequest.model_validate_json(template["metadata"]["annotations"][REQUEST_ANNOTATION])


def test_a_stage_is_told_the_results_of_all_stages_before_it() -> None:
    double = JobDouble()
    snapshot = finished(double, "prepare", "train")
    apply(double, start(double, "evaluate"), snapshot=snapshot)
    (job,) = double.names("Job")

    assert set(double.request_of(job).inputs) == {"prepare", "train"}


def pulled_before(double: JobDouble, stage: str, images: dict[Environment, str]) -> list[str]:
    """The images that the pod of the stage tries before it works."""
    settings = Settings(images=images)
    apply(double, start(double, stage), snapshot=finished(double, "prepare"), settings=settings)
    (job,) = double.names("Job")
    pod = double.objects["Job", "ns", job]["spec"]["template"]["spec"]
    for container in pod.get("initContainers", []):
        assert container["securityContext"] == pod["containers"][0]["securityContext"]
        assert "volumeMounts" not in container
    return [container["image"] for container in pod.get("initContainers", [])]


def test_the_first_pod_of_a_job_pulls_every_image_that_a_later_stage_needs() -> None:
    """One that cannot be pulled would else be noticed after hours of training."""
    images = {each: f"{each}:1" for each in Environment}

    assert pulled_before(JobDouble(), "prepare", images) == ["compressor:1", "server:1"]
    assert pulled_before(JobDouble(), "train", images) == []


def test_an_image_that_several_environments_share_is_pulled_once() -> None:
    images = {**dict.fromkeys(Environment, "all:1"), Environment.SERVER: "server:1"}

    assert pulled_before(JobDouble(), "prepare", images) == ["server:1"]
    assert pulled_before(JobDouble(), "prepare", dict.fromkeys(Environment, "all:1")) == []
