"""Plays the kubelet and the stages: ends the pods of attempts, and reports with their own token.

The control plane of the tests has no nodes. A pod gets the status that a kubelet would write, and
the Job controller of the control plane does the rest.
"""

import json
import time
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from httpx import HTTPStatusError
from pydantic import JsonValue

from cluster import Cluster, kubectl
from manifests import a_version
from tunesmith_engine.stages.catalog import PUBLISH
from tunesmith_engine.stages.configmap_reporter import ReportMap
from tunesmith_engine.stages.contracts import StageRequest, StageResult
from tunesmith_operator.finetunejob.child_names import REQUEST_ANNOTATION


def pending_pods(cluster: Cluster) -> list[dict[str, Any]]:
    """The pods that wait to be run."""
    # Asked ten times a second by tests that wait: a kubectl each time would keep a processor busy.
    answer = cluster.http.get(f"/api/v1/namespaces/{cluster.namespace}/pods").raise_for_status()
    return [pod for pod in answer.json()["items"] if pod["status"].get("phase") == "Pending"]


def request_of(cluster: Cluster, pod: dict[str, Any]) -> StageRequest:
    """The request that the pod would read."""
    volume = next(each for each in pod["spec"]["volumes"] if each["name"] == "request")
    if "downwardAPI" in volume:
        text = pod["metadata"]["annotations"][REQUEST_ANNOTATION]
    else:
        path = f"/api/v1/namespaces/{cluster.namespace}/configmaps/{volume['configMap']['name']}"
        text = cluster.http.get(path).raise_for_status().json()["data"]["request.json"]
    return StageRequest.model_validate_json(text)


def succeeded(request: StageRequest) -> StageResult:
    """The result of a stage that did what it should."""
    return StageResult(
        stage=request.stage,
        key=request.key,
        attempt=request.attempt,
        outcome="Succeeded",
        reason="Succeeded",
        message=f"{request.stage} is done",
        seconds=1.0,
        facts={"modelVersion": _published(request)} if request.stage == PUBLISH.name else {},
    )


def _published(request: StageRequest) -> JsonValue:
    """The record of a version that went to an object store."""
    model, version = request.spec.output.model, "1a2b3c"
    record = a_version(model=model, version=version)
    record["metadata"]["name"] = f"{model}-{version}"
    return record


def publish_to_volume(cluster: Cluster, job: str, *, timeout_s: float = 60) -> None:
    """Let every stage succeed; the version `helpdesk-1a2b3c` goes to the volume of the job."""
    version = a_version(uri="file:///workspace/models/helpdesk/1a2b3c")
    give_up = time.monotonic() + timeout_s
    while cluster.get("FineTuneJob", job).get("status", {}).get("phase") != "Succeeded":
        assert time.monotonic() < give_up
        for pod in pending_pods(cluster):
            request = request_of(cluster, pod)
            result = succeeded(request)
            if request.stage == PUBLISH.name:
                result = result.model_copy(update={"facts": {"modelVersion": version}})
            end_pod(cluster, pod, result, ended={"exitCode": 0})
        time.sleep(0.1)


def token_of(cluster: Cluster, pod: dict[str, Any]) -> str:
    """A token as the kubelet gives it to the pod: bound to that pod."""
    known = pod["metadata"]
    bound = {"apiVersion": "v1", "kind": "Pod", "name": known["name"], "uid": known["uid"]}
    account = f"serviceaccounts/{pod['spec']['serviceAccountName']}"
    answer = cluster.http.post(
        f"/api/v1/namespaces/{cluster.namespace}/{account}/token",
        json={"spec": {"boundObjectRef": bound}},
    )
    token: str = answer.raise_for_status().json()["status"]["token"]
    return token


def report_with(token: str, *, address: str, text: str) -> None:
    """Report as a stage does that has this token.

    Raises:
        OSError: the API server refuses.
    """
    server = _server()
    at = urlsplit(server["server"])
    with TemporaryDirectory() as folder:
        if "certificate-authority" in server:
            authority = Path(server["certificate-authority"]).read_bytes()
        else:
            authority = b64decode(server["certificate-authority-data"])
        (Path(folder) / "ca.crt").write_bytes(authority)
        (Path(folder) / "token").write_text(token)
        ReportMap(at.hostname or "", at.port or 443, account=Path(folder)).write(address, text)


