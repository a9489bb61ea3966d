"""The samples of the rollouts under way, in memory, and what the judge makes of them.

After a restart of the operator they come from the replicas' rings again, as far as those go back.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tunesmith_api.modeldeployment.limits import Limits
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.rollout.judge import Verdict, judge
from tunesmith_engine.rollout.merge import Page, SampleMerger
from tunesmith_engine.rollout.samples import Arm
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.modeldeployment.replica_client import Replicas

# Below it a judgement is quicker than handing it to another thread.
_MANY_SAMPLES: Final = 2000


@dataclass(slots=True)
class _Analysis:
    """The samples of one rollout; `started` is its beginning by the monotonic clock."""

    revision: str
    started: float
    merger: SampleMerger = field(default_factory=SampleMerger)


class Analyses:
    """At most one for each deployment."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._by_key: dict[Key, _Analysis] = {}

    def forget(self, key: Key) -> None:
        """Note that the deployment is gone."""
        self._by_key.pop(key, None)

    async def verdict(
        self,
        key: Key,
        status: ModelDeploymentStatus | None,
        *,
        limits: Limits,
        hosts: Mapping[str, Mapping[str, str]],
        now: datetime,
    ) -> Verdict | None:
        """The judge's word on the candidate that is on trial; None without one, or too early.

        `hosts` are the addresses of the replicas that answer, by revision and name.
        """
        arms = _arms(status)
        if status is None or status.candidate is None or not arms:
            self.forget(key)
            return None
        analysis = self._analysis(key, status.candidate.revision, since=_since(status), now=now)
        await self._read(analysis, arms, hosts)
        merger = analysis.merger
        arguments = (merger.samples, limits)
        if len(merger.samples) > _MANY_SAMPLES:
            verdict = await asyncio.to_thread(judge, *arguments, now_seconds=merger.until)
        else:
            verdict = judge(*arguments, now_seconds=merger.until)
        return verdict if verdict.at_seconds is not None or verdict.is_final else None

    def _analysis(
        self, key: Key, revision: str, *, since: datetime | None, now: datetime
    ) -> _Analysis:
        known = self._by_key.get(key)
        if known is None or known.revision != revision:
            # NB: the clocks are brought together once. From then on the time of day may jump.
            age = (now - since).total_seconds() if since else 0.0
            known = _Analysis(revision, time.monotonic() - max(0.0, age))
            self._by_key[key] = known
        return known

    async def _read(
        self,
        analysis: _Analysis,
        arms: Mapping[str, Arm],
        hosts: Mapping[str, Mapping[str, str]],
    ) -> None:
        arm_of = {name: arms[revision] for revision in arms for name in hosts.get(revision, {})}
        addresses = {name: at for revision in arms for name, at in hosts.get(revision, {}).items()}
        after = {name: analysis.merger.after(name) for name in addresses}
        told = await self._replicas.samples(addresses, after)
        pages = [
            Page(
                replica=name,
                arm=arm_of[name],
                instance=page.instance,
                next=page.next,
                dropped=page.dropped,
                watermark_seconds=page.watermark_seconds,
                samples=page.samples,
                read_at=page.at - analysis.started,
            )
            for name, answers in told.items()
            for page in answers
        ]
        now = time.monotonic() - analysis.started
        analysis.merger = analysis.merger.merge(pages, replicas=set(addresses), now=now)


def _since(status: ModelDeploymentStatus) -> datetime | None:
    return status.candidate.analysis_since if status.candidate is not None else None


def _arms(status: ModelDeploymentStatus | None) -> dict[str, Arm]:
    """Which revision is which arm; empty unless a candidate is compared with stable."""
    if status is None or status.candidate is None or status.stable is None:
        return {}
    candidate = status.candidate
    if candidate.state != "Analyzing" or candidate.analysis_since is None:
        return {}
    return {status.stable.revision: Arm.STABLE, candidate.revision: Arm.CANDIDATE}
