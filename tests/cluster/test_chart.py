"""The chart on a real API server: installed, upgraded, rolled back, taken away."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import helm
from chart import CHART, one, rendered
from cluster import is_local, kubectl, wait_until_established
from command import wait_until
from job_states import new_job
from tunesmith_api.base import GROUP
from tunesmith_api.kinds import KINDS
from tunesmith_engine.stages.correction_policy import CORRECTION_POLICY
from tunesmith_operator.finetunejob.child_names import REPORT_POLICY
from tunesmith_operator.permissions import PERMISSIONS

POLICY = ("validatingadmissionpolicy", "validatingadmissionpolicybinding")
DEFINITIONS = tuple(f"{plural}.{GROUP}" for plural in sorted(kind.plural for kind in KINDS))

pytestmark = pytest.mark.xdist_group("chart")  # one release for all


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    missing = [each for each in ("helm", "kubectl") if shutil.which(each) is None]
    if missing or "KUBECONFIG" not in os.environ or not is_local():
        pytest.skip("no chart is installed: set KUBECONFIG to a local API server, and put helm and "
                    f"kubectl on the PATH (missing: {', '.join(missing) or 'none'})")  # fmt: skip


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace where nothing runs that Pod Security *restricted* refuses."""
    name = f"chart-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    kubectl("delete", "namespace", name, "--timeout=60s")


@pytest.fixture(scope="module")
def release(namespace: str) -> Iterator[str]:
    """The chart, with its defaults."""
    helm.install(namespace, "--namespace", namespace)
    wait_until_established(*DEFINITIONS)
    yield namespace
    helm.uninstall(namespace, "--namespace", namespace)


def user_of(release: str) -> str:
    """The user that the operator's ServiceAccount is; release and namespace have one name."""
    return f"system:serviceaccount:{release}:{release}-tunesmith"


def allowed(user: str, rights: set[tuple[str, str, str]], *, namespace: str) -> dict[Any, bool]:
    """The server's answer to every right: group, resource with subresource, verb."""
    asked = sorted(rights)
    reviews = [_review(user, *each, namespace=namespace) for each in asked]
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
    path = "--output=jsonpath={.status.allowed}{'\\n'}"
    answers = kubectl("create", "--filename=-", path, stdin=items).split()
    return {each: answer == "true" for each, answer in zip(asked, answers, strict=True)}


def _review(user: str, group: str, resource: str, verb: str, *, namespace: str) -> dict[str, Any]:
    name, _, subresource = resource.partition("/")
    attributes = {"group": group, "resource": name, "subresource": subresource, "verb": verb}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes | {"namespace": namespace}},
    }


def rights(scope: str) -> set[tuple[str, str, str]]:
    """Everything in the operator's table."""
    return {
        (each.group, resource, verb)
        for each in PERMISSIONS
        if each.scope == scope
        for resource in each.resources
        for verb in each.verbs
    }


def tried(manifest: dict[str, Any], *flags: str) -> str:
    """What kubectl says of an object that is only tried: created, or why not."""
    options = ("create", "--dry-run=server", "--filename=-", *flags)
    try:
        return kubectl(*options, stdin=json.dumps(manifest))
    except AssertionError as refusal:
        return f"refused: {refusal}"


def test_the_kinds_are_served(release: str) -> None:
    """A manifest is judged as soon as Helm is done."""
    said = tried(new_job(), f"--namespace={release}")

    assert said == "finetunejob.tunesmith.dev/helpdesk created (server dry run)\n"


def test_the_operator_has_every_right_of_its_table_in_every_namespace(release: str) -> None:
    answers = allowed(user_of(release), rights("jobs"), namespace="default")

    assert [right for right, is_allowed in answers.items() if not is_allowed] == []


def test_the_operator_may_lead_in_its_own_namespace_alone(release: str) -> None:
    user = user_of(release)

    assert all(allowed(user, rights("own"), namespace=release).values())
    assert not any(allowed(user, rights("own"), namespace="default").values())


def test_the_operator_may_do_nothing_else(release: str) -> None:
    """Not what would let it read secrets, write specs, or hand itself more rights."""
    refused = {
        ("", "secrets", "get"),
        ("", "secrets", "list"),
        ("", "pods/exec", "create"),
        ("", "nodes", "list"),
        ("", "namespaces", "delete"),
        ("tunesmith.dev", "finetunejobs", "patch"),
        ("tunesmith.dev", "finetunejobs", "deletecollection"),
        ("rbac.authorization.k8s.io", "roles", "escalate"),
        ("rbac.authorization.k8s.io", "roles", "bind"),
        ("rbac.authorization.k8s.io", "clusterroles", "create"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "patch"),
    }

    assert not any(allowed(user_of(release), refused, namespace=release).values())


