"""Other releases before and after this one, with jobs and deployments in the middle of their life.

They change the definitions that all tests share.
"""

import json
from typing import Any

import httpx
import pytest

from births import watched_births
from cluster import Cluster
from crowd import wait_until
from model_deployments import a_deployment, is_at_rest, publish
from operator_process import a_job, an_operator, wait_for_pod
from other_releases import NEW_FIELD, OLDER, leave_in_training, older_release, upgrade
from serving_cluster import ServingCluster
from stage_pods import end_pod, request_of, run_pods, succeeded
from tunesmith_engine.stages.contracts import StageResult

pytestmark = [pytest.mark.alone, pytest.mark.long]

AFTER_TRAINING = ["evaluate-1", "compress-1", "verify-1", "publish-1"]


def end_of_older_training(cluster: Cluster) -> None:
    """The pod that the older release has started reports, and ends."""
    stage = next(each for each in OLDER["status"]["stages"] if each["name"] == "train")
    result = StageResult(
        stage="train", key=stage["key"], attempt=1, outcome="Succeeded", reason="Succeeded"
    )
    told = {f"train-1-{stage['key'][:5]}.result": result.model_dump_json(by_alias=True)}
    change = json.dumps({"data": told})
    cluster.kubectl("patch", "configmap/helpdesk-tunesmith", "--type=merge", f"--patch={change}")
    end_pod(cluster, wait_for_pod(cluster), None, ended={"exitCode": 0})


def events(cluster: Cluster, name: str) -> list[str]:
    """What the Events of this object warn of."""
    of = f"--field-selector=involvedObject.name={name},reason=OtherRelease"
    found = json.loads(cluster.kubectl("get", "events", of, "--output=json"))["items"]
    return [each["message"] for each in found]


def uids(cluster: Cluster, kinds: str) -> set[str]:
    found = json.loads(cluster.kubectl("get", kinds, "--output=json"))["items"]
    return {each["metadata"]["uid"] for each in found}


def test_what_an_older_release_has_begun_goes_on_and_nothing_is_made_twice(
    server: httpx.Client, cluster: Cluster
) -> None:
    with older_release(), watched_births(server, cluster.namespace) as births:
        before = leave_in_training(cluster)
        upgrade()
        with an_operator(cluster.namespace):
            end_of_older_training(cluster)
            ran = run_pods(cluster, "helpdesk", timeout_s=120)
        births.alive([cluster.namespace])
    status = cluster.get("FineTuneJob", "helpdesk")["status"]

    assert ran == AFTER_TRAINING
    assert births.twins() == {}
    assert [each["attempt"] for each in status["stages"]] == [1] * 6
    assert [each["key"] for each in status["stages"]] == [
        each["key"] for each in before["status"]["stages"]
    ]
    assert status["attempts"][0] == before["status"]["attempts"][0]
    assert status["startTime"] == before["status"]["startTime"]


def test_a_deployment_of_an_older_release_goes_on_serving_and_follows_new_versions(
    cluster: Cluster,
) -> None:
    """Its status has been written under definitions that drop what is new."""
    rollout = {"strategy": "blueGreen", "drainSeconds": 5}
    with older_release(), ServingCluster(cluster, has_gateway=False).running() as serving:
        publish(cluster, "v1")
        cluster.create(a_deployment(rollout=rollout)).raise_for_status()
        with an_operator(cluster.namespace):
            serving.wait_until(is_at_rest("v1"), timeout_s=120)
        made = uids(cluster, "deployments,services,pods")
        upgrade()
        with an_operator(cluster.namespace):
            publish(cluster, "v2")
            serving.wait_until(lambda status: "candidate" in status, timeout_s=120)
            kept = uids(cluster, "deployments,services,pods")
            serving.wait_until(is_at_rest("v2"), timeout_s=240)
            # What is drained is told first, and taken away then.
            wait_until(lambda: serving.versions() == ["v2"])

    assert made <= kept


def prepare(cluster: Cluster, name: str, **spec: Any) -> None:
    """A job whose data are prepared, and whose training waits for a node."""
    cluster.apply(a_job(name, **spec)).raise_for_status()
    pod = wait_for_pod(cluster, timeout_s=120)
    end_pod(cluster, pod, succeeded(request_of(cluster, pod)), ended={"exitCode": 0})


def test_after_a_roll_back_a_job_that_lost_a_field_waits_for_the_upgrade_and_others_go_on(
    cluster: Cluster,
) -> None:
    """Without the field another model would be trained, under the name of this one."""
    with an_operator(cluster.namespace):
        prepare(cluster, "helpdesk", **NEW_FIELD)
        wait_until(lambda: "train-1" in cluster.kubectl("get", "pods"), timeout_s=120)
    with older_release():
        left = cluster.get("FineTuneJob", "helpdesk")
        cluster.create(a_job("plain")).raise_for_status()
        with an_operator(cluster.namespace):
            wait_until(lambda: bool(events(cluster, "helpdesk")), timeout_s=120)
            # What runs goes on: the training of the other ends, too.
            plain = run_pods(cluster, "plain", timeout_s=120)
            alone = cluster.get("FineTuneJob", "helpdesk")
        (said,) = events(cluster, "helpdesk")
        jobs = cluster.kubectl("get", "jobs", "--selector=tunesmith.dev/job=helpdesk")
        upgrade()
        again = cluster.get("FineTuneJob", "helpdesk")
        with an_operator(cluster.namespace):
            ran = run_pods(cluster, "helpdesk", timeout_s=120)

    assert "packing" not in left["spec"]["training"]
    assert said.startswith("spec.training.packing was given under another release")
    assert alone["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]
    assert len(jobs.splitlines()) == 1 + 2
    assert set(plain) >= {f"{each}-1" for each in ("prepare", "train", "publish")}
    assert again["spec"]["training"]["packing"] == NEW_FIELD["training"]["packing"]
    assert ran == AFTER_TRAINING


def test_a_job_goes_on_through_an_upgrade_a_roll_back_and_an_upgrade(cluster: Cluster) -> None:
    """Half the stages under the one release, half under the other; what is done stays done."""
    with an_operator(cluster.namespace):
        prepare(cluster, "helpdesk")
        with older_release():
            pod = wait_for_pod(cluster, timeout_s=120)
            end_pod(cluster, pod, succeeded(request_of(cluster, pod)), ended={"exitCode": 0})
            wait_until(lambda: "evaluate-1" in cluster.kubectl("get", "pods"), timeout_s=120)
        ran = run_pods(cluster, "helpdesk", timeout_s=120)
    status = cluster.get("FineTuneJob", "helpdesk")["status"]

    assert ran == AFTER_TRAINING
    assert [each["attempt"] for each in status["stages"]] == [1] * 6
