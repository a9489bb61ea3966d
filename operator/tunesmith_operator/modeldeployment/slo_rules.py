"""The PrometheusRule of a deployment with an SLO, where Prometheus' operator is installed."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_engine.monitoring.slo_rules import slo_rule_groups
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.resources import PROMETHEUS_RULE
from tunesmith_operator.modeldeployment.deployment_ref import DeploymentRef
from tunesmith_operator.modeldeployment.manifests import covers
from tunesmith_operator.settings import Settings

_LOG = logging.getLogger(__name__)
# Seconds. During a rollout a deployment is looked at every few; its rules hardly ever change.
FRESH_S: Final = 240.0


@dataclass(frozen=True, slots=True)
class _Made:
    groups: list[dict[str, Any]]
    at: float


class SloRules:
    """Makes the rules as the specs say, and takes them away with the SLO."""

    def __init__(
        self,
        client: KubeClient,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._made: dict[Key, _Made] = {}

    async def make(self, owner: DeploymentRef, spec: ModelDeploymentSpec) -> None:
        """Bring the PrometheusRule of the deployment's name about."""
        runbooks = self._settings.runbook_url
        if runbooks is None:
            return
        groups = slo_rule_groups(
            spec, namespace=owner.namespace, name=owner.name, runbooks=runbooks
        )
        made, now = self._made.get(owner.key), self._clock()
        if made is not None and made.groups == groups and now - made.at < FRESH_S:
            return
        if await self._client.serves(PROMETHEUS_RULE.kind):
            await self._make(owner, groups)
        self._made[owner.key] = _Made(groups, now)

    def forget(self, key: Key) -> None:
        """Note that a deployment is gone; its rules go with it."""
        self._made.pop(key, None)

    async def _make(self, owner: DeploymentRef, groups: list[dict[str, Any]]) -> None:
        kind, wanted = PROMETHEUS_RULE.kind, {"groups": groups}
        stored = await self._client.get(kind, owner.namespace, owner.name)
        if stored is not None and not owner.owns(stored):
            # An SLO without alerts is no reason to stop a deployment.
            _LOG.warning("%s/%s: a %s of this name is not ours", *owner.key[1:], kind)
        elif not groups:
            if stored is not None:
                await self._client.delete(kind, owner.namespace, owner.name)
        elif stored is None or not covers(stored["spec"], wanted):
            await self._client.apply(
                {
                    "apiVersion": PROMETHEUS_RULE.api_version,
                    "kind": kind,
                    "metadata": owner.metadata(owner.name, **self._settings.rule_labels),
                    "spec": wanted,
                }
            )
