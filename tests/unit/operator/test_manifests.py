"""What the operator makes: names, rights and the isolation of pods."""

from typing import Any

import pytest

from attempts import OWNER, SETTINGS, attempt_for
from tunesmith_api.execution import Workspace
from tunesmith_engine.stages.contracts import StageName
from tunesmith_operator.manifests import family_of
from tunesmith_operator.names import attempt_name


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
    (container,) = pod_of(StageName.VERIFY)["containers"]

    assert container["image"] == "server:1"
    assert container["command"][2:4] == ["tunesmith_serving", "verify"]


def test_a_pod_has_no_privileges_and_writes_only_to_volumes() -> None:
    pod = pod_of(StageName.TRAIN)
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
    pod = pod_of(StageName(stage), resources={"workers": 2, "gpusPerWorker": 4})

    assert pod["containers"][0]["resources"].get("limits", {}).get("nvidia.com/gpu") == gpus


def test_a_secret_is_a_folder_of_files() -> None:
    pod = pod_of(StageName.PREPARE)
    mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}

    assert mounts["secret-0"] == "/run/tunesmith/secrets/hub"


def test_stages_may_patch_the_report_of_their_job_and_nothing_else() -> None:
    made = {
        each["kind"]: each for each in family_of(OWNER, workspace=Workspace(), settings=SETTINGS)
    }
    (rule,) = made["Role"]["rules"]

    assert (rule["verbs"], rule["resourceNames"]) == (["patch"], ["helpdesk-tunesmith"])
