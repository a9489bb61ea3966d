"""Whether a job fits this machine."""

from pathlib import Path

import pytest

from tunesmith_api.reasons import Reason
from tunesmith_engine.estimates import Estimate
from tunesmith_engine.machine import shortage_of_room
from tunesmith_engine.stages.contracts import StageName


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
    needed = Estimate(memory_bytes={StageName.TRAIN: memory}, disk_bytes=disk)
    stages = frozenset({StageName.TRAIN})

    shortage = shortage_of_room(needed, stages=stages, folder=tmp_path / "not/there", has_bytes=0)

    assert shortage is not None
    assert shortage.reason is reason
    assert "1073741824.0 GiB" in shortage.message


@pytest.mark.parametrize("stages", [frozenset(), frozenset({StageName.PUBLISH})])
def test_what_is_done_or_written_already_needs_no_room(
    tmp_path: Path, stages: frozenset[StageName]
) -> None:
    needed = Estimate(memory_bytes={StageName.TRAIN: 1 << 60}, disk_bytes=1 << 60)

    assert shortage_of_room(needed, stages=stages, folder=tmp_path, has_bytes=1 << 60) is None
