"""What the pods of a job may do to reports, tried with tokens as a kubelet gives them to pods."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from audit_log import AuditLog
from cluster import Cluster
from command import wait_until
from operator_process import a_job, an_operator
from stage_pods import pending_pods, report_with, run_pods, token_of
from tunesmith_engine.stages.configmap_reporter import report_address
from tunesmith_operator.finetunejob.child_names import REPORT_POLICY, STAGES_ACCOUNT

MAX_WRITES = 6
WRITES = {"create", "update", "patch", "delete"}


@pytest.fixture
def pods(cluster: Cluster) -> Iterator[dict[str, dict[str, Any]]]:
    """Pods of jobs whose names begin alike, by the name of the job; they wait to be run."""
    yield from first_pods(cluster, "a", "a-prepare", "a--prepare")


@pytest.fixture
def pods_without_policy(
    no_policy: None,
    cluster: Cluster,
) -> Iterator[dict[str, dict[str, Any]]]:
    yield from first_pods(cluster, "a", "b")


def first_pods(cluster: Cluster, *jobs: str) -> Iterator[dict[str, dict[str, Any]]]:
    for each in jobs:
        cluster.create(a_job(each)).raise_for_status()
    with an_operator(cluster.namespace):
        wait_until(lambda: len(pending_pods(cluster)) == len(jobs), what="pods", timeout_s=40)
        yield {pod["metadata"]["labels"]["tunesmith.dev/job"]: pod for pod in pending_pods(cluster)}


def refused(cluster: Cluster, token: str, job: str) -> str:
    """The server's answer to a report to the job; empty if it was taken."""
    address = report_address(cluster.namespace, f"{job}-tunesmith", "train-1.result")
    try:
        report_with(token, address=address, text="{}")
    except OSError as error:
        return str(error)
    return ""


def test_a_pod_reports_to_its_own_job_and_to_no_other(
    cluster: Cluster, pods: dict[str, dict[str, Any]]
) -> None:
    for job, pod in pods.items():
        token = token_of(cluster, pod)
        taken = {each for each in pods if not refused(cluster, token, each)}

        assert taken == {job}


def test_jobs_share_an_identity_unless_their_names_could_be_taken_for_another(
    pods: dict[str, dict[str, Any]],
) -> None:
    accounts = {job: pod["spec"]["serviceAccountName"] for job, pod in pods.items()}

    assert accounts == {
        "a": STAGES_ACCOUNT,
        "a-prepare": STAGES_ACCOUNT,
        "a--prepare": "a--prepare-tunesmith",
    }


def test_a_token_bound_to_no_pod_reports_to_nobody(
    cluster: Cluster, pods: dict[str, dict[str, Any]]
) -> None:
    token = cluster.kubectl("create", "token", STAGES_ACCOUNT)

    assert all("403" in refused(cluster, token, job) for job in pods)


METADATA: list[dict[str, Any]] = [
    {"finalizers": ["example.com/stuck"]},
    {"labels": {"tunesmith.dev/job": "b"}},
    {"ownerReferences": None},
    {"annotations": {"a": "b"}},
]


def test_a_pod_may_do_nothing_else_even_where_the_namespace_lets_it(
    cluster: Cluster, pods: dict[str, dict[str, Any]]
) -> None:
    everyone = f"--group=system:serviceaccounts:{cluster.namespace}"
    cluster.kubectl("create", "rolebinding", "careless", "--clusterrole=edit", everyone)
    flags = ("--kubeconfig=/dev/null", *where(cluster), f"--token={token_of(cluster, pods['a'])}")
    patch = ("patch", "cm/a-tunesmith", "--type=merge")
    changes = [f"--patch={json.dumps({'metadata': each})}" for each in METADATA]
    tried = [("delete", "cm/a-tunesmith"), ("create", "configmap", "another"),
             *((*patch, each) for each in changes)]  # fmt: skip

    assert "patched" in cluster.kubectl(*flags, *patch, '--patch={"data": {"a": "b"}}')
    for each in tried:
        with pytest.raises(AssertionError, match=REPORT_POLICY):
            cluster.kubectl(*flags, *each)


def where(cluster: Cluster) -> tuple[str, ...]:
    """Flags for the server itself, past the proxy, for a kubectl without a kubeconfig."""
    view = ("config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}")
    return f"--server={cluster.kubectl(*view)}", "--insecure-skip-tls-verify"


@pytest.mark.alone  # the policy decides on the identities of other tests' jobs, too
def test_without_the_policy_every_job_has_an_identity_of_its_own(
    cluster: Cluster, pods_without_policy: dict[str, dict[str, Any]]
) -> None:
    pods = pods_without_policy
    accounts = {job: pod["spec"]["serviceAccountName"] for job, pod in pods.items()}

    assert accounts == {"a": "a-tunesmith", "b": "b-tunesmith"}
    for job, pod in pods.items():
        token = token_of(cluster, pod)
        assert {each for each in pods if not refused(cluster, token, each)} == {job}


@pytest.mark.alone
def test_the_shared_identity_goes_with_the_policy(
    cluster: Cluster, pods: dict[str, dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    token = token_of(cluster, pods["a"])
    request.getfixturevalue("no_policy")

    parts = f"sa/{STAGES_ACCOUNT}", f"role/{STAGES_ACCOUNT}", f"rolebinding/{STAGES_ACCOUNT}"
    cluster.kubectl("wait", "--for=delete", "--timeout=60s", *parts)
    assert refused(cluster, token, "a")


def test_at_most_six_writes_bring_a_job_to_its_first_pod(
    cluster: Cluster, audit_log: AuditLog
) -> None:
    """Beside those for the first job of a namespace, which brings the identity."""
    cluster.create(a_job("first")).raise_for_status()
    with an_operator(cluster.namespace):
        wait_until(lambda: len(pending_pods(cluster)) == 1, what="a pod", timeout_s=40)
        cluster.create(a_job("second")).raise_for_status()
        wait_until(lambda: len(pending_pods(cluster)) == 2, what="another", timeout_s=40)
        run_pods(cluster, "first")
    calls = audit_log.calls(cluster.namespace)
    writes = [call for call in calls
              if call["verb"] in WRITES and of_operator(call, cluster.namespace)]  # fmt: skip
    until = next(i for i, each in enumerate(writes) if names(each, "second--prepare-1-"))
    first = [each for each in writes[: until + 1] if names(each, "second")]

    assert 0 < len(first) <= MAX_WRITES, [each["requestURI"] for each in first]


def of_operator(call: dict[str, Any], namespace: str) -> bool:
    """Whether the operator asked for this, about an object of the namespace."""
    return f"/namespaces/{namespace}/" in call["requestURI"] and (
        "fieldManager=tunesmith-operator" in call["requestURI"]
    )


def names(call: dict[str, Any], beginning: str) -> bool:
    """Whether the name of the object begins so."""
    return str(call["objectRef"].get("name", "")).startswith(beginning)