@cache
def _server() -> dict[str, str]:
    """Address and authority of the API server, of which there is one for all tests."""
    found = json.loads(kubectl("config", "view", "--raw", "--minify", "--output=json"))
    server: dict[str, str] = found["clusters"][0]["cluster"]
    return server


def end_pod(
    cluster: Cluster, pod: dict[str, Any], result: StageResult | None, *, ended: dict[str, Any]
) -> None:
    """Report `result` as the pod would, and end the pod."""
    if result is not None:
        address = request_of(cluster, pod).result
        text = result.model_dump_json(by_alias=True)
        report_with(token_of(cluster, pod), address=address, text=text)
    state = {"name": "stage", "image": "x", "imageID": "x", "ready": False, "restartCount": 0}
    status = {
        "phase": "Succeeded" if ended["exitCode"] == 0 else "Failed",
        "containerStatuses": [{**state, "state": {"terminated": ended}}],
    }
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod['metadata']['name']}/status"
    cluster.http.patch(
        path,
        content=json.dumps({"status": status}),
        headers={"Content-Type": "application/merge-patch+json"},
    ).raise_for_status()


def mount_nothing(cluster: Cluster, pod: dict[str, Any], said: str) -> None:
    """Be the node `n1` that has the pod, and for a minute has not mounted its volumes."""
    name, path = pod["metadata"]["name"], f"/api/v1/namespaces/{cluster.namespace}"
    # Only then has the scheduler, which finds no node, said its last word.
    cluster.kubectl("wait", f"pod/{name}", "--for=condition=PodScheduled=False", "--timeout=20s")
    target = {"target": {"kind": "Node", "name": "n1"}, "metadata": {"name": name}}
    cluster.http.post(f"{path}/pods/{name}/binding", json=target).raise_for_status()
    event = {
        "metadata": {"generateName": name},
        "involvedObject": {"kind": "Pod", "namespace": cluster.namespace, "name": name,
                           "uid": pod["metadata"]["uid"]},
        "type": "Warning", "reason": "FailedMount", "message": said,
        "lastTimestamp": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    cluster.http.post(f"{path}/events", json=event).raise_for_status()
    minute_ago = (datetime.now(UTC) - timedelta(minutes=1)).isoformat(timespec="seconds")
    told = {"PodScheduled": "True", "PodReadyToStartContainers": "False"}
    conditions = [
        {"type": type_, "status": status, "lastTransitionTime": minute_ago}
        for type_, status in told.items()
    ]
    cluster.http.patch(
        f"{path}/pods/{name}/status",
        content=json.dumps({"status": {"conditions": conditions}}),
        headers={"Content-Type": "application/merge-patch+json"},
    ).raise_for_status()


def run_pods(cluster: Cluster, job: str, *, timeout_s: float = 40) -> list[str]:
    """Let every stage succeed until the job is over; return the attempts in the order they ran."""
    ran: list[str] = []
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up:
        status = cluster.get("FineTuneJob", job).get("status", {})
        if status.get("phase") in {"Succeeded", "Failed"}:
            return ran
        for pod in pending_pods(cluster):
            request = request_of(cluster, pod)
            if _succeeds(cluster, pod, request):
                ran.append(f"{request.stage}-{request.attempt}")
        time.sleep(0.1)
    raise AssertionError(f"{job} is not over: {json.dumps(status, indent=1)}")


def _succeeds(cluster: Cluster, pod: dict[str, Any], request: StageRequest) -> bool:
    """Let the pod succeed; False if it could not tell of it, and is tried again while it is there.

    A stage, too, tries for minutes: its report may be gone and not made again yet, and an operator
    that repeats an earlier stage stops this one.
    """
    try:
        end_pod(cluster, pod, succeeded(request), ended={"exitCode": 0})
    except (AssertionError, OSError, HTTPStatusError):
        return False
    return True
