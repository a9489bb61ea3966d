"""What may be corrected in a failed job: the chart's policy on a real API server."""

from typing import Any, Final

import pytest

from cluster import Cluster
from operator_process import a_job

# One change for each stage of a job, then some that no stage reads.
CHANGES: Final[dict[str, dict[str, Any]]] = {
    "prepare": {"dataset": {"seed": 7}},
    "train": {"training": {"optimizer": {"learningRate": 0.5}}},
    "evaluate": {"evaluation": {"gates": []}},
    "compress": {"compression": {"quantize": {"scheme": "none"}}},
    "verify": {"serving": {"enforceEager": False}},
    "publish": {"output": {"uri": "s3://elsewhere/models"}},
}
ALWAYS: Final[tuple[dict[str, Any], ...]] = (
    {"queueName": "team"},
    {"resources": {"memory": "64Gi", "nodeSelector": {"disk": "fast"}}},
    {"activeDeadlineSeconds": 7200},
    {"deploy": {"name": "helpdesk"}},
    {"model": {"secretRef": {"name": "hub"}}},
    {"checkpoint": {"keep": 9}},
)
NEVER: Final = {"workspace": {"size": "1Ti"}}
# A stage that the job did not ask for, between prepare and train.
REHEARSE: Final[dict[str, Any]] = {"dataset": {"replay": {"selfSynthesis": {"rows": 99}}}}
REPLAY: Final[dict[str, Any]] = {"replay": {"selfSynthesis": {"rows": 9}}}


def a_stopped_job(
    cluster: Cluster, *, done: tuple[str, ...], phase: str = "Failed", **dataset: Any
) -> None:
    """A job whose status says so; no operator looks at it."""
    job = a_job()
    job["spec"]["dataset"] |= dataset
    cluster.create(job).raise_for_status()
    stages = [{"name": name, "key": "k", "state": "Succeeded"} for name in done]
    stages.append({"name": "next", "key": "k", "state": "Failed"})
    status = {"phase": phase, "startTime": "2026-11-27T12:00:00Z", "stages": stages}
    change = {"status": status}
    cluster.merge("FineTuneJob", "helpdesk", change, status=True).raise_for_status()


def correct(cluster: Cluster, change: dict[str, Any]) -> str:
    """What the server says to the change; nothing if it lets it pass."""
    answer = cluster.merge("FineTuneJob", "helpdesk", {"spec": change}, dry_run=True)
    return "" if answer.is_success else str(answer.json()["message"])


@pytest.mark.parametrize("failed", CHANGES)
def test_what_a_finished_stage_has_read_is_fixed_and_all_else_can_be_corrected(
    cluster: Cluster, failed: str
) -> None:
    done = tuple(CHANGES)[: tuple(CHANGES).index(failed)]
    a_stopped_job(cluster, done=done)

    said = {name: correct(cluster, change) for name, change in CHANGES.items()}

    assert {name for name, message in said.items() if message} == set(done)
    for name in done:
        assert f": what {name} reads is fixed by now; make a new job" in said[name]
    assert [correct(cluster, change) for change in ALWAYS] == [""] * len(ALWAYS)
    assert "workspace is fixed once the job has started" in correct(cluster, NEVER)


def test_a_stage_comes_not_between_those_that_are_done(cluster: Cluster) -> None:
    a_stopped_job(cluster, done=("prepare", "train"), **REPLAY)

    assert "spec.dataset.replay.selfSynthesis: what rehearse reads is fixed" in correct(
        cluster, REHEARSE
    )


def test_every_field_that_breaks_it_is_named(cluster: Cluster) -> None:
    a_stopped_job(cluster, done=("prepare", "train"))

    message = correct(cluster, {"training": {"seed": 7, "epochs": 9}, "evaluation": {"gates": []}})

    assert "spec.training.epochs, spec.training.seed: what train reads is fixed" in message
    assert "gates" not in message


@pytest.mark.parametrize("phase", ["Training", "Suspended", "Succeeded"])
def test_nothing_is_corrected_in_a_job_that_has_not_failed(cluster: Cluster, phase: str) -> None:
    a_stopped_job(cluster, done=("prepare",), phase=phase)

    fixed = [correct(cluster, change) for change in (CHANGES["publish"], ALWAYS[0], ALWAYS[1])]

    assert all("is fixed from the start on, unless the job fails" in said for said in fixed)
    assert correct(cluster, {"suspend": True}) == ""


def test_the_status_cannot_be_made_to_unlock_the_spec(cluster: Cluster) -> None:
    """It is written by its own path alone, for which nobody but the operator has a right."""
    a_stopped_job(cluster, done=("prepare", "train"))

    change = {"spec": {"training": {"seed": 7}}, "status": {"stages": []}}
    answer = cluster.merge("FineTuneJob", "helpdesk", change)

    assert answer.is_client_error
    assert "spec.training.seed: what train reads is fixed" in answer.text
