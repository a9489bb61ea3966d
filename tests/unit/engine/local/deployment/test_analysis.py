"""The recording of a rollout: it survives its writer, and replays to the same verdict."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.modeldeployment.limits import Limits, Metric, MetricLimits
from tunesmith_engine.local.deployment.analysis import Analysis
from tunesmith_engine.rollout.judge import Decision, Verdict, judge
from tunesmith_engine.rollout.merge import Page
from tunesmith_engine.rollout.recording import Header, read_recording
from tunesmith_engine.rollout.samples import Arm

LIMITS = Limits(
    window_seconds=1,
    warmup_seconds=1,
    minimum_samples=10,
    deadline_seconds=60,
    metrics={Metric.TTFT_P50: MetricLimits(minimum_effect=1.0)},
)
HEADER = Header(tunesmith="0", stable="v1", candidate="v2", limits=LIMITS)
REPLICAS = {"a-0": Arm.STABLE, "b-0": Arm.CANDIDATE}


class Ring:
    """What a replica tells, at a rate of 20 requests a second."""

    def __init__(self, name: str, *, ttft: float) -> None:
        source = random.Random(name)
        self.name = name
        self.samples = [
            (seq, seq / 20, ttft * source.lognormvariate(0, 0.2)) for seq in range(1, 400)
        ]

    def page(self, *, after: int, now: float, jitter: float = 0.0) -> Page:
        told: list[dict[str, Any]] = [
            {"seq": seq, "ageSeconds": now - time + jitter, "ttftSeconds": ttft}
            for seq, time, ttft in self.samples
            if seq > after and time <= now
        ]
        last = told[-1]["seq"] if told else after
        return Page(
            replica=self.name,
            arm=REPLICAS[self.name],
            instance="i",
            next=last,
            dropped=0,
            watermark_seconds=0.0,
            samples=tuple(told),
            read_at=now,
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recordings" / "rollout.jsonl"


@pytest.mark.parametrize(("ttft", "decision"), [(0.01, "promote"), (0.1, "rollback")])
def test_a_recording_replays_to_the_verdict(path: Path, ttft: float, decision: str) -> None:
    analysis = Analysis(path, HEADER)
    for now in range(1, 15):
        _feed(analysis, float(now), ttft=ttft)
    analysis.close()

    assert analysis.verdict is not None
    assert analysis.verdict.decision == decision
    assert _replayed(path) == analysis.verdict


def test_whoever_follows_a_killed_writer_records_nothing_twice(path: Path) -> None:
    first = Analysis(path, HEADER)
    for now in (1.0, 2.0, 3.0):
        _feed(first, now, ttft=0.01)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"arm": "stab')

    second = Analysis(path, HEADER)
    for now in (3.4, 4.0, 5.0):
        # Ages are told anew, a little otherwise.
        _feed(second, now, ttft=0.01, jitter=0.01)
    second.close()

    times = [(sample.arm, round(20 * sample.time_seconds)) for sample in _read(path)]
    assert len(times) == len(set(times))
    # 20 a second of each of both, less what may lie within the jitter.
    assert 2 * 98 <= len(times) <= 2 * 100


def test_limits_that_change_do_not_change_a_trial_that_has_begun(path: Path) -> None:
    _feed(Analysis(path, HEADER), 1.0, ttft=0.01)
    other = HEADER.model_copy(update={"limits": Limits(alpha=0.2)})

    Analysis(path, other)

    with path.open(encoding="utf-8") as lines:
        assert read_recording(lines).header.limits == LIMITS


def test_a_file_that_is_no_recording_is_begun_anew(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("nonsense\n")

    analysis = Analysis(path, HEADER)
    _feed(analysis, 1.0, ttft=0.01)

    assert len(list(_read(path))) == 40


def test_a_silent_replica_leaves_the_verdict_open(path: Path) -> None:
    analysis = Analysis(path, HEADER)
    ring = Ring("a-0", ttft=0.01)
    for now in range(1, 10):
        page = ring.page(after=analysis.after("a-0"), now=float(now))
        analysis.add([page], replicas=REPLICAS, now=float(now))

    assert analysis.verdict is not None
    assert analysis.verdict.decision is Decision.INCONCLUSIVE


def _feed(analysis: Analysis, now: float, *, ttft: float, jitter: float = 0.0) -> None:
    rings = [Ring("a-0", ttft=0.01), Ring("b-0", ttft=ttft)]
    pages = [ring.page(after=analysis.after(ring.name), now=now, jitter=jitter) for ring in rings]
    analysis.add(pages, replicas=REPLICAS, now=now)


def _read(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as lines:
        yield from read_recording(lines).samples


def _replayed(path: Path) -> Verdict:
    with path.open(encoding="utf-8") as lines:
        recording = read_recording(lines)
    return judge(recording.samples, recording.header.limits, now_seconds=recording.end_seconds)
