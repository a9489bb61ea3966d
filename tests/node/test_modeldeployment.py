"""A model is served, replaced and taken back in real pods, behind a real Gateway.

The engine in the pods is the stand-in, so that a version starts in seconds; operator, middleware,
drain, probes, kubelet, Gateway controller and Envoy are the real ones. After `test_helpdesk_job.py`
by name: that one ends with the release.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import helm
from cluster import Cluster, connected, kubectl
from laptop import ANALYSIS
from restricted_pods import NO_RIGHTS, POD_SECURITY, make_restricted_namespace

ROOT = Path(__file__).parents[2]
STAND_IN = "localhost/tunesmith/stand-in:0.1.0"
RELEASE, TEAM, NAME, MODEL = "serving", "serving-team", "desk", "helpdesk"

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def gateway(node: None) -> dict[str, str]:
    """The Gateway of the node, and a way to send it requests from the pods' network."""
    found = kubectl("get", "gateways", "--all-namespaces", "--output=json", "--ignore-not-found")
    items = json.loads(found)["items"] if found else []
    lacks = [name for name in ("TEST_NODE_EXEC", "TEST_NODE_GATEWAY") if name not in os.environ]
    lacks += [] if items else ["a Gateway"]
    if lacks:
        pytest.skip(f"nothing is served in real pods: missing {', '.join(lacks)}")
    metadata = items[0]["metadata"]
    return {"name": metadata["name"], "namespace": metadata["namespace"]}


@pytest.fixture(scope="module")
def stand_in(load_images: Callable[..., None]) -> None:
    """The operator's image, and the server's with the stand-in engine, on the node."""
    load_images("operator", "stand-in")


@pytest.fixture(scope="module")
def team(stand_in: None, gateway: dict[str, str]) -> Iterator[Cluster]:
    """A release whose server image is the stand-in's, and a namespace with versions on a volume."""
    for name in (RELEASE, TEAM):
        make_restricted_namespace(name)
    helm.install(
        RELEASE, "--namespace", RELEASE, f"--set=images.server={STAND_IN}", "--wait",
        "--timeout=180s",
    )  # fmt: skip
    with connected() as http:
        cluster = Cluster(http, TEAM)
        _write_versions(cluster, v1={}, v2={}, v3={"errors": 0.5}, v4={}, v5={})
        yield cluster
    kubectl("delete", "namespace", TEAM, "--timeout=180s")
    helm.uninstall(RELEASE, "--namespace", RELEASE, "--wait")
    kubectl("delete", "namespace", RELEASE, "--timeout=120s")


def test_a_version_serves_a_second_is_promoted_and_nothing_is_lost(
    team: Cluster, gateway: dict[str, str]
) -> None:
    _publish(team, "v1")
    team.apply(_deployment(gateway)).raise_for_status()
    _wait(team, lambda status: _stable(status) == "v1" and status["phase"] == "Serving")

    with _load(team) as tally:
        _publish(team, "v2")
        _wait(team, lambda status: _stable(status) == "v2" and not status["draining"])

    assert tally["problems"] == {}
    assert set(tally["versions"]) == {"v1", "v2"}
    status = _status(team)
    assert status["lastVerdict"]["decision"] == "promote"
    assert _as_kstatus(team) in {"Current", "kstatus is not installed"}


def test_a_bad_version_is_taken_back_and_every_tool_says_so(team: Cluster) -> None:
    with _load(team) as tally:
        _publish(team, "v3")
        # It is rejected before it has let go of its last requests.
        _wait(
            team,
            lambda status: (
                bool(status["rejected"]) and "candidate" not in status and not status["draining"]
            ),
        )

    status = _status(team)
    (rejected,) = status["rejected"]
    assert (rejected["version"], rejected["reason"]) == ("v3", "AnalysisFailed")
    assert _stable(status) == "v2"
    # Half of what the bad version got in its step; no answer broke off.
    assert set(tally["problems"]) <= {"status 500"}
    assert "RolledBack" in team.kubectl("get", "mdep", NAME, "--output=wide")
    assert "AnalysisFailed" in team.kubectl("describe", "mdep", NAME)
    assert _as_kstatus(team) in {"Failed", "kstatus is not installed"}


def test_a_candidate_that_crashes_is_asked_again_when_it_has_come_back(team: Cluster) -> None:
    crash = (
        "import urllib.request as u; u.urlopen(u.Request('http://127.0.0.1:8000/faults', "
        "data=b'{\"crash\": true}'))"
    )
    with _load(team) as tally:
        _publish(team, "v4")
        _wait(team, lambda status: (status.get("candidate") or {}).get("weight") == 50)
        selector = f"--selector=tunesmith.dev/revision={_status(team)['candidate']['revision']}"
        pod = team.kubectl("get", "pods", selector, "--output=name").strip()
        # It may take this command with it.
        told = ["kubectl", "--namespace", TEAM, "exec", pod, "--", "python3", "-c", crash]
        subprocess.run(told, check=False)
        _wait(team, lambda status: status["candidate"]["weight"] == 0)
        _wait(team, lambda status: _stable(status) == "v4" and not status["draining"])

    # Half of the requests, from the crash until the route has let go.
    assert set(tally["problems"]) <= {"status 503", "status 502", "no [DONE]", "broken JSON"}
    assert sum(tally["problems"].values()) < 150


