"""The samples of the rollouts under way, in memory, and what the judge makes of them.

After a restart of the operator they come from the replicas' rings again, as far as those go back.
The last rollout of each deployment is kept as a recording, to be replayed.
"""

import asyncio
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.metadata import version
from typing import Final

from tunesmith_api.modeldeployment.limits import Limits
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.monitoring.prometheus import Prometheus
from tunesmith_engine.monitoring.query_reader import QueryReader
from tunesmith_engine.rollout.judge import Verdict, judge
from tunesmith_engine.rollout.merge import SampleMerger
from tunesmith_engine.rollout.queries import Reading
from tunesmith_engine.rollout.recording import Header, Recording
from tunesmith_engine.rollout.samples import Arm
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.modeldeployment.replica_client import Replicas

# Below it a judgement is quicker than handing it to another thread.
_MANY_SAMPLES: Final = 2000
# A sample takes 1.2 kB: with these a rollout takes 60 MB of the operator's memory, and a judge that
# has not settled by then will hardly do so.
_CAPACITY: Final = 50_000
# A recording ends some time after it began.
_SHORTEST_S: Final = 0.001


@dataclass(slots=True)
class _Analysis:
    """The samples of one rollout; `started` is its beginning by the monotonic clock."""

    revision: str
    started: float
    header: Header
    queries: QueryReader
    merger: SampleMerger = field(default_factory=lambda: SampleMerger(capacity=_CAPACITY))
    readings: list[Reading] = field(default_factory=list)

    def recording(self) -> str:
        """The rollout so far, as `tunesmith judge replay` reads it."""
        ended = max(self.merger.until, _SHORTEST_S)
        header = self.header.model_copy(update={"ended_seconds": ended})
        recording = Recording(header, self.merger.samples, tuple(self.readings))
        return "\n".join(recording.lines()) + "\n"


class Analyses:
    """At most one for each deployment."""

    def __init__(self, replicas: Replicas, prometheus: Prometheus | None = None) -> None:
        self._replicas = replicas
        self._prometheus = prometheus
        self._by_key: dict[Key, _Analysis] = {}
        # Compressed: of many deployments, each has its last one here until the next.
        self._recordings: dict[Key, bytes] = {}

    def forget(self, key: Key) -> None:
        """Note that the deployment is gone."""
        self._by_key.pop(key, None)
        self._recordings.pop(key, None)

    def recording(self, key: Key) -> str | None:
        """The rollout under way, or the last one, as JSON Lines; None if there was none."""
        if key in self._by_key:
            return self._by_key[key].recording()
        packed = self._recordings.get(key)
        return zlib.decompress(packed).decode() if packed is not None else None

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
            await self._end(key)
            return None
        analysis = await self._analysis(key, status, limits=limits, now=now)
        await asyncio.gather(self._read(analysis, arms, hosts), _read_queries(analysis))
        merger = analysis.merger
        look = partial(
            judge,
            merger.samples,
            limits,
            now_seconds=merger.until,
            readings=tuple(analysis.readings),
        )
        is_long = len(merger.samples) > _MANY_SAMPLES
        verdict = await asyncio.to_thread(look) if is_long else look()
        return verdict if verdict.at_seconds is not None or verdict.is_final else None

    async def _end(self, key: Key) -> None:
        """Keep what was recorded of the rollout that is over, if one was under way."""
        analysis = self._by_key.pop(key, None)
        if analysis is not None:
            text = await asyncio.to_thread(analysis.recording)
            self._recordings[key] = await asyncio.to_thread(zlib.compress, text.encode())

    async def _analysis(
        self, key: Key, status: ModelDeploymentStatus, *, limits: Limits, now: datetime
    ) -> _Analysis:
        candidate, stable = status.candidate, status.stable
        if candidate is None or stable is None:
            raise ValueError("an analysis compares two revisions")
        known = self._by_key.get(key)
        if known is None or known.revision != candidate.revision:
            await self._end(key)
            # NB: the clocks are brought together once. From then on the time of day may jump.
            since = candidate.analysis_since or now
            age = max(0.0, (now - since).total_seconds())
            header = Header(
                tunesmith=version("tunesmith"),
                stable=stable.version,
                candidate=candidate.version,
                limits=limits,
            )
            queries = QueryReader.of(
                limits,
                prometheus=self._prometheus,
                arms={Arm.STABLE: stable, Arm.CANDIDATE: candidate},
                deployment=key.name,
                namespace=key.namespace,
            )
            known = _Analysis(candidate.revision, time.monotonic() - age, header, queries)
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
            page.in_rollout(name, arm_of[name], begin=analysis.started)
            for name, answers in told.items()
            for page in answers
        ]
        now = time.monotonic() - analysis.started
        analysis.merger = analysis.merger.merge(pages, replicas=set(addresses), now=now)


async def _read_queries(analysis: _Analysis) -> None:
    """Take readings of the user's own queries, where they are due."""
    if not analysis.queries.is_due(time.monotonic() - analysis.started):
        return
    answers = await asyncio.to_thread(analysis.queries.answers)
    # NB: the time after the answers. What was judged meanwhile was judged without them.
    now = time.monotonic() - analysis.started
    analysis.readings += analysis.queries.readings(answers, now=now)


def _arms(status: ModelDeploymentStatus | None) -> dict[str, Arm]:
    """Which revision is which arm; empty unless a candidate is compared with stable."""
    if status is None or status.candidate is None or status.stable is None:
        return {}
    candidate = status.candidate
    if candidate.state != "Analyzing" or candidate.analysis_since is None:
        return {}
    return {status.stable.revision: Arm.STABLE, candidate.revision: Arm.CANDIDATE}
