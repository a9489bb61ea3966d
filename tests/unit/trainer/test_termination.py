"""When a search ends because its rows could tell no better trial apart; without a model."""

from pathlib import Path
from typing import Any

import pytest

from trial_sources import RATE, a_source, end
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.search.termination import parts_of

_ASKED: dict[str, Any] = {"terminator": {"minTrials": 5, "parts": 4}, "budget": {"maxTrials": 12}}


def run_out(folder: Path, *, apart: float, num: int = 99) -> int:
    """How many trials there are, whose losses are that far apart in the parts of the rows."""
    source, store = a_source(folder, **_ASKED)
    for _ in range(num):
        task = source.next_task()
        if task is None:
            break
        loss = 1.0 + abs(float(store[task["number"]].parameters[RATE]) - 1e-3)
        parts = [loss - apart, loss + apart, loss - apart, loss + apart]
        source.ended(task["number"], end(loss, parts))
    return len(store.trials)


def test_rows_that_tell_nothing_apart_end_the_search_after_its_fewest_trials(
    tmp_path: Path,
) -> None:
    assert run_out(tmp_path, apart=5.0) == 5


def test_rows_that_tell_everything_apart_leave_it_to_the_budget(tmp_path: Path) -> None:
    assert run_out(tmp_path, apart=0.0) == 12


def test_a_killed_search_ends_where_it_would_have(tmp_path: Path) -> None:
    assert run_out(tmp_path, apart=5.0, num=3) == 3
    assert run_out(tmp_path, apart=5.0) == 5


def test_parts_are_whole_questions_and_alike_in_size() -> None:
    keys = ["a", "b", "a", "c", "d", "e", "a", "f"]

    parts = parts_of(keys, num=3)

    assert sorted(row for part in parts for row in part) == list(range(8))
    assert [0, 2, 6] in [sorted(part) for part in parts]
    assert {len(part) for part in parts} == {2, 3}


def test_more_parts_than_questions_are_refused_with_what_helps() -> None:
    with pytest.raises(BadInputError, match=r"search\.terminator\.parts: 4 parts of 3 first"):
        parts_of(["a", "b", "c", "a"], num=4)
