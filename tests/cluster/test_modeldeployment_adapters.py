"""Adapters on a real API server: one Deployment of their base, and a route that chooses."""

from pathlib import Path
from typing import Any

from cluster import Cluster
from laptop import make_adapter
from manifests import a_version
from model_deployments import CANARY, GATEWAY, a_deployment, is_at_rest
from operator_process import an_operator
from serving_cluster import ServingCluster
from tunesmith_engine.deployment.adapter_list import REVISION_HEADER
from tunesmith_engine.sources.version_manifest import MANIFEST, manifest_of

BASE = f"sha256:{'b' * 64}"
FOLDER = "models/helpdesk"


def publish_adapter(serving: ServingCluster, name: str, **faults: Any) -> None:
    """Leave the version on the volume, and its record in the cluster."""
    assert serving.volume is not None
    folder = serving.volume / FOLDER / name
    make_adapter(folder, base_digest=BASE, **faults)
    manifest = manifest_of(folder)
    (folder / MANIFEST).write_text(manifest.text())
    uri = f"file:///workspace/{FOLDER}"
    record = a_version(
        version=name,
        uri=f"{uri}/{name}",
        claimName="volume",
        digest=manifest.digest(),
        scheme="adapter",
        adapter={
            "rank": 4,
            "baseUri": f"{uri}/bases/bbbbbbbbbbbb",
            "baseDigest": BASE,
            "baseBytes": 1000,
        },
    )
    record["metadata"]["name"] = f"helpdesk-{name}"
    serving.cluster.create(record).raise_for_status()


def header_of(backend: dict[str, Any]) -> tuple[str, str]:
    """The header that the route gives the requests of a backend."""
    (entry,) = backend["filters"]
    (header,) = entry["requestHeaderModifier"]["set"]
    return header["name"], header["value"]


def test_an_adapter_is_promoted_in_the_pods_of_the_one_before(
    serving: ServingCluster, tmp_path: Path
) -> None:
    cluster: Cluster = serving.cluster
    serving.volume = tmp_path
    publish_adapter(serving, "v1")
    deployment = a_deployment(gateway=GATEWAY, rollout=CANARY, replicas=2, adapters={})
    cluster.create(deployment).raise_for_status()
    with an_operator(cluster.namespace):
        first = serving.wait_until(is_at_rest("v1"), timeout_s=180)
        pods = set(serving.replicas)
        serving.requests_per_second = 40
        publish_adapter(serving, "v2")
        split = serving.wait_until(lambda status: status.get("candidate", {}).get("weight") == 50)
        (route,) = serving.objects("gateway.networking.k8s.io/v1/httproutes")
        serving.wait_until(is_at_rest("v2"))
        publish_adapter(serving, "v3", nonsense=True)
        back = serving.wait_until(
            lambda status: bool(status.get("rejected")) and is_at_rest("v2")(status)
        )
        serving.requests_per_second = 0
        failed = list(serving.answers.failed)
        # Its process is another one from now on, and holds nothing.
        restarted = next(iter(serving.replicas.values()))
        serving.restart(restarted)
        serving.wait_until(lambda status: status["readyReplicas"] == 1)
        whole = serving.wait_until(lambda status: status["readyReplicas"] == 2)

    assert failed == []
    assert set(serving.answers.by_version) == {"v1", "v2"}
    assert set(serving.replicas) == pods
    (made,) = serving.objects("apps/v1/deployments")
    assert made["metadata"]["name"] == f"helpdesk-{first['stable']['base']['revision']}"
    revisions = {split["stable"]["revision"], split["candidate"]["revision"]}
    backends = route["spec"]["rules"][0]["backendRefs"]
    assert {header_of(backend) for backend in backends} == {
        (REVISION_HEADER, revision) for revision in revisions
    }
    assert [(each["version"], each["reason"]) for each in back["rejected"]] == [
        ("v3", "FingerprintMismatch")
    ]
    assert (whole["replicas"], whole["stable"]["version"]) == (2, "v2")
