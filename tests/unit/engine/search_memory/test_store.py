"""Records in a file: what is written is read, torn lines are passed over, newer ones refused."""

import fcntl
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith_engine.local.errors import LocalError
from tunesmith_engine.local.search_memory_file import read_memory, remember
from tunesmith_engine.search_memory.records import (
    MOST_TRIALS,
    PastJob,
    PastTrial,
    Task,
    thinned,
)
from tunesmith_engine.search_memory.stored_lines import (
    VERSION,
    NewerVersionError,
    line_of,
    records_in,
)

SETTINGS = st.dictionaries(
    st.text(max_size=20),
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    max_size=4,
)
VALUES = st.none() | st.floats(allow_nan=False, allow_infinity=False)
RECORDS = st.builds(
    PastJob,
    job=st.text(max_size=20),
    uid=st.sampled_from(["a", "b", "c"]),
    task=st.builds(Task, kind=st.text(max_size=9), tokens=st.none() | st.integers(1, 2**40)),
    settings=SETTINGS,
    trials=st.lists(st.builds(PastTrial, settings=SETTINGS, value=VALUES), min_size=1, max_size=3),
)


def a_record(uid: str = "u", *, value: float | None = 1.0) -> PastJob:
    return PastJob(
        job="helpdesk", uid=uid, task=Task(), trials=[PastTrial(settings={"x": 1}, value=value)]
    )


@given(st.lists(RECORDS, max_size=5))
def test_what_is_written_is_read(records: list[PastJob]) -> None:
    """The latest of each run, in the order of their lines."""
    latest = {record.uid: record for record in records}

    stored = records_in("".join(map(line_of, records)))

    assert {record.uid: record for record in stored.records} == latest
    assert len(stored.records) == len(latest)
    assert stored.broken == []


@given(RECORDS, RECORDS, st.data())
def test_a_line_that_was_cut_off_costs_itself_alone(
    first: PastJob, second: PastJob, data: st.DataObject
) -> None:
    """A crash may end a file at any byte."""
    line = line_of(second)
    kept = data.draw(st.integers(0, len(line) - 2))

    assert records_in(line_of(first) + line[:kept]).records == [first]


def test_a_record_after_a_torn_line_is_read(tmp_path: Path) -> None:
    """The torn line must not swallow it."""
    path = tmp_path / "memory.jsonl"
    remember(path, a_record("a"))
    with path.open("ab") as file:
        file.write(line_of(a_record("b"))[:30].encode())

    remember(path, a_record("c"))

    assert [record.uid for record in read_memory(path)] == ["a", "c"]


def test_the_same_run_is_remembered_once(tmp_path: Path) -> None:
    """A job that is run again with all done changes nothing."""
    path = tmp_path / "memory.jsonl"
    for value in (2.0, 1.0):
        remember(path, a_record(value=value))

    assert [record.trials[0].value for record in read_memory(path)] == [1.0]


def test_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    """An older release must not write over what it does not understand."""
    path = tmp_path / "memory.jsonl"
    path.write_text(json.dumps({"version": VERSION + 1}) + "\n")

    with pytest.raises(LocalError, match="line 1 has version 2, and this release reads up to 1"):
        remember(path, a_record())

    assert path.read_text() == json.dumps({"version": VERSION + 1}) + "\n"
    with pytest.raises(NewerVersionError):
        records_in(path.read_text())


def test_a_lock_that_another_process_holds_is_told(tmp_path: Path) -> None:
    """With its process, and what to do."""
    path = tmp_path / "memory.jsonl"
    with (tmp_path / "memory.jsonl.lock").open("w") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LocalError, match="is written by process 4711; wait"):
            remember(path, a_record(), patience_s=0)


def test_a_memory_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """The first job finds none."""
    assert read_memory(tmp_path / "memory.jsonl") == []


def test_of_many_trials_the_best_are_kept() -> None:
    """And an even part of the others, or no source could say what is bad."""
    trials = [PastTrial(settings={}, value=float(place)) for place in range(1000)]

    kept = {trial.value for trial in thinned(trials, direction="minimize")}

    assert len(kept) == MOST_TRIALS
    assert {float(place) for place in range(MOST_TRIALS // 2)} <= kept
    assert any(value and value > 900 for value in kept)
