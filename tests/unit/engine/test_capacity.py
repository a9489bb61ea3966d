"""Whether a job fits this machine."""

from pathlib import Path

import pytest

from tunesmith_api.reasons import Reason
from tunesmith_engine.capacity import shortage_of_given, shortage_of_room, unjudged_memory
from tunesmith_engine.estimates import Estimate
from tunesmith_engine.stages.catalog import EVALUATE, PUBLISH, TRAIN
from tunesmith_engine.stages.contracts import GivenMemory, StageName

NEEDED = Estimate(
    memory_bytes={TRAIN.name: 9 << 30, EVALUATE.name: 3 << 30},
    disk_bytes=0,
    accelerator_bytes=5 << 30,
)


@pytest.mark.parametrize(
    ("memory", "disk", "reason"),
    [
        (1 << 60, 0, Reason.MEMORY_ESTIMATE_EXCEEDED),
        (0, 1 << 60, Reason.DISK_ESTIMATE_EXCEEDED),
    ],
)
def test_what_a_job_lacks_is_told_with_numbers(
    tmp_path: Path, *, memory: int, disk: int, reason: Reason
) -> None:
    needed = Estimate(memory_bytes={TRAIN.name: memory}, disk_bytes=disk)
    stages = frozenset({TRAIN.name})

    shortage = shortage_of_room(needed, stages=stages, folder=tmp_path / "not/there", has_bytes=0)

    assert shortage is not None
    assert shortage.reason is reason
    assert "1073741824.0 GiB" in shortage.message


@pytest.mark.parametrize("stages", [frozenset(), frozenset({PUBLISH.name})])
def test_what_is_done_or_written_already_needs_no_room(
    tmp_path: Path, stages: frozenset[StageName]
) -> None:
    needed = Estimate(memory_bytes={TRAIN.name: 1 << 60}, disk_bytes=1 << 60)

    assert shortage_of_room(needed, stages=stages, folder=tmp_path, has_bytes=1 << 60) is None


def test_a_stage_is_refused_with_what_gives_it_too_little_and_what_to_do() -> None:
    given = {
        each: GivenMemory(size_bytes=2 << 30, given_by="resources.memory: 2Gi")
        for each in (TRAIN.name, EVALUATE.name)
    }

    shortage = shortage_of_given(NEEDED, given)

    assert shortage is not None
    assert shortage.reason is Reason.MEMORY_ESTIMATE_EXCEEDED
    assert shortage.message == (
        "train is estimated to take 9.0 GiB of memory, and resources.memory: 2Gi gives it 2.0 GiB; "
        "lower training.batch.microBatchSize or training.sequenceLength, or raise resources.memory"
    )


@pytest.mark.parametrize(("size", "is_short"), [(5, False), (4, True)])
def test_an_accelerator_is_judged_by_the_least_that_training_keeps_on_it(
    size: int, *, is_short: bool
) -> None:
    field = "resources.accelerator: nvidia.com/mig-1g.5gb"
    memory = GivenMemory(size_bytes=size << 30, given_by=field, is_per_accelerator=True)

    shortage = shortage_of_given(NEEDED, {TRAIN.name: memory})

    assert (shortage is not None) is is_short
    assert shortage is None or f"5.0 GiB on each accelerator, and {field} has" in shortage.message


def test_enough_memory_and_unknown_memory_are_no_shortage() -> None:
    enough = GivenMemory(size_bytes=9 << 30, given_by="resources.memory: 9Gi")

    assert shortage_of_given(NEEDED, {TRAIN.name: enough}) is None
    assert shortage_of_given(NEEDED, {}) is None


def test_what_nobody_can_judge_is_said() -> None:
    enough = GivenMemory(size_bytes=9 << 30, given_by="resources.memory: 9Gi")
    asked = unjudged_memory(NEEDED, {}, on_accelerators=False)
    kept = unjudged_memory(NEEDED, {}, on_accelerators=True)

    assert "9.0 GiB; whether a node has that is not known" in str(asked)
    assert "5.0 GiB on each accelerator; whether" in str(kept)
    assert unjudged_memory(NEEDED, {TRAIN.name: enough}, on_accelerators=False) is None
