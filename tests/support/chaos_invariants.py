"""What holds whatever happens: nothing is made twice or left, and every wait has its words."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import httpx

from audit_log import AuditLog
from births import Births
from crowd import Crowd
from deployments_in_flight import DeploymentInFlight
from tunesmith_operator.kube.objects import condition_of

_ONCE: Final = {
    "jobs",
    "rayjobs",
    "configmaps",
    "persistentvolumeclaims",
    "serviceaccounts",
    "roles",
    "deployments",
    "services",
    "httproutes",
    "poddisruptionbudgets",
}


def wait_for_words(
    crowd: Crowd, deployments: Iterable[DeploymentInFlight], *, timeout_s: float
) -> None:
    """Wait until everybody who waits says for what, while pods go on to succeed."""
    give_up = time.monotonic() + timeout_s
    crowd.play(
        until=lambda: not unexplained(crowd, deployments) or time.monotonic() > give_up,
        timeout_s=2 * timeout_s,
    )
    assert unexplained(crowd, deployments) == {}


def unexplained(crowd: Crowd, deployments: Iterable[DeploymentInFlight]) -> dict[str, Any]:
    """Jobs that have not ended and do not say what they wait for, and such deployments."""
    jobs = {
        name: status
        for name, status in crowd.unfinished().items()
        if not (condition_of({"status": status}, "Ready") or {}).get("message")
    }
    silent = {each.namespace: each.unexplained() for each in deployments}
    return jobs | {name: found for name, found in silent.items() if found}


def orphans_of(
    crowd: Crowd, births: Births, deployments: Iterable[DeploymentInFlight]
) -> list[str]:
    """Children that are there, and whose job or deployment is not."""
    births.alive(crowd.namespaces)
    uids = {job["metadata"]["uid"] for job in crowd.jobs().values()}
    of_deployments = [name for each in deployments for name in each.orphans()]
    return of_deployments + [
        f"{namespace}/{plural}/{child['metadata']['name']}"
        for namespace in crowd.namespaces
        for plural in ("jobs", "configmaps", "persistentvolumeclaims")
        for child in crowd.children(namespace, plural)
        if not uids & {owner["uid"] for owner in child["metadata"].get("ownerReferences", ())}
    ]


def made_twice(audit_log: AuditLog, home: str) -> dict[tuple[str, ...], int]:
    """Children that the API server has made more than once, by its own log."""
    made: Counter[tuple[str, ...]] = Counter()
    for call in audit_log.calls(f'"{home}'):
        where = call.get("objectRef", {})
        is_made = call.get("responseStatus", {}).get("code") == httpx.codes.CREATED
        if is_made and where.get("resource") in _ONCE and "subresource" not in where:
            made[where["namespace"], where["resource"], where.get("name", "")] += 1
    return {child: number for child, number in made.items() if number > 1}
