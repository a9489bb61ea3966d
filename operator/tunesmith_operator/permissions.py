"""Every right that the operator needs, and why: the chart's RBAC is drawn from this table.

The operator reads no secrets. It may hand a job's stages the right to patch that job's own report,
since it holds that right itself.
"""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Permission:
    """One rule of a Role.

    `scope` says where: `jobs` in every namespace whose jobs are run, `own` in the namespace of the
    Lease alone. `group` is empty for the core API.
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    scope: Literal["jobs", "own"] = "jobs"


PERMISSIONS: Final = (
    Permission(
        "tunesmith.dev",
        ("finetunejobs",),
        ("get", "list", "watch"),
        "learn of jobs; their spec and metadata are never written",
    ),
    Permission("tunesmith.dev", ("finetunejobs/status",), ("patch",), "say how far a job is"),
    Permission(
        "", ("events",), ("create", "patch"), "tell of each change of phase in `kubectl describe`"
    ),
    Permission(
        "batch",
        ("jobs",),
        ("get", "list", "watch", "create", "delete"),
        "start, follow and stop the attempts of stages",
    ),
    Permission(
        "",
        ("pods",),
        ("list", "watch"),
        "learn why an attempt waits or has ended",
    ),
    Permission(
        "",
        ("configmaps",),
        ("get", "list", "watch", "create", "patch"),
        "hand requests to stages, and read their reports",
    ),
    Permission(
        "",
        ("persistentvolumeclaims",),
        ("create", "patch"),
        "give each job a volume of its own",
    ),
    Permission(
        "",
        ("serviceaccounts",),
        ("create", "patch"),
        "give the stages of each job an identity of their own",
    ),
    Permission(
        "rbac.authorization.k8s.io",
        ("roles", "rolebindings"),
        ("create", "patch"),
        "let the stages of a job patch the report of that job, and nothing else",
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
