"""Processes that work on blocks of rows in turn."""

import os
from functools import partial
from operator import truediv

import pytest

from tunesmith_engine.stages.memory import PROCESS_BYTES
from tunesmith_trainer.prepare import row_processes
from tunesmith_trainer.prepare.row_processes import RowProcesses, processes_for


def test_results_come_in_the_order_of_the_rows() -> None:
    # What a process builds has to be found by its name: here a call of `sum`.
    processes = RowProcesses[int, int](3, partial(partial, sum))

    results = list(processes.results(range(10 * 256 + 1)))

    assert results[:-1] == [sum(range(start, start + 256)) for start in range(0, 2560, 256)]
    assert results[-1] == 2560


def test_no_rows_have_no_results() -> None:
    assert list(RowProcesses[int, int](2, partial(partial, sum)).results([])) == []


def test_a_process_that_ends_ends_the_work(capfd: pytest.CaptureFixture[str]) -> None:
    processes = RowProcesses[int, float](2, partial(partial, truediv, 1))

    with pytest.raises(RuntimeError, match="has ended"):
        list(processes.results(range(600)))

    assert "TypeError" in capfd.readouterr().err


def test_few_rows_and_small_machines_have_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_processes, "memory_bytes", lambda: 100 * PROCESS_BYTES)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))

    assert processes_for(19_999) == 0
    assert processes_for(20_000) == 8
    monkeypatch.setattr(row_processes, "memory_bytes", lambda: 4 * PROCESS_BYTES)
    assert processes_for(10**6) == 3
    monkeypatch.setattr(row_processes, "memory_bytes", lambda: 2 * PROCESS_BYTES)
    assert processes_for(10**6) == 0