def test_the_operator_may_hand_on_the_right_to_a_report_but_not_to_secrets(release: str) -> None:
    """The server itself lets nobody grant what they do not hold."""

    def role(resource: str, verb: str) -> dict[str, Any]:
        rule = {"apiGroups": [""], "resources": [resource], "verbs": [verb]}
        rule["resourceNames"] = ["job-report"]
        head = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
        return head | {"metadata": {"name": "stage"}, "rules": [rule]}

    operator = (f"--as={user_of(release)}", f"--namespace={release}")

    assert "created" in tried(role("configmaps", "patch"), *operator)
    assert "refused" in tried(role("secrets", "get"), *operator)


def test_people_who_edit_a_namespace_write_jobs_there_but_no_status(release: str) -> None:
    binding = ("create", "rolebinding", "dev", "--clusterrole=edit", "--user=dev")
    kubectl(f"--namespace={release}", *binding)
    writes = {(GROUP, kind.plural, "create") for kind in KINDS}
    status = {(GROUP, f"{kind.plural}/status", "patch") for kind in KINDS if kind.has_status}

    # The controller manager adds the rules to `edit` a moment after the roles are made.
    wait_until(
        lambda: all(allowed("dev", writes, namespace=release).values()),
        what="the aggregated rules",
        timeout_s=20,
    )
    assert not any(allowed("dev", status, namespace=release).values())


def test_the_pod_is_admitted_where_only_restricted_pods_are(release: str) -> None:
    """And a pod that is less careful is not, so the server does judge."""
    pod = _pod(rendered(name=release, namespace=release))
    careless = json.loads(json.dumps(pod))
    careless["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True

    assert "created" in tried(pod, f"--namespace={release}")
    assert "violates PodSecurity" in tried(careless, f"--namespace={release}")


@pytest.mark.alone  # a changed definition breaks the watches of other tests' operators
def test_upgrade_rollback_and_uninstall_leave_definitions_and_jobs_alone(
    namespace: str, tmp_path: Path
) -> None:
    """The whole life of a release that begins with an older chart."""
    where = ("--namespace", namespace)
    release = f"life-{namespace}"
    helm.install(release, *where, chart=_older(tmp_path))
    wait_until_established(*DEFINITIONS)
    kubectl("create", "--filename=-", *where, stdin=json.dumps(new_job()))
    assert "Attempt" not in _columns()

    helm.upgrade(release, "--set=replicas=2", *where)
    assert "Attempt" in _columns()
    assert _replicas(release, namespace) == 2

    helm.rollback(release, 1, *where)
    assert _replicas(release, namespace) == 1
    assert "Attempt" not in _columns()

    helm.upgrade(release, *where)
    said = helm.uninstall(release, *where)
    assert "finetunejobs.tunesmith.dev" in said
    assert _leftovers(release) == [
        *(f"customresourcedefinition.apiextensions.k8s.io/{each}" for each in DEFINITIONS),
        *(
            f"{kind}.admissionregistration.k8s.io/{name}"
            for kind in POLICY
            for name in sorted((CORRECTION_POLICY, REPORT_POLICY))
        ),
    ]
    assert "helpdesk" in kubectl("get", "finetunejobs", *where)
    assert release not in {each["name"] for each in helm.releases(*where)}


def _older(folder: Path) -> Path:
    """The chart as it might have been, with a definition that lacks a column."""
    older = folder / "tunesmith"
    shutil.copytree(CHART, older)
    path = older / "files" / "crds" / "finetunejobs.yaml"
    text = path.read_text(encoding="utf-8")
    begin = text.index("        - name: Attempt\n")
    end = text.index("        - name:", begin + 1)
    path.write_text(text[:begin] + text[end:], encoding="utf-8")
    return older


def _columns() -> str:
    path = "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}"
    return kubectl("get", "crd", DEFINITIONS[0], f"--output={path}")


def _replicas(release: str, namespace: str) -> int:
    where = ("--namespace", namespace, "--output=jsonpath={.spec.replicas}")
    return int(kubectl("get", "deployment", f"{release}-tunesmith", *where))


def _leftovers(release: str) -> list[str]:
    """Everything in the cluster that bears the release's name, once what is going has gone."""
    kinds = ",".join(("crd", "clusterroles", "clusterrolebindings", *POLICY))
    inside = (
        "deployments,services,serviceaccounts,roles,rolebindings,networkpolicies,pdb,configmaps"
    )
    selector = f"--selector=app.kubernetes.io/instance={release}"
    found = kubectl("get", kinds, selector, "--output=name").split()
    return found + kubectl("get", inside, "-A", selector, "--output=name").split()


def _pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
    template = one(objects, "Deployment")["spec"]["template"]
    metadata = {"name": "operator", "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
