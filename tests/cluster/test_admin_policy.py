"""What an admin allows by a FineTunePolicy, as a real API server enforces it."""

import json
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from cluster import Cluster, kubectl
from operator_process import a_job

ENDPOINT = {"url": "https://api.example.com/v1", "model": "large"}
ALLOWED: dict[str, Any] = {
    "sources": ["hf://acme/", "s3://team/"],
    "outputs": ["s3://team-models/", "s3://work/"],
    "endpoints": ["https://llm.internal/"],
    "priorityClasses": ["batch"],
    "tolerations": ["spot"],
    "secrets": ["bucket"],
    "claims": ["shared"],
    "maxWorkers": 2,
    "maxAccelerators": 4,
}
MODEL = {"uri": "hf://acme/base"}
DATA = {"uri": "s3://team/rows.jsonl"}
WITHIN: dict[str, Any] = {"model": MODEL, "dataset": {"train": DATA}}


def a_job_within(**spec: Any) -> dict[str, Any]:
    return a_job(**{**WITHIN, **spec})


@pytest.fixture
def limited(cluster: Cluster, parameterized_policy: None) -> Iterator[Cluster]:
    """A namespace in which a FineTunePolicy holds."""
    name = f"policy-{cluster.namespace}"
    spec = {"namespaces": [cluster.namespace], **ALLOWED}
    policy = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTunePolicy",
              "metadata": {"name": name}, "spec": spec}  # fmt: skip
    give_up = time.monotonic() + 60
    while True:  # until the server knows the kind
        try:
            kubectl("apply", "--filename=-", stdin=json.dumps(policy))
            break
        except Exception:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.5)
    forbidden = a_job_within(model={"uri": "hf://other/base"})
    while cluster.create(forbidden, dry_run=True).is_success:  # until the server has compiled it
        assert time.monotonic() < give_up
        time.sleep(0.2)
    yield cluster
    kubectl("delete", "finetunepolicy", name)


# What breaks each field of the policy, and what is named.
BROKEN: Final[tuple[tuple[dict[str, Any], str, str], ...]] = (
        ({"model": {"uri": "hf://acme-evil/base"}}, "sources", "hf://acme-evil/base"),
        ({"model": {"uri": "s3://team/../x"}}, "sources", "s3://team/../x"),
        ({"dataset": {"train": {"uri": "file:///etc/x"}}}, "sources", "file:///etc/x"),
        ({"dataset": {"train": DATA, "validation": {"uri": "s3://b/x"}}}, "sources", "s3://b/x"),
        ({"dataset": {"train": DATA, "cleaning": {"contamination": {"against": [
            {"uri": "s3://c/x"}]}}}}, "sources", "s3://c/x"),
        ({"evaluation": {"suites": [{"name": "a", "task": "a", "uri": "s3://d/x"}]}},
         "sources", "s3://d/x"),
        ({"output": {"model": "m", "uri": "s3://elsewhere/x"}}, "outputs", "s3://elsewhere/x"),
        ({"evaluation": {"judge": {"endpoint": ENDPOINT}}}, "endpoints", ENDPOINT["url"]),
        ({"tracking": {"mlflow": {"trackingUri": "https://m.example.com"}}}, "endpoints",
         "https://m.example.com"),
        ({"resources": {"priorityClassName": "system-node-critical"}}, "priorityClasses",
         "system-node-critical"),
        ({"resources": {"tolerations": [{"operator": "Exists"}]}}, "tolerations", "*"),
        ({"model": {**MODEL, "secretRef": {"name": "admin"}}}, "secrets", "admin"),
        ({"workspace": {"claimName": "theirs"}}, "claims", "theirs"),
        ({"resources": {"workers": 4}}, "maxWorkers", "4"),
        ({"resources": {"workers": 2, "gpusPerWorker": 8}}, "maxAccelerators", "16"),
)  # fmt: skip


def test_what_is_not_allowed_is_refused_and_named(limited: Cluster) -> None:
    for spec, field, given in BROKEN:
        response = limited.create(a_job_within(**spec), dry_run=True)

        assert response.status_code == 403, response.text
        assert f"{field}: not allowed is {given}" in response.json()["message"]


def test_what_is_allowed_is_taken_and_other_namespaces_are_free(
    limited: Cluster, dry: Cluster
) -> None:
    job = a_job_within(
        dataset={"train": {**DATA, "secretRef": {"name": "bucket"}}},
        output={"model": "m", "uri": "s3://team-models/m"},
        resources={"priorityClassName": "batch", "tolerations": [{"key": "spot"}], "workers": 2},
        workspace={"claimName": "shared"},
    )

    assert limited.create(job, dry_run=True).is_success
    assert dry.create(a_job(model={"uri": "hf://other/base"}), dry_run=True).is_success
