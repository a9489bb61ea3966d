"""What a job no longer refers to is removed, and nothing else."""

import shutil
from pathlib import Path

import pytest

from fake_runs import Place, a_small_job
from tunesmith_engine.local.errors import JobBusy
from tunesmith_engine.local.locks import lock_job
from tunesmith_engine.local.pruning import prune_job, stale_stages
from tunesmith_engine.stages import catalog
from tunesmith_engine.stages.catalog import PREPARE

EVALUATE = catalog.EVALUATE.name
OTHER_TRAINING = {"training": {"maxSteps": 3}}


def folders(place: Place) -> set[str]:
    stages = place.home.job("helpdesk") / "stages"
    return {path.relative_to(stages).as_posix() for path in stages.glob("*/*")}


@pytest.fixture
def changed(place: Place) -> Place:
    """A job that was run, changed from train on, and run again."""
    place.run(until=EVALUATE)
    place.run(a_small_job(**OTHER_TRAINING), until=EVALUATE)
    return place


def test_the_folders_of_old_keys_go_and_those_of_the_job_as_it_is_stay(changed: Place) -> None:
    before = folders(changed)

    pruned = prune_job(changed.home, "helpdesk", is_dry_run=False)

    current = changed.plan(a_small_job(**OTHER_TRAINING), until=EVALUATE)
    assert folders(changed) == {f"{each.name}/{each.short_key}" for each in current.stages}
    assert {each.stage for each in pruned} == {"train", "evaluate"}
    assert {f"{each.stage}/{each.key}" for each in pruned} == before - folders(changed)
    assert all(each.num_bytes > 0 for each in pruned)
    assert prune_job(changed.home, "helpdesk", is_dry_run=False) == []


def test_after_pruning_a_run_finds_everything_done(changed: Place) -> None:
    prune_job(changed.home, "helpdesk", is_dry_run=False)
    started = len(changed.started())

    again = changed.run(a_small_job(**OTHER_TRAINING), until=EVALUATE)

    assert all(each.cached for each in again.stages)
    assert len(changed.started()) == started


def test_a_rehearsal_removes_nothing(changed: Place) -> None:
    before = folders(changed)

    told = prune_job(changed.home, "helpdesk", is_dry_run=True)

    assert len(told) == 2
    assert folders(changed) == before


def test_stages_after_the_one_that_was_run_up_to_are_left_alone(place: Place) -> None:
    place.run(until=EVALUATE)
    place.run(until=PREPARE.name)

    assert prune_job(place.home, "helpdesk", is_dry_run=False) == []
    assert {each.split("/")[0] for each in folders(place)} == {"prepare", "train", "evaluate"}


def test_a_job_that_runs_is_not_touched(changed: Place) -> None:
    before = folders(changed)

    with lock_job(changed.home.lock("helpdesk"), job="helpdesk"), pytest.raises(JobBusy):
        prune_job(changed.home, "helpdesk", is_dry_run=False)

    assert folders(changed) == before


def test_a_job_without_a_status_that_can_be_read_loses_nothing(changed: Place) -> None:
    (changed.home.job("helpdesk") / "status.json").write_text("{")

    assert prune_job(changed.home, "helpdesk", is_dry_run=False) == []


def test_a_removal_that_is_cut_short_leaves_no_result_behind(
    changed: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(path: Path) -> None:
        raise OSError(f"cannot remove {path}")

    monkeypatch.setattr(shutil, "rmtree", cut_short)
    with pytest.raises(OSError, match="cannot remove"):
        prune_job(changed.home, "helpdesk", is_dry_run=False)
    monkeypatch.undo()

    first, *_ = stale_stages(changed.home, "helpdesk")
    assert not (first.path / "result.json").exists()


def test_what_links_lead_to_is_neither_counted_nor_removed(changed: Place) -> None:
    old = stale_stages(changed.home, "helpdesk")[0]
    kept = changed.root / "kept"
    kept.mkdir()
    (kept / "weights").write_bytes(bytes(1 << 20))
    (old.path / "link").symlink_to(kept)

    pruned = prune_job(changed.home, "helpdesk", is_dry_run=False)

    assert (kept / "weights").exists()
    assert sum(each.num_bytes for each in pruned) < 1 << 20
    shutil.rmtree(kept)
