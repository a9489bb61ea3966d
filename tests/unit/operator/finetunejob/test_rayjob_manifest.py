"""The RayJob of an attempt: its name, its pods, and where they may be."""

from pathlib import Path
from typing import Any

import pytest

from attempts import rayjob_for
from tunesmith_engine.stages.contracts import LEAVING
from tunesmith_operator.finetunejob.child_names import (
    MAX_RAYJOB_NAME,
    attempt_name,
    attempt_parts,
    may_be_rayjob,
    rayjob_name,
)
from tunesmith_operator.finetunejob.rayjob_manifest import (
    RAY_VERSION,
    WorkerPlacement,
    worker_placement,
)

LOCK = Path(__file__).parents[4] / "requirements" / "trainer.txt"
RESOURCES = {"workers": 2, "gpusPerWorker": 1, "cpu": "4", "memory": "1Gi"}


def groups_of(**fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Head and workers."""
    spec = rayjob_for(**fields)["spec"]["rayClusterSpec"]
    (workers,) = spec["workerGroupSpecs"]
    return spec["headGroupSpec"], workers


def container_of(group: dict[str, Any]) -> dict[str, Any]:
    (container,) = group["template"]["spec"]["containers"]
    return dict(container)


def test_kuberay_takes_the_longest_name_and_no_two_attempts_share_one() -> None:
    keys = ("0" * 64, "1" * 64, "2abc" + "0" * 60)
    names = [
        rayjob_name("j" * 40, stage="train", attempt=number, key=key)
        for key in keys
        for number in (*range(1, 30), 999)
    ]

    assert max(map(len, names)) <= MAX_RAYJOB_NAME
    assert len(set(names)) == len(names)
    assert {each[:42] for each in names} == {"j" * 40 + "--"}


@pytest.mark.parametrize("job", ["helpdesk", "j" * 40])
def test_its_name_tells_the_attempt(job: str) -> None:
    name = rayjob_name(job, stage="train", attempt=12, key="abcdef")
    stage, attempt, key = attempt_parts(name)

    assert (stage, attempt) == ("train", 12)
    assert "abcdef".startswith(key)
    assert rayjob_name(job, stage=stage, attempt=attempt, key=key) == name


def test_a_name_that_fits_is_that_of_a_batch_job() -> None:
    name = attempt_name("helpdesk", stage="train", attempt=2, key="abcdef")

    assert rayjob_name("helpdesk", stage="train", attempt=2, key="abcdef") == name


def test_a_job_whose_name_begins_with_a_digit_is_none_for_kuberay() -> None:
    assert [may_be_rayjob("7b-chat"), may_be_rayjob("chat-7b")] == [False, True]


def test_every_worker_has_a_pod_with_what_one_worker_asks_for() -> None:
    _, workers = groups_of(resources=RESOURCES)

    assert (workers["replicas"], workers["minReplicas"], workers["maxReplicas"]) == (2, 2, 2)
    assert container_of(workers)["resources"] == {
        "requests": {"cpu": "4", "memory": "1Gi"},
        "limits": {"nvidia.com/gpu": "1"},
    }
    assert workers["rayStartParams"]["num-cpus"] == "1"
    assert workers["rayStartParams"]["num-gpus"] == "1"


def test_the_head_trains_nothing_and_asks_for_no_accelerator() -> None:
    head, _ = groups_of(resources=RESOURCES)

    assert "limits" not in container_of(head)["resources"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["rayStartParams"]["num-gpus"] == "0"


def test_all_pods_have_the_files_and_the_isolation_of_a_stage_and_leave_ray_to_kuberay() -> None:
    for group in groups_of(resources=RESOURCES):
        mounts = {each["mountPath"] for each in container_of(group)["volumeMounts"]}
        assert {"/workspace", "/run/tunesmith/request"} <= mounts
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"]
        assert container_of(group)["securityContext"]["readOnlyRootFilesystem"]
        assert "command" not in container_of(group)
        assert container_of(group)["livenessProbe"]["httpGet"]["port"] == 52365


def test_workers_have_a_port_for_metrics_beside_rays_own_and_the_head_does_not() -> None:
    head, workers = (container_of(group) for group in groups_of(resources=RESOURCES))

    (port,) = workers["ports"]
    # KubeRay takes a port called `metrics` for that of Ray's exporter, 8080.
    assert port == {"name": "train-metrics", "containerPort": 9090}
    assert port not in head["ports"]


def test_it_is_never_restarted_by_kuberay_and_leaves_no_cluster_behind() -> None:
    spec = rayjob_for(resources=RESOURCES)["spec"]

    assert spec["submissionMode"] == "HTTPMode"
    assert spec["backoffLimit"] == 0
    assert spec["shutdownAfterJobFinishes"]
    assert spec["entrypoint"].endswith("train /run/tunesmith/request/request.json")


def test_it_waits_in_its_queue_from_its_creation() -> None:
    rayjob = rayjob_for(resources=RESOURCES, queueName="team")

    assert rayjob["spec"]["suspend"]
    assert rayjob["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"


def test_pods_that_share_a_volume_of_one_node_are_kept_together() -> None:
    together = groups_of(resources=RESOURCES, on_one_node=True)
    apart = groups_of(resources=RESOURCES, on_one_node=False)

    for group in together:
        (term,) = group["template"]["spec"]["affinity"]["podAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]
        labels = term["labelSelector"]["matchLabels"].items()
        assert labels <= group["template"]["metadata"]["labels"].items()
    assert all("affinity" not in group["template"]["spec"] for group in apart)


@pytest.mark.parametrize(
    ("modes", "place"),
    [
        (["ReadWriteMany"], WorkerPlacement.ANY_NODE),
        (["ReadWriteOnce", "ReadWriteMany"], WorkerPlacement.ANY_NODE),
        (["ReadWriteOnce"], WorkerPlacement.ONE_NODE),
        (["ReadWriteOncePod"], WorkerPlacement.ONE_POD),
    ],
)
def test_the_volume_says_how_far_apart_workers_can_be(
    modes: list[str], place: WorkerPlacement
) -> None:
    assert worker_placement({"spec": {"accessModes": modes}}) is place


def test_a_volume_that_is_not_there_yet_promises_nothing() -> None:
    assert worker_placement(None) is WorkerPlacement.ONE_NODE


def test_kuberay_is_told_the_version_of_ray_in_the_trainers_image() -> None:
    assert f"\nray=={RAY_VERSION} \\\n" in LOCK.read_text(encoding="utf-8")


def test_every_pod_is_left_in_good_order_before_it_is_deleted() -> None:
    for group in groups_of(resources=RESOURCES):
        container = container_of(group)

        assert container["lifecycle"]["preStop"]["exec"]["command"][-1] == leaving_module()
        variables = {each["name"]: each.get("value") for each in container["env"]}
        assert LEAVING in variables
        # The name is Ray's: read there when its command starts.
        assert variables["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == "0"


def leaving_module() -> str:
    """The hook's, which is there: the control plane never imports the trainer."""
    name = "tunesmith_trainer.train.leaving"
    assert (Path(__file__).parents[4] / "trainer" / f"{name.replace('.', '/')}.py").is_file()
    return name
