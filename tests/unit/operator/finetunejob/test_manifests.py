"""What the operator makes: names, rights and the isolation of pods."""

from typing import Any

import pytest

from attempts import OWNER, attempt_for, request_for
from tunesmith_engine.stages.catalog import PREPARE, TRAIN, VERIFY
from tunesmith_engine.stages.contracts import METRICS_PORT, StageName, StageRequest
from tunesmith_operator.finetunejob.child_names import REQUEST_ANNOTATION as REQUEST
from tunesmith_operator.finetunejob.child_names import attempt_name
from tunesmith_operator.finetunejob.manifests import request_map


def pod_of(stage: StageName, **spec: Any) -> dict[str, Any]:
    """The pod that an attempt of the stage runs in."""
    model = {"uri": "hf://org/model", "secretRef": {"name": "hub"}}
    pod: dict[str, Any] = attempt_for(stage, model=model, **spec)["spec"]["template"]["spec"]
    return pod


def test_the_longest_names_fit_into_a_label() -> None:
    name = attempt_name("j" * 40, stage="evaluate", attempt=999, key="0" * 64)

    assert len(name) <= 63


def test_another_key_gives_another_name() -> None:
    names = {attempt_name("job", stage="train", attempt=1, key=key * 64) for key in "ab"}

    assert len(names) == 2


def test_a_pod_runs_the_image_and_the_module_of_its_environment() -> None:
    (container,) = pod_of(VERIFY.name)["containers"]

    assert container["image"] == "server:1"
    assert container["command"][2:4] == ["tunesmith_serving", "verify"]


def test_a_pod_has_no_privileges_and_writes_only_to_volumes() -> None:
    pod = pod_of(TRAIN.name)
    security = pod["containers"][0]["securityContext"]

    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(
    ("stage", "gpus"), [("prepare", None), ("train", "8"), ("evaluate", "1"), ("publish", None)]
)
def test_graphics_processors_are_asked_for_where_they_are_used(
    stage: str, gpus: str | None
) -> None:
    pod = pod_of(stage, resources={"workers": 2, "gpusPerWorker": 4})

    assert pod["containers"][0]["resources"].get("limits", {}).get("nvidia.com/gpu") == gpus


def test_pods_that_train_have_a_port_for_metrics_and_no_others_do() -> None:
    (trains,) = pod_of(TRAIN.name)["containers"]
    (prepares,) = pod_of(PREPARE.name)["containers"]

    (port,) = trains["ports"]
    assert {"name": METRICS_PORT, "value": str(port["containerPort"])} in trains["env"]
    assert "ports" not in prepares
    assert METRICS_PORT not in {each["name"] for each in prepares["env"]}


def test_a_secret_is_a_folder_of_files() -> None:
    pod = pod_of(PREPARE.name)
    mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}

    assert mounts["secret-0"] == "/run/tunesmith/secrets/hub"


def test_a_pod_carries_its_request_and_reads_it_as_a_file() -> None:
    template = attempt_for(TRAIN.name)["spec"]["template"]
    (volume,) = (each for each in template["spec"]["volumes"] if each["name"] == "request")
    (item,) = volume["downwardAPI"]["items"]
    request = StageRequest.model_validate_json(template["metadata"]["annotations"][REQUEST])

    assert (request.stage, item["path"]) == (TRAIN.name, "request.json")
    assert item["fieldRef"]["fieldPath"] == f"metadata.annotations['{REQUEST}']"


def test_a_request_too_large_for_annotations_is_read_from_a_map_of_its_own() -> None:
    facts = {"sample": "x" * 250_000}
    template = attempt_for(TRAIN.name, facts=facts)["spec"]["template"]
    made = request_map(OWNER, request_for(TRAIN.name, facts=facts)) or {}

    assert template["metadata"]["annotations"] == {}
    assert {"name": "request", "configMap": {"name": made["metadata"]["name"]}} in template["spec"][
        "volumes"
    ]
    assert StageRequest.model_validate_json(made["data"]["request.json"]).inputs
