"""Every right that the operator needs, and why.

The chart's roles say the same: a test renders them and compares, and another finds each right used
in the audit log of a real API server. A kind more is read by a right of its own.

The operator reads no secrets. It may hand stages the right to patch reports, since it holds that
right itself.
"""

from dataclasses import dataclass
from typing import Final, Literal

from tunesmith_operator.finetunejob.child_names import REPORT_POLICY


@dataclass(frozen=True, slots=True)
class Permission:
    """One rule of a Role.

    `scope` says where: `jobs` in every namespace whose jobs are run, `own` in the namespace of the
    Lease alone, `cluster` for what lies in no namespace. `group` is empty for the core API; no
    `names` means every object.
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    scope: Literal["jobs", "own", "cluster"] = "jobs"
    names: tuple[str, ...] = ()


PERMISSIONS: Final = (
    Permission(
        "tunesmith.dev",
        ("finetunejobs",),
        ("get", "list", "watch"),
        "learn of jobs; their spec and metadata are never written",
    ),
    Permission(
        "tunesmith.dev",
        ("finetunejobs",),
        ("create",),
        "make the next job where the traffic of a deployment has drifted and it asks for one",
    ),
    Permission(
        "tunesmith.dev",
        ("finetunejobs",),
        ("delete",),
        "forget jobs whose ttlSecondsAfterFinished is over, and no others",
    ),
    Permission("tunesmith.dev", ("finetunejobs/status",), ("patch",), "say how far a job is"),
    Permission(
        "tunesmith.dev",
        ("modelversions",),
        ("get", "list", "watch", "create"),
        "record what a job has published; learn of new versions. None is ever changed",
    ),
    Permission(
        "tunesmith.dev",
        ("modeldeployments",),
        ("get", "list", "watch", "create"),
        "learn of deployments; make the one that a job asks for, if it is missing",
    ),
    Permission(
        "tunesmith.dev",
        ("modeldeployments/status",),
        ("patch",),
        "say what serves, and how a rollout goes",
    ),
    Permission(
        "",
        ("events",),
        ("list", "create"),
        "say why a node does not get a pod ready; tell of each change of phase",
    ),
    Permission(
        "batch",
        ("jobs",),
        ("get", "list", "watch", "create", "delete"),
        "start, follow and stop the attempts of stages",
    ),
    Permission(
        "ray.io",
        ("rayjobs",),
        ("get", "list", "watch", "create", "delete"),
        "train in several pods, where KubeRay is installed",
    ),
    Permission(
        "",
        ("pods",),
        ("list", "watch"),
        "learn why an attempt waits or has ended",
    ),
    Permission(
        "apps",
        ("deployments",),
        ("get", "list", "watch", "create", "patch", "delete"),
        "run the replicas of each revision, and as many as are wanted",
    ),
    Permission(
        "",
        ("services",),
        ("get", "list", "watch", "create", "patch", "delete"),
        "give each revision, and each deployment, an address",
    ),
    Permission(
        "policy",
        ("poddisruptionbudgets",),
        ("list", "create", "delete"),
        "have nodes emptied one replica at a time",
    ),
    Permission(
        "gateway.networking.k8s.io",
        ("httproutes",),
        ("get", "list", "watch", "create", "patch", "delete"),
        "split and mirror requests, where the Gateway API is installed",
    ),
    Permission(
        "keda.sh",
        ("scaledobjects",),
        ("list", "create", "patch", "delete"),
        "have replicas follow the load, where KEDA is installed",
    ),
    Permission(
        "gateway.networking.k8s.io",
        ("gateways",),
        ("get",),
        "see whether the Gateway of a route is there, and at which address",
    ),
    Permission(
        "monitoring.coreos.com",
        ("prometheusrules",),
        ("get", "create", "patch", "delete"),
        "alert on broken SLOs, where Prometheus' operator is installed",
    ),
    Permission(
        "",
        ("configmaps",),
        ("get", "list", "watch", "create", "patch"),
        "make and read the reports of stages; hand over a request that fits into no annotation; "
        "keep what is watched of a deployment",
    ),
    Permission(
        "",
        ("persistentvolumeclaims",),
        ("get", "create", "patch"),
        "give each job a volume of its own; see whether several nodes can share it",
    ),
    Permission(
        "",
        ("serviceaccounts",),
        ("get", "create", "patch"),
        "give the stages of a namespace, or of one job, an identity",
    ),
    Permission(
        "rbac.authorization.k8s.io",
        ("roles", "rolebindings"),
        ("get", "create", "patch"),
        "let stages patch the report of their job, and nothing else",
    ),
    Permission(
        "admissionregistration.k8s.io",
        ("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
        ("get",),
        "see whether the policy is there that lets the jobs of a namespace share an identity",
        scope="cluster",
        names=(REPORT_POLICY,),
    ),
    Permission(
        "kueue.x-k8s.io",
        ("workloads",),
        ("list",),
        "say why a stage waits in a queue",
    ),
    Permission(
        "coordination.k8s.io",
        ("leases",),
        ("get", "create", "update"),
        "agree on one leader among replicas",
        scope="own",
    ),
)
