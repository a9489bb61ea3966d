"""Whether a job fits this machine."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.finetunejob.resources import Resources
from tunesmith_api.reasons import Reason
from tunesmith_engine.capacity import (
    Accelerators,
    Shortage,
    accelerators_here,
    room_of_worker,
    shortage_of_accelerators,
    shortage_of_given,
    shortage_of_memory,
    shortage_of_room,
    unjudged_memory,
)
from tunesmith_engine.estimates import Estimate
from tunesmith_engine.planning.memory_fit import TrainingFit, Way
from tunesmith_engine.stages.catalog import EVALUATE, PUBLISH, TRAIN
from tunesmith_engine.stages.contracts import GivenMemory, StageName
from tunesmith_engine.stages.memory import RAY_BYTES
from tunesmith_engine.stages.training_memory import WorkerMemory

GIB = 1 << 30
WORKER = WorkerMemory(GIB, GIB, 0, 0, 3 * GIB, 0, 0)
FIT = TrainingFit(
    micro_batch_size=4,
    accumulated=4,
    gradient_checkpointing="none",
    worker=WORKER,
    ways=(Way("training.batch.microBatchSize: 1", 4 * GIB), Way("both", GIB)),
    num_workers=1,
    on_accelerators=False,
)
ON_DEVICES = replace(FIT, on_accelerators=True)
NEEDED = Estimate(
    memory_bytes={TRAIN.name: RAY_BYTES + 5 * GIB, EVALUATE.name: 3 * GIB}, disk_bytes=0, fit=FIT
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
    needed = Estimate(memory_bytes={TRAIN.name: memory}, disk_bytes=disk, fit=FIT)
    stages = frozenset({TRAIN.name})

    shortage = shortage_of_room(needed, stages=stages, folder=tmp_path / "not/there", has_bytes=0)

    assert shortage is not None
    assert shortage.reason is reason
    assert "1073741824.0 GiB" in shortage.message


@pytest.mark.parametrize("stages", [frozenset(), frozenset({PUBLISH.name})])
def test_what_is_done_or_written_already_needs_no_room(
    tmp_path: Path, stages: frozenset[StageName]
) -> None:
    needed = Estimate(memory_bytes={TRAIN.name: 1 << 60}, disk_bytes=1 << 60, fit=FIT)

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
        "train is estimated to take 5.5 GiB of memory, and resources.memory: 2Gi gives it 2.0 GiB; "
        "what fits: both (1.5 GiB); or raise resources.memory"
    )


def test_where_nothing_would_help_it_says_how_near_one_comes() -> None:
    given = {TRAIN.name: GivenMemory(size_bytes=GIB, given_by="resources.memory: 1Gi")}

    shortage = shortage_of_given(NEEDED, given)

    assert shortage is not None
    assert "even both takes 1.5 GiB; take a smaller model, or" in shortage.message


@pytest.mark.parametrize(("size", "is_short"), [(5, False), (4, True)])
def test_an_accelerator_is_judged_by_what_a_worker_holds(size: int, *, is_short: bool) -> None:
    field = "resources.accelerator: nvidia.com/mig-1g.5gb"
    memory = GivenMemory(size_bytes=size * GIB, given_by=field, is_per_accelerator=True)
    needed = replace(NEEDED, fit=ON_DEVICES)

    shortage = shortage_of_given(needed, {TRAIN.name: memory})

    assert (shortage is not None) is is_short
    assert shortage is None or f"5.0 GiB of each accelerator, and {field} has" in shortage.message
    assert (
        shortage is None or "what fits: training.batch.microBatchSize: 1 (4.0" in shortage.message
    )


def test_a_machine_is_judged_by_its_accelerators_too() -> None:
    needed = replace(NEEDED, memory_bytes={TRAIN.name: 0}, fit=ON_DEVICES)
    train = frozenset({TRAIN.name})

    def shortage(size: int) -> Shortage | None:
        here = Accelerators(count=1, least_bytes=size)
        return shortage_of_memory(needed, stages=train, accelerators=here)

    small = shortage(4 * GIB)
    assert small is not None
    assert "the accelerator of this machine has 4.0 GiB" in small.message
    assert shortage(5 * GIB) is None


@pytest.mark.parametrize(("wanted", "has", "is_short"), [(2, 1, True), (1, 0, True), (2, 2, False)])
def test_more_accelerators_than_the_machine_has_are_refused(
    wanted: int, has: int, *, is_short: bool
) -> None:
    resources = Resources(workers=wanted, gpus_per_worker=1)

    shortage = shortage_of_accelerators(resources, Accelerators(has, GIB))

    assert (shortage is not None) is is_short
    if shortage is not None:
        assert shortage.reason is Reason.RESOURCES_UNAVAILABLE
        assert f"ask for {wanted} of nvidia.com/gpu, and this machine has {has}" in shortage.message


@pytest.mark.parametrize(
    ("resources", "visible", "count"),
    [
        ({"gpus_per_worker": 1}, None, 3),
        ({"gpus_per_worker": 1}, "0,2", 2),
        ({"gpus_per_worker": 1}, "", 0),
        ({}, None, None),
        ({"gpus_per_worker": 1, "accelerator": "google.com/tpu"}, None, None),
    ],
)
def test_accelerators_are_counted_by_their_driver(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    resources: dict[str, Any],
    visible: str | None,
    count: int | None,
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 81559\necho 40960\necho 81559\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    here = accelerators_here(Resources(**resources))

    assert (here.count if here else None) == count
    assert not here or here.count != len("abc") or here.least_bytes == 40960 << 20


def test_without_a_driver_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert accelerators_here(Resources(gpus_per_worker=1)) == Accelerators(0, 0)


@pytest.mark.parametrize(
    ("resources", "given", "room"),
    [
        (Resources(), GivenMemory(size_bytes=RAY_BYTES + GIB, given_by="memory"), GIB),
        (
            Resources(workers=2),
            GivenMemory(size_bytes=RAY_BYTES + GIB, given_by="memory"),
            GIB // 2,
        ),
        (
            Resources(workers=2, gpus_per_worker=1),
            GivenMemory(size_bytes=GIB, given_by="label", is_per_accelerator=True),
            GIB,
        ),
        (Resources(gpus_per_worker=1), None, None),
    ],
)
def test_each_worker_has_its_part_of_the_memory_or_an_accelerator(
    resources: Resources, given: GivenMemory | None, room: int | None
) -> None:
    assert room_of_worker(resources, given=given) == room


def test_enough_memory_and_unknown_memory_are_no_shortage() -> None:
    enough = GivenMemory(size_bytes=9 << 30, given_by="resources.memory: 9Gi")

    assert shortage_of_given(NEEDED, {TRAIN.name: enough}) is None
    assert shortage_of_given(NEEDED, {}) is None


def test_what_nobody_can_judge_is_said() -> None:
    enough = GivenMemory(size_bytes=9 << 30, given_by="resources.memory: 9Gi")
    asked = unjudged_memory(NEEDED, {}, on_accelerators=False)
    kept = unjudged_memory(NEEDED, {}, on_accelerators=True)

    assert "5.5 GiB; whether a node has that is not known" in str(asked)
    assert "5.0 GiB of each accelerator; whether" in str(kept)
    assert unjudged_memory(NEEDED, {TRAIN.name: enough}, on_accelerators=False) is None