def test_a_shadow_answers_nobody_before_it_is_promoted(team: Cluster) -> None:
    shadow = {"spec": {"rollout": {"strategy": "shadow"}}}
    team.merge("ModelDeployment", NAME, shadow).raise_for_status()

    with _load(team) as tally:
        _publish(team, "v5")
        _wait(team, lambda status: _stable(status) == "v5" and not status["draining"])

    assert tally["problems"] == {}
    assert _status(team)["lastVerdict"]["version"] == "v5"


def _deployment(gateway: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": NAME, "namespace": TEAM},
        "spec": {
            "model": MODEL,
            "resources": {"cpu": "50m", "memory": "64Mi"},
            "gateway": gateway,
            "rollout": {
                "strategy": "canary",
                "steps": [{"weight": 50, "seconds": 3}],
                "drainSeconds": 20,
                "analysis": ANALYSIS,
            },
        },
    }


def _publish(cluster: Cluster, version: str) -> None:
    """What a job leaves behind when it has published."""
    digest = f"sha256:{sha256(version.encode()).hexdigest()}"
    record = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": f"{MODEL}-{version}", "namespace": TEAM,
                     "labels": {"tunesmith.dev/model": MODEL}},
        "spec": {
            "model": MODEL,
            "version": version,
            "uri": f"file:///workspace/models/{MODEL}/{version}",
            "claimName": "models",
            "digest": digest,
            "scheme": "none",
            "files": [],
            "lineage": {"job": MODEL, "baseModel": "hf://a/b", "baseRevision": "main",
                        "dataDigest": digest},
        },
    }  # fmt: skip
    cluster.apply(record).raise_for_status()


def _write_versions(cluster: Cluster, **engines: dict[str, Any]) -> None:
    """A volume with a folder for each version, in which the stand-in finds what it is to do."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models", "namespace": TEAM},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    lines = [
        f"mkdir -p /workspace/models/{MODEL}/{version} && echo '"
        + json.dumps({"probe-seconds": 1, **options})
        + f"' >/workspace/models/{MODEL}/{version}/stand-in.json"
        for version, options in engines.items()
    ]
    container = {
        "name": "write",
        "image": STAND_IN,
        "command": ["sh", "-c", " && ".join(lines)],
        "securityContext": NO_RIGHTS,
        "volumeMounts": [{"name": "models", "mountPath": "/workspace"}],
    }
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}
    pod = {
        "restartPolicy": "Never",
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": [volume],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "write", "namespace": TEAM},
        "spec": {"template": {"spec": pod}},
    }
    for manifest in (claim, job):
        text = json.dumps(manifest)
        subprocess.run(["kubectl", "apply", "--filename=-"], input=text, text=True, check=True)
    cluster.kubectl("wait", "--for=condition=Complete", "job/write", "--timeout=120s")


@contextmanager
def _load(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """30 requests a second to the endpoint, from the pods' network, while the block runs."""
    url = f"{os.environ['TEST_NODE_GATEWAY']}/v1"
    command = [*shlex.split(os.environ["TEST_NODE_EXEC"]), sys.executable,
               str(ROOT / "tests/support/open_loop.py"), url, "30"]  # fmt: skip
    tally: dict[str, Any] = {}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        time.sleep(2)
        try:
            yield tally
        finally:
            # The end of its input is the end of its requests.
            stdout, _ = process.communicate(timeout=60)
            tally.update(json.loads(stdout))


def _status(cluster: Cluster) -> dict[str, Any]:
    status: dict[str, Any] = cluster.get("ModelDeployment", NAME).get("status", {})
    return status


def _stable(status: dict[str, Any]) -> str | None:
    return (status.get("stable") or {}).get("version")


def _wait(
    cluster: Cluster, is_so: Callable[[dict[str, Any]], bool], *, timeout_s: float = 150
) -> None:
    deadline = time.monotonic() + timeout_s
    status = _status(cluster)
    while not (status and is_so(status)):
        assert time.monotonic() < deadline, json.dumps(status, indent=1)
        time.sleep(1)
        status = _status(cluster)


def _as_kstatus(cluster: Cluster) -> str:
    if shutil.which("kstatus") is None:
        return "kstatus is not installed"
    text = json.dumps(cluster.get("ModelDeployment", NAME))
    done = subprocess.run(["kstatus"], input=text, capture_output=True, text=True, check=False)
    return done.stdout.split()[0].strip(":")
